"""Signing, and verifying with a JWK Set: one type, few algorithms, and the key has to fit."""

from __future__ import annotations

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from spiffe_client._jose import Signer, parse_jwks, sign_compact, verify_compact
from spiffe_client.errors import SecurityEventError, SignatureError, TokenRequestError
from tests.support.canary import assert_no_secret
from tests.support.tokens import b64, compact, ec_key, public_jwk, rsa_key, sign_token

CLAIMS = {"iss": "https://tokens.prod.example", "jti": "one"}
SET = "secevent+jwt"
ALGORITHMS = frozenset({"ES256", "RS256", "PS256"})


def jwks(*keys: dict[str, object]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def verified(token: object, *jwk: dict[str, object], **changes):
    options = {"algorithms": ALGORITHMS, "typ": {SET}, "error": SecurityEventError, **changes}
    return verify_compact(token, parse_jwks(jwks(*jwk), error=SecurityEventError), **options)


class TestSigning:
    @pytest.mark.parametrize(
        ("key", "alg"),
        [
            (ec.generate_private_key(ec.SECP256R1()), "ES256"),
            (ec.generate_private_key(ec.SECP384R1()), "ES384"),
            (ec.generate_private_key(ec.SECP521R1()), "ES512"),
            (rsa_key(), "RS256"),
            (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_the_key_says_how(self, key, alg: str) -> None:
        """Another implementation verifies it (RFC 7518 §3.1, RFC 8037 §3.1)."""
        token = sign_compact({"typ": "JWT", "kid": "k"}, CLAIMS, key)

        assert CLAIMS == jwt.decode(token, key.public_key(), algorithms=[alg])
        assert {"alg": alg, "typ": "JWT", "kid": "k"} == jwt.get_unverified_header(token)

    def test_an_rsa_key_signs_with_pss_if_asked(self) -> None:
        """`alg` of the header chooses among what fits the key."""
        token = sign_compact({"alg": "PS256"}, CLAIMS, rsa_key())

        assert CLAIMS == jwt.decode(token, rsa_key().public_key(), algorithms=["PS256"])

    @pytest.mark.parametrize(
        ("key", "alg"),
        [
            (ec.generate_private_key(ec.SECP256R1()), "ES384"),
            (ec.generate_private_key(ec.SECP256R1()), "none"),
            (ec.generate_private_key(ec.SECP256R1()), 256),
            (ec.generate_private_key(ec.SECP256K1()), "ES256K"),
            (rsa_key(), "HS256"),
            (b"a secret of at least thirty-two bytes", "HS256"),
        ],
    )
    def test_nothing_weaker_or_unfit(self, key, alg: object) -> None:
        """No MAC, no `none`, no curve that the algorithm does not name; the key is not shown."""
        with pytest.raises(TokenRequestError, match="does not sign with") as refused:
            Signer(key, {"alg": alg})

        assert "secret of" not in str(refused.value)

    def test_a_short_rsa_key_does_not_sign(self) -> None:
        """RFC 7518 §3.3: 2048 bits at least."""
        with pytest.raises(TokenRequestError, match="RSA"):
            sign_compact({}, CLAIMS, rsa.generate_private_key(65537, 1024))

    def test_es256_is_of_fixed_width(self) -> None:
        """R and S are 32 octets each, whatever their values (RFC 7518 §3.4)."""
        signer = Signer(ec_key(), {})

        assert {86} == {len(signer.sign({"n": n}).rpartition(".")[2]) for n in range(300)}


class TestVerifying:
    def test_a_good_one(self) -> None:
        """Type, algorithm, key and signature fit."""
        token = sign_token(ec_key(), "ES256", CLAIMS, typ=SET)

        assert CLAIMS == verified(token, public_jwk(rsa_key(), "two"), public_jwk(ec_key())).claims

    @pytest.mark.parametrize("typ", ["SecEvent+JWT", "application/secevent+jwt", "Application/secevent+jwt"])
    def test_a_media_type_in_any_spelling(self, typ: str) -> None:
        """RFC 7515 §4.1.9: `application/` may be left out, case means nothing."""
        token = sign_token(ec_key(), "ES256", CLAIMS, typ=typ)

        assert CLAIMS == verified(token, public_jwk(ec_key())).claims

    @pytest.mark.parametrize("typ", [..., "JWT", "at+jwt", "secevent", 7, None, ["secevent+jwt"]])
    def test_a_token_of_another_kind_is_refused(self, typ: object) -> None:
        """An access token signed by the same key is no security event (RFC 8725 §3.11)."""
        with pytest.raises(SecurityEventError, match="`typ`"):
            verified(sign_token(ec_key(), "ES256", CLAIMS, typ=typ), public_jwk(ec_key()))

    @pytest.mark.parametrize("alg", ["none", "HS256", "ES512", "RS512", "", 7, None, ...])
    def test_only_listed_algorithms(self, alg: object) -> None:
        """RFC 8725 §3.1; a public key is no shared secret."""
        token = compact({"typ": SET, **({} if alg is ... else {"alg": alg})}, CLAIMS)
        with pytest.raises(SecurityEventError, match="`alg`"):
            verified(token, public_jwk(ec_key()))

    def test_attack_a_mac_with_the_public_key(self) -> None:
        """Even where somebody allows HS256, no key fits it: all are asymmetric."""
        secret = ec_key().public_key().public_numbers().x.to_bytes(32, "big")
        token = sign_token(secret, "HS256", CLAIMS, typ=SET)
        with pytest.raises(SecurityEventError, match="no key"):
            verified(token, public_jwk(ec_key()), algorithms={"HS256"})

    def test_an_algorithm_of_another_key_type(self) -> None:
        """`alg` RS256 over an EC key finds no key, and no key is tried."""
        token = sign_token(ec_key(), "RS256", CLAIMS, how="ES256", typ=SET)
        with pytest.raises(SecurityEventError, match="no key"):
            verified(token, public_jwk(ec_key()))

    def test_a_key_for_another_algorithm(self) -> None:
        """A JWK's own `alg` is the only one it verifies (RFC 7517 §4.4)."""
        token = sign_token(rsa_key(), "RS256", CLAIMS, typ=SET)
        with pytest.raises(SecurityEventError, match="no key"):
            verified(token, public_jwk(rsa_key(), alg="PS256"))

    @pytest.mark.parametrize(
        ("kid", "reason"), [("other", "no key"), (7, "`kid` is not text"), (None, None), (..., None)]
    )
    def test_the_key_that_is_named(self, kid: object, reason: str | None) -> None:
        """A token without `kid` is tried with all keys."""
        token = sign_token(ec_key(), "ES256", CLAIMS, typ=SET, kid=kid)
        if reason is None:
            assert CLAIMS == verified(token, public_jwk(ec_key())).claims
            return
        with pytest.raises(SecurityEventError, match=reason):
            verified(token, public_jwk(ec_key()))

    def test_a_changed_claim(self) -> None:
        """The signature is over the very text; and the error shows nothing of it."""
        head, _, signature = sign_token(ec_key(), "ES256", CLAIMS, typ=SET).split(".")
        forged = f"{head}.{b64(json.dumps({**CLAIMS, 'iss': 'https://evil.example'}))}.{signature}"
        with pytest.raises(SecurityEventError, match="none of the keys") as refused:
            verified(forged, public_jwk(ec_key()))

        assert_no_secret(refused.value, forged, signature)

    def test_a_critical_extension(self) -> None:
        """What must be understood and is not makes the token invalid (RFC 7515 §4.1.11)."""
        with pytest.raises(SecurityEventError, match="`crit`"):
            verified(sign_token(ec_key(), "ES256", CLAIMS, typ=SET, crit=["b64"]), public_jwk(ec_key()))

    def test_work_is_bounded(self) -> None:
        """Sixteen keys are tried on a token that names none, and no key with a huge exponent."""
        token = sign_token(ec_key(), "ES256", CLAIMS, typ=SET, kid=...)
        others = [public_jwk(ec.generate_private_key(ec.SECP256R1()), None) for _ in range(16)]
        with pytest.raises(SecurityEventError, match="none of the keys"):
            verified(token, *others, public_jwk(ec_key()))

        slow = {**public_jwk(rsa_key()), "e": b64(b"\xff" * 31 + b"\x01")}
        with pytest.raises(SecurityEventError, match="no key"):
            verified(sign_token(rsa_key(), "RS256", CLAIMS, typ=SET), slow)

    def test_the_caller_names_the_error(self) -> None:
        """A malformed token is the caller's error, too."""
        with pytest.raises(SignatureError, match="three"):
            verified("a.b", public_jwk(ec_key()), error=SignatureError)


class TestJwks:
    def test_what_verifies_nothing_is_left_out(self) -> None:
        """Encryption keys, unknown types, broken ones, what is no key."""
        text = jwks(
            public_jwk(ec_key(), "good"),
            public_jwk(ec_key(), "sig", use="sig"),
            public_jwk(ec_key(), "enc", use="enc"),
            {"kty": "oct", "k": "c2VjcmV0"},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
            7,
        )

        assert ["good", "sig"] == [key.key_id for key in parse_jwks(text, error=SecurityEventError)]

    @pytest.mark.parametrize(
        "text",
        [b"", b"<html>", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}' + b" " * (1 << 20)]
        + [json.dumps({"keys": [1] * 1001}).encode()],
    )
    def test_what_is_none(self, text: bytes) -> None:
        """RFC 7517 §5.1; and what is too large to be read."""
        with pytest.raises(SecurityEventError, match="JWK Set"):
            parse_jwks(text, error=SecurityEventError)
