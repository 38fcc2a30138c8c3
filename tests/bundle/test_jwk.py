"""A JWT authority is a public key of a known kind, and fits the algorithms of that kind only."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.bundle import SIGNATURE_ALGORITHMS, JwtAuthority
from spiffe_client.errors import BundleError
from tests.support.case_ids import kind_of
from tests.support.tokens import b64, ec_key, public_jwk, rsa_key

RSA_ALGORITHMS = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
EC_JWK = public_jwk(ec_key())
RSA_JWK = public_jwk(rsa_key())


class TestParse:
    @pytest.mark.parametrize("key", [ec_key(), ec_key("P-384"), ec_key("P-521"), rsa_key()], ids=kind_of)
    def test_keys_of_the_known_kinds(self, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
        """RFC 7518 §6.2, §6.3: the key that went in comes out, and goes back into the same JWK."""
        authority = JwtAuthority.parse(public_jwk(key))
        assert key.public_key() == authority.public_key
        assert "one" == authority.key_id
        assert public_jwk(key) == authority.to_jwk()

    def test_key_id_and_algorithm_are_optional(self) -> None:
        """JWT-SVID §2.2: a key without `kid` is tried for tokens as well."""
        authority = JwtAuthority.parse(public_jwk(ec_key(), kid=None))
        assert (None, None) == (authority.key_id, authority.alg)
        assert "kid" not in authority.to_jwk()

    def test_own_algorithm_is_kept(self) -> None:
        """RFC 7517 §4.4."""
        authority = JwtAuthority.parse(public_jwk(rsa_key(), alg="PS256"))
        assert "PS256" == authority.alg == authority.to_jwk()["alg"]

    @pytest.mark.parametrize(
        "members",
        [
            {"kty": "OKP"},
            {"kty": "oct"},  # a symmetric key: whoever verifies with it could sign with it
            {"kty": "ec"},
            {"kty": None},
            {"kty": ["EC"]},
            {"crv": "secp256k1"},
            {"crv": "P-384"},  # a point of another curve
            {"crv": None},
            {"crv": ["P-256"]},
            {"x": ...},
            {"x": 5},
            {"x": b64(bytes(32))},  # not on the curve
            {"x": EC_JWK["x"] + "AA"},
            {"x": EC_JWK["x"] + "="},
            {"y": b64(bytes(31))},
            {"kid": 5},
            {"alg": 5},
            {"alg": "ES384"},  # needs P-384
            {"alg": "RS256"},
            {"alg": "EdDSA"},
            {"alg": "none"},
            {"alg": "ECDH-ES"},
            {"key_ops": ["sign"]},
            {"key_ops": []},
            {"key_ops": "verify"},
        ],
        ids=lambda members: ",".join(members),
    )
    def test_broken_ec_keys(self, members: dict[str, object]) -> None:
        """JWT-SVID §2.1, RFC 7518 §6.2: type, curve, coordinates and algorithm belong together."""
        jwk = {name: value for name, value in {**EC_JWK, **members}.items() if value is not ...}
        with pytest.raises(BundleError):
            JwtAuthority.parse(jwk)

    @pytest.mark.parametrize(
        "members",
        [
            {"n": ...},
            {"e": ...},
            {"n": ""},
            {"e": ""},
            {"e": b64(b"\2")},  # even
            {"e": b64(b"\1")},  # a signature would be the message
            {"e": b64(bytes([1] * 300))},  # longer than the modulus
            {"n": b64(b"\xff" * 2049)},  # work for nothing
            {
                "n": b64(rsa_key(1024).public_key().public_numbers().n.to_bytes(128, "big"))
            },  # too short to trust
            {"alg": "ES256"},
            {"alg": "RSA-OAEP"},
        ],
        ids=lambda members: ",".join(members),
    )
    def test_broken_rsa_keys(self, members: dict[str, object]) -> None:
        """JWT-SVID §2.1, RFC 7518 §3.3: at least 2048 bits."""
        jwk = {name: value for name, value in {**RSA_JWK, **members}.items() if value is not ...}
        with pytest.raises(BundleError):
            JwtAuthority.parse(jwk)

    @pytest.mark.parametrize(
        ("jwk", "why"),
        [
            ({**EC_JWK, "x": b64(bytes(32))}, "the point is not on P-256"),
            ({**RSA_JWK, "e": b64(b"\2")}, "make no RSA key"),
            ({**RSA_JWK, "n": b64(b"\xff" * 2049)}, "at most 16384 and 256 bits"),
            ({**RSA_JWK, "e": b64(b"\1" * 33)}, "at most 16384 and 256 bits"),
        ],
        ids=["point", "even", "larger", "longer"],
    )
    def test_the_error_says_what_is_wrong(self, jwk: dict[str, object], why: str) -> None:
        """Whoever publishes the key has to find it."""
        with pytest.raises(BundleError, match=why):
            JwtAuthority.parse(jwk)

    def test_the_largest_rsa_key(self) -> None:
        """16384 bits and an exponent of 256."""
        jwk = {**RSA_JWK, "n": b64(b"\xff" * 2048), "e": b64(b"\1" * 32)}
        assert 16384 == JwtAuthority.parse(jwk).public_key.key_size

    def test_a_key_for_verifying_may_say_so(self) -> None:
        """RFC 7517 §4.3."""
        assert "one" == JwtAuthority.parse({**EC_JWK, "key_ops": ["verify"]}).key_id

    @given(
        st.dictionaries(
            st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "alg", "key_ops"]),
            st.sampled_from(["EC", "RSA", "P-256", EC_JWK["x"], EC_JWK["y"], "AQAB", "", 1, None, [], {}])
            | st.text(),
        )
    )
    def test_any_members_give_a_key_or_the_error(self, jwk: dict[str, object]) -> None:
        """Never a KeyError, TypeError or ValueError."""
        try:
            JwtAuthority.parse(jwk)
        except BundleError:
            pass


class TestConstructor:
    @pytest.mark.parametrize(
        "key",
        [ec.generate_private_key(ec.SECP256K1()), rsa_key(1024), ed25519.Ed25519PrivateKey.generate()],
        ids=lambda key: type(key).__name__,
    )
    def test_other_kinds_of_key(self, key: ec.EllipticCurvePrivateKey) -> None:
        """JWT-SVID §2.1: no EdDSA, no other curves, whatever way the key came."""
        with pytest.raises(BundleError):
            JwtAuthority("one", key.public_key())


class TestFits:
    @pytest.mark.parametrize(
        ("key", "algorithms"),
        [
            (ec_key(), {"ES256"}),
            (ec_key("P-384"), {"ES384"}),
            (ec_key("P-521"), {"ES512"}),
            (rsa_key(), RSA_ALGORITHMS),
        ],
    )
    def test_type_and_curve_decide(self, key: ec.EllipticCurvePrivateKey, algorithms: set[str]) -> None:
        """JWT-SVID §2.1: no other algorithm, allowed or not."""
        authority = JwtAuthority("one", key.public_key())
        others = SIGNATURE_ALGORITHMS | {"none", "HS256", "EdDSA", "ES256K", ""}
        assert algorithms == {alg for alg in others if authority.fits(alg)}

    def test_own_algorithm_excludes_the_others(self) -> None:
        """RFC 7517 §4.4: a key for PS256 is not for RS256."""
        authority = JwtAuthority("one", rsa_key().public_key(), "PS256")
        assert ["PS256"] == [alg for alg in sorted(SIGNATURE_ALGORITHMS) if authority.fits(alg)]

    def test_the_nine_algorithms(self) -> None:
        """JWT-SVID §2.1: these and no others."""
        assert RSA_ALGORITHMS | {"ES256", "ES384", "ES512"} == SIGNATURE_ALGORITHMS


class TestValue:
    def test_equal_by_what_it_is(self) -> None:
        """The same key parsed twice is the same authority, usable in sets."""
        one, same = JwtAuthority.parse(EC_JWK), JwtAuthority.parse(EC_JWK)
        assert {one} == {same}
        assert one != JwtAuthority.parse({**EC_JWK, "kid": "two"})
        assert one != JwtAuthority.parse(public_jwk(ec_key(number=1)))
