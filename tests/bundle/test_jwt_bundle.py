"""JWK Sets of the Workload API: which keys count, and when a set is refused whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.bundle import JwtAuthority, JwtBundle, WitBundle
from spiffe_client.errors import BundleError
from spiffe_client.ids import TrustDomain
from tests.support.tokens import ec_key, public_jwk, rsa_key

A = TrustDomain("a.test")
KEY = public_jwk(ec_key(), "ec")
OTHER = public_jwk(rsa_key(), "rsa")


def jwks(*keys: object, **members: object) -> bytes:
    return json.dumps({"keys": keys, **members}).encode()


def key_ids(bundle: JwtBundle | WitBundle) -> list[str | None]:
    return [a.key_id for a in bundle.authorities]


class TestParseJwks:
    def test_keys_in_their_order(self) -> None:
        """JWT-SVID §6.2."""
        bundle = JwtBundle.parse_jwks(A, jwks(KEY, OTHER))
        assert (A, ["ec", "rsa"]) == (bundle.trust_domain, key_ids(bundle))

    def test_no_keys_trust_nothing(self) -> None:
        """Workload API §6, Trust Domain and Bundle §4.1.3: valid, and everything is revoked."""
        assert () == JwtBundle.parse_jwks(A, jwks()).authorities

    @pytest.mark.parametrize(
        "members",
        [
            {"use": "x509-svid"},
            {"use": "wit-svid"},
            {"use": "sig"},
            {"use": "JWT-SVID"},
            {"use": ["jwt-svid"]},
        ],
    )
    def test_other_uses_are_ignored(self, members: dict[str, object]) -> None:
        """JWT-SVID §6.2: a key for something else verifies no JWT-SVID, and is no mistake either."""
        assert ["rsa"] == key_ids(JwtBundle.parse_jwks(A, jwks({**KEY, **members}, OTHER)))
        assert () == JwtBundle.parse_jwks(A, jwks({**KEY, **members})).authorities

    def test_use_may_be_named_or_left_out(self) -> None:
        """JWT-SVID §6.1; SPIRE leaves it out on the Workload API."""
        assert ["ec", "rsa"] == key_ids(JwtBundle.parse_jwks(A, jwks({**KEY, "use": "jwt-svid"}, OTHER)))

    @pytest.mark.parametrize("kty", ["OKP", "oct", "future", None, 5, ["EC"]])
    def test_unknown_key_types_are_ignored(self, kty: object) -> None:
        """Trust Domain and Bundle §4.2.1."""
        assert ["rsa"] == key_ids(JwtBundle.parse_jwks(A, jwks({**KEY, "kty": kty}, OTHER)))
        assert () == JwtBundle.parse_jwks(A, jwks({**KEY, "kty": kty})).authorities

    @pytest.mark.parametrize(
        "broken", [{**KEY, "x": "?"}, {**KEY, "crv": "P-999"}, {**KEY, "alg": "none"}, None, 5, []]
    )
    def test_a_broken_entry_loses_only_itself(self, broken: object) -> None:
        """Workload API §6: the other keys of the trust domain go on verifying."""
        assert ["rsa"] == key_ids(JwtBundle.parse_jwks(A, jwks(broken, OTHER)))

    def test_an_entry_with_a_repeated_member_loses_only_itself(self) -> None:
        """RFC 7517 §4: member names are unique; which `kid` it has nobody can say."""
        twice = b'{"keys": [{"kty": "EC", "kty": "EC"}, ' + json.dumps(OTHER).encode() + b"]}"
        assert ["rsa"] == key_ids(JwtBundle.parse_jwks(A, twice))

    def test_a_set_of_broken_keys_does_not_revoke_everything(self) -> None:
        """Damage is not a message: whoever holds the former set keeps it."""
        with pytest.raises(BundleError, match="none of the 2 keys"):
            JwtBundle.parse_jwks(A, jwks({**KEY, "x": "?"}, {**KEY, "y": "?"}))

    @pytest.mark.parametrize(
        "text",
        [b"", b"[]", b"{}", b'{"keys": null}', b'{"keys": {}}', b'{"keys": []', b'{"keys": [], "keys": []}'],
    )
    def test_no_jwk_set(self, text: bytes) -> None:
        """Trust Domain and Bundle §4.1.3: `keys` must be there and be an array."""
        with pytest.raises(BundleError):
            JwtBundle.parse_jwks(A, text)

    def test_limits(self) -> None:
        """Neither a large document nor a long list is worked through."""
        assert () == JwtBundle.parse_jwks(A, jwks().ljust(1 << 20)).authorities
        assert () == JwtBundle.parse_jwks(A, jwks(*[5] * 1000)).authorities
        with pytest.raises(BundleError, match="at most 1048576"):
            JwtBundle.parse_jwks(A, jwks() + b" " * (1 << 20))
        with pytest.raises(BundleError, match="at most 1000"):
            JwtBundle.parse_jwks(A, jwks(*[5] * 1001))

    @given(
        st.binary(max_size=100)
        | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda v: jwks(v))
    )
    def test_any_bytes_give_a_bundle_or_the_error(self, data: bytes) -> None:
        """Never anything else."""
        try:
            JwtBundle.parse_jwks(A, data)
        except BundleError:
            pass


class TestToJwks:
    def test_what_is_written_is_read_again(self) -> None:
        """JWT-SVID §6.1: with `kid` and `use`."""
        bundle = JwtBundle(
            A,
            (JwtAuthority("ec", ec_key().public_key()), JwtAuthority(None, rsa_key().public_key(), "RS512")),
        )
        assert bundle == JwtBundle.parse_jwks(A, bundle.to_jwks())
        assert {"jwt-svid"} == {key["use"] for key in json.loads(bundle.to_jwks())["keys"]}


class TestWitBundle:
    def test_keys_have_an_id(self) -> None:
        """WIT-SVID §6.1: one without `kid` is broken."""
        assert ["ec"] == key_ids(WitBundle.parse_jwks(A, jwks(KEY, public_jwk(rsa_key(), None))))
        with pytest.raises(BundleError, match="kid"):
            WitBundle.parse_jwks(A, jwks(public_jwk(rsa_key(), None)))

    def test_keys_for_other_svids_are_ignored(self) -> None:
        """WIT-SVID §6.2: and the other way round."""
        assert ["ec"] == key_ids(
            WitBundle.parse_jwks(A, jwks({**KEY, "use": "wit-svid"}, {**OTHER, "use": "jwt-svid"}))
        )

    def test_what_is_written_is_read_again(self) -> None:
        """WIT-SVID §6.1."""
        bundle = WitBundle.parse_jwks(A, jwks(KEY, OTHER))
        assert bundle == WitBundle.parse_jwks(A, bundle.to_jwks())
        assert () == JwtBundle.parse_jwks(A, bundle.to_jwks()).authorities
