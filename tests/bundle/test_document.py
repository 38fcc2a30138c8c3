"""The SPIFFE bundle document, as trust domains exchange it."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.bundle import DEFAULT_REFRESH_HINT, JwtAuthority, SpiffeBundle
from spiffe_client.errors import BundleError
from spiffe_client.ids import TrustDomain
from tests.support.case_ids import kind_of
from tests.support.odd_certificates import Signed, sign_ca
from tests.support.tokens import ec_key, public_jwk, rsa_key

A, B = TrustDomain("a.test"), TrustDomain("b.test")
ONE, TWO = sign_ca(cn="one", key=ec_key()), sign_ca(cn="two", key=ec_key(number=1))
JWT = {**public_jwk(ec_key(), "ec"), "use": "jwt-svid"}


def x509_entry(*roots: Signed, **members: object) -> dict[str, object]:
    x5c = [base64.b64encode(r.der).decode() for r in roots]
    return {**public_jwk(ec_key(), None), "use": "x509-svid", "x5c": x5c, **members}


def document(*keys: object, **members: object) -> bytes:
    return json.dumps({"keys": keys, **members}).encode()


def parse(*keys: object, **members: object) -> SpiffeBundle:
    return SpiffeBundle.parse(A, document(*keys, **members))


class TestKeys:
    def test_each_kind_goes_to_its_own_bundle(self) -> None:
        """Trust Domain and Bundle §4.2.2."""
        bundle = parse(x509_entry(ONE), JWT, x509_entry(TWO))
        assert (ONE.certificate, TWO.certificate) == bundle.x509_authorities == bundle.x509_bundle.authorities
        assert (
            (JwtAuthority("ec", ec_key().public_key()),)
            == bundle.jwt_authorities
            == bundle.jwt_bundle.authorities
        )
        assert A == bundle.trust_domain == bundle.x509_bundle.trust_domain == bundle.jwt_bundle.trust_domain

    def test_no_keys_revoke_everything(self) -> None:
        """Trust Domain and Bundle §4.1.3: valid, and nothing is trusted any more."""
        bundle = parse()
        assert ((), ()) == (bundle.x509_authorities, bundle.jwt_authorities)

    @pytest.mark.parametrize(
        "text", [b"{}", b'{"keys": null}', b'{"keys": {}}', b"[]", b"", b"null", b"\xff"]
    )
    def test_keys_are_required(self, text: bytes) -> None:
        """Trust Domain and Bundle §4.1.3."""
        with pytest.raises(BundleError):
            SpiffeBundle.parse(A, text)

    @pytest.mark.parametrize("use", ["sig", "X509-SVID", "future-svid", None, 5, ..., ["x509-svid"]])
    def test_unknown_uses_are_ignored(self, use: object) -> None:
        """Trust Domain and Bundle §4.2.2: `use` must be there, and is case-sensitive."""
        entries = [
            {name: value for name, value in {**entry, "use": use}.items() if value is not ...}
            for entry in (x509_entry(ONE), JWT)
        ]
        bundle = parse(*entries, x509_entry(TWO))
        assert ((TWO.certificate,), ()) == (bundle.x509_authorities, bundle.jwt_authorities)

    @pytest.mark.parametrize("kty", ["future", "oct", None, 5, ["EC"]])
    def test_unknown_key_types_are_ignored(self, kty: object) -> None:
        """Trust Domain and Bundle §4.2.1: the whole entry, certificate or not."""
        bundle = parse(x509_entry(ONE, kty=kty), {**JWT, "kty": kty})
        assert ((), ()) == (bundle.x509_authorities, bundle.jwt_authorities)

    def test_jwt_keys_need_their_use_here(self) -> None:
        """JWT-SVID §6.2: unlike the Workload API's JWK Set, which holds nothing else."""
        assert () == parse(public_jwk(ec_key())).jwt_authorities

    @pytest.mark.parametrize("noise", [None, 5, "text", []])
    def test_entries_that_are_no_objects_are_ignored(self, noise: object) -> None:
        """They have neither type nor use."""
        assert (ONE.certificate,) == parse(noise, x509_entry(ONE)).x509_authorities


class TestX509Entries:
    def test_only_the_first_certificate_counts(self) -> None:
        """X509-SVID §6.2: all but the first value must be ignored, broken or not."""
        assert (ONE.certificate,) == parse(x509_entry(ONE, TWO)).x509_authorities
        entry = x509_entry(ONE)
        entry["x5c"].append("not base64")
        assert (ONE.certificate,) == parse(entry).x509_authorities

    @pytest.mark.parametrize("x5c", [[], None, ...])
    def test_entries_without_certificate_are_ignored(self, x5c: object) -> None:
        """X509-SVID §6.2: that is no damage."""
        entry = {name: value for name, value in x509_entry(x5c=x5c).items() if value is not ...}
        assert () == parse(entry).x509_authorities

    @pytest.mark.parametrize(
        "x5c",
        [
            ["?"],
            ["ÿ"],
            [5],
            [None],
            "text",
            {"a": 1},
            ["MAA="],  # DER, but no certificate
            [base64.urlsafe_b64encode(b"\xff" * 9).decode()],  # the alphabet of JWK's other members
            [base64.b64encode(ONE.der + b"\0").decode()],
            [base64.b64encode(ONE.der + TWO.der).decode()],
            [base64.b64encode(ONE.der).decode() + "\n"],
        ],
        ids=kind_of,
    )
    def test_a_broken_one_loses_only_itself(self, x5c: object) -> None:
        """And if no other is left, the document is damaged: it does not revoke everything."""
        assert (TWO.certificate,) == parse(x509_entry(x5c=x5c), x509_entry(TWO)).x509_authorities
        with pytest.raises(BundleError, match="none of the 1 keys"):
            parse(x509_entry(x5c=x5c), JWT)

    def test_ed25519_authorities(self) -> None:
        """RFC 8037: an X.509 CA may have a key that no JWT-SVID can have."""
        root = sign_ca(key=ed25519.Ed25519PrivateKey.generate())
        bundle = SpiffeBundle(A, (root.certificate,), ())
        assert bundle == SpiffeBundle.parse(A, bundle.to_json())
        assert "OKP" == json.loads(bundle.to_json())["keys"][0]["kty"]


