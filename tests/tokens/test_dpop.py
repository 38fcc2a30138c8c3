"""A DPoP proof as RFC 9449 §4.2 wants it, verified by another implementation."""

from __future__ import annotations

import base64
import hashlib
import json
import pickle
from datetime import UTC, datetime

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from spiffe_client.bundle import JwtAuthority
from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens._dpop import DpopKey
from tests.support.canary import assert_no_secret

AT = datetime(2026, 1, 1, 12, 0, 0, 999_999, tzinfo=UTC)
URL = "https://orders.prod.example/v1/orders"


def opened(proof: str) -> tuple[dict, dict]:
    """Header and claims, the signature verified with the key in the header."""
    header = jwt.get_unverified_header(proof)
    key = jwt.PyJWK(header["jwk"]).key
    claims = jwt.decode(proof, key, algorithms=["ES256"], options={"verify_iat": False})
    return header, claims


class TestProof:
    def test_for_a_token_request(self) -> None:
        """Method, target and time; no `ath` and no `nonce` where there is nothing to name."""
        header, claims = opened(DpopKey().proof("POST", "https://tokens.prod.example/token", at=AT))

        assert "dpop+jwt" == header["typ"]
        assert "ES256" == header["alg"]
        assert {"jti", "htm", "htu", "iat"} == set(claims)
        assert ("POST", "https://tokens.prod.example/token") == (claims["htm"], claims["htu"])
        assert int(AT.timestamp()) == claims["iat"]

    def test_for_a_resource_request(self) -> None:
        """`ath` is the token's SHA-256, `nonce` what the server asked for (RFC 9449 §7, §9)."""
        _, claims = opened(DpopKey().proof("GET", URL, at=AT, token="a.b.c", nonce="n-1"))

        digest = hashlib.sha256(b"a.b.c").digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == claims["ath"]
        assert "n-1" == claims["nonce"]

    def test_only_the_public_key_goes_along(self) -> None:
        """RFC 9449 §4.2: the `jwk` MUST NOT contain a private key."""
        header, _ = opened(DpopKey().proof("GET", URL, at=AT))

        assert {"kty", "crv", "x", "y"} == set(header["jwk"])

    def test_each_is_new(self) -> None:
        """A proof is for one try; `jti` has 128 random bits (RFC 9449 §4.2: at least 96)."""
        key = DpopKey()
        ids = {opened(key.proof("GET", URL, at=AT))[1]["jti"] for _ in range(50)}

        assert 50 == len(ids)
        assert {16} == {len(base64.urlsafe_b64decode(jti + "==")) for jti in ids}

    @pytest.mark.parametrize(
        ("url", "target"),
        [
            (f"{URL}?page=2#top", URL),
            (f"{URL}#top?x", URL),
            (f"{URL}?next=https://a/b", URL),
            ("https://user:secret@orders.prod.example/v1", "https://orders.prod.example/v1"),
            ("https://orders.prod.example", "https://orders.prod.example/"),
            ("https://orders.prod.example?q=a@b/c", "https://orders.prod.example/"),
            ("https://orders.prod.example:8443/a@b", "https://orders.prod.example:8443/a@b"),
        ],
    )
    def test_the_target(self, url: str, target: str) -> None:
        """Without query and fragment (RFC 9449 §4.2); a password in the URL stays here."""
        assert target == opened(DpopKey().proof("GET", url, at=AT))[1]["htu"]


class TestKey:
    def test_thumbprint(self) -> None:
        """RFC 7638 §3: the required members in lexical order, as a bound token's `cnf.jkt` has it."""
        key = DpopKey()
        jwk = opened(key.proof("GET", URL, at=AT))[0]["jwk"]
        canonical = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))

        digest = hashlib.sha256(canonical.encode()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == key.jkt

    def test_thumbprint_of_rfc_7638_form(self) -> None:
        """Of a given key it is always the same."""
        private = ec.generate_private_key(ec.SECP384R1())

        assert DpopKey(private).jkt == DpopKey(private).jkt
        assert "ES384" == DpopKey(private).alg
        assert "P-384" == JwtAuthority(None, private.public_key()).to_jwk()["crv"]

    def test_shows_nothing(self) -> None:
        """Neither the key nor a proof prints or pickles."""
        key = DpopKey()
        proof = key.proof("GET", URL, at=AT, token="t")

        assert f"DpopKey(jkt={key.jkt!r})" == repr(key)
        assert "Unprinted(…)" == repr(proof)
        with pytest.raises(TypeError):
            pickle.dumps(key)

    def test_a_failure_shows_no_token(self) -> None:
        """What a crash reporter prints of a bug in here has no token in it."""
        token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
        with pytest.raises(AttributeError) as broken:
            DpopKey().proof("GET", URL, at=None, token=token)  # type: ignore[arg-type]

        assert_no_secret(broken.value, token)

    def test_a_key_that_cannot_sign(self) -> None:
        """The curve of Bitcoin is none of RFC 7518's; refused at construction."""
        from spiffe_client.errors import BundleError

        with pytest.raises((BundleError, TokenRequestError)):
            DpopKey(ec.generate_private_key(ec.SECP256K1()))