class TestNumbers:
    def test_sequence_and_hint(self) -> None:
        """Trust Domain and Bundle §4.1.1, §4.1.2: up to 64 bits; seconds."""
        bundle = parse(spiffe_sequence=2**64 - 1, spiffe_refresh_hint=60)
        assert (2**64 - 1, 60, 60) == (bundle.sequence, bundle.refresh_hint, bundle.refresh_interval)

    @pytest.mark.parametrize("members", [{}, {"spiffe_sequence": None, "spiffe_refresh_hint": None}])
    def test_both_are_optional(self, members: dict[str, object]) -> None:
        """Federation §5: five minutes where there is no hint."""
        bundle = parse(**members)
        assert (None, None, 300) == (bundle.sequence, bundle.refresh_hint, bundle.refresh_interval)
        assert 300 == DEFAULT_REFRESH_HINT

    def test_a_hint_of_nothing_is_no_hint(self) -> None:
        """Nobody polls without a pause."""
        assert 300 == parse(spiffe_refresh_hint=0).refresh_interval

    @pytest.mark.parametrize("name", ["spiffe_sequence", "spiffe_refresh_hint"])
    @pytest.mark.parametrize("value", [-1, 2**64, 1.5, 1.0, True, "1", [], {}])
    def test_anything_but_an_integer_is_refused(self, name: str, value: object) -> None:
        """Trust Domain and Bundle §4.1: a document that cannot be ordered cannot be used."""
        with pytest.raises(BundleError, match=name):
            parse(**{name: value})


class TestToJson:
    def test_what_is_written_is_read_again(self) -> None:
        """Trust Domain and Bundle §4: all members, all kinds of key."""
        roots = ONE, sign_ca(key=rsa_key()), sign_ca(key=ec_key("P-521"))
        authorities = (
            JwtAuthority("a", ec_key("P-384").public_key()),
            JwtAuthority("b", rsa_key().public_key(), "RS256"),
        )
        bundle = SpiffeBundle(A, tuple(r.certificate for r in roots), authorities, 7, 60)
        assert bundle == SpiffeBundle.parse(A, bundle.to_json())

    def test_members_of_the_entries(self) -> None:
        """X509-SVID §6.1: `use`, one `x5c`, no `kid`; JWT-SVID §6.1: `use` and `kid`."""
        written = json.loads(
            SpiffeBundle(A, (ONE.certificate,), (JwtAuthority("ec", ec_key().public_key()),)).to_json()
        )
        assert {"keys": [x509_entry(ONE), JWT]} == written

    def test_a_key_without_json_form(self) -> None:
        """It is said, not left out."""
        for key in (ed448.Ed448PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())):
            with pytest.raises(BundleError, match="no JSON form"):
                SpiffeBundle(A, (sign_ca(key=key).certificate,), ()).to_json()


class TestCheckFollows:
    @pytest.mark.parametrize(("held", "new"), [(1, 1), (1, 2), (None, 1), (1, None), (None, None)])
    def test_the_same_or_a_later_one(self, held: int | None, new: int | None) -> None:
        """Trust Domain and Bundle §4.1.1; without a number there is nothing to compare."""
        SpiffeBundle(A, (), (), new).check_follows(SpiffeBundle(A, (), (), held))

    def test_a_replayed_older_document(self) -> None:
        """Federation §5: going back would bring revoked keys back."""
        with pytest.raises(BundleError, match="from sequence 2 to 1"):
            SpiffeBundle(A, (), (), 1).check_follows(SpiffeBundle(A, (), (), 2))

    def test_one_of_another_trust_domain(self) -> None:
        """It would make one domain's keys speak for another."""
        with pytest.raises(BundleError, match=r"b\.test"):
            SpiffeBundle(B, (), ()).check_follows(SpiffeBundle(A, (), ()))


class TestAnyBytes:
    @given(
        st.binary(max_size=80)
        | st.dictionaries(
            st.sampled_from(["keys", "spiffe_sequence", "spiffe_refresh_hint"]),
            st.none()
            | st.integers()
            | st.lists(st.none() | st.sampled_from([x509_entry(ONE), x509_entry(x5c=[""]), JWT, {}])),
        ).map(lambda d: json.dumps(d).encode())
    )
    def test_give_a_bundle_or_the_error(self, data: bytes) -> None:
        """Never anything else."""
        try:
            SpiffeBundle.parse(A, data)
        except BundleError:
            pass
