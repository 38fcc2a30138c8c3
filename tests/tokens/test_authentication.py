"""Each way of client authentication says exactly what its standard asks for, made anew for each request."""

from __future__ import annotations

import base64
import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from spiffe_client._jose import parse_compact, signed_by
from spiffe_client.errors import SecretSourceError, TokenError, TokenRequestError
from spiffe_client.tokens import (
    ClientAuthentication,
    ClientFacts,
    ClientSecret,
    Credentials,
    JwtSpiffe,
    NoAuthentication,
    PrivateKeyJwt,
    SecretCall,
    SecretFile,
    SpiffePeer,
    WebPki,
    X509SvidTls,
)
from spiffe_client.tokens._urns import JWT_BEARER_ASSERTION, JWT_SPIFFE_ASSERTION
from tests.support.canary import assert_no_secret
from tests.support.fake_identity import FakeIdentity
from tests.support.tokens import b64, ec_key, rsa_key

pytestmark = pytest.mark.anyio

ISSUER = "https://tokens.prod.example"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CANARY = "canary-7f3a9c1e5b2d8f4a6c0e1d3b5a7f9c2e"


def facts(client_id: str = "web", identity: FakeIdentity | None = None) -> ClientFacts:
    return ClientFacts(ISSUER, client_id, f"{ISSUER}/token", identity)


async def ask(authentication: ClientAuthentication, to: ClientFacts | None = None) -> Credentials:
    return await authentication.credentials(to or facts(), now=NOW, refresh=False)


def pem(key) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class TestJwtSpiffe:
    async def test_what_is_sent(self) -> None:
        """The issuer as only audience, and always a client_id (draft-ietf-oauth-spiffe-client-auth)."""
        identity = FakeIdentity()
        credentials = await ask(JwtSpiffe(), facts("web", identity))

        [(audience, token)] = identity.issued
        assert ISSUER == audience
        assert (
            ("client_id", "web"),
            ("client_assertion_type", JWT_SPIFFE_ASSERTION),
            ("client_assertion", token),
        ) == credentials.form
        assert () == credentials.headers
        assert token not in repr(credentials)

    async def test_the_spiffe_id_is_the_client(self) -> None:
        """Where it has no other name."""
        credentials = await ask(JwtSpiffe(), facts("", FakeIdentity()))

        assert "spiffe://shop.test/web" == dict(credentials.form)["client_id"]

    async def test_it_is_asked_for_anew(self) -> None:
        """What is fresh the identity knows."""
        identity = FakeIdentity()
        first, second = [await ask(JwtSpiffe(), facts("web", identity)) for _ in range(2)]

        assert first.form != second.form

    async def test_without_an_identity(self) -> None:
        """Nothing to send."""
        with pytest.raises(TokenRequestError, match="identity="):
            await ask(JwtSpiffe())


class TestX509SvidTls:
    async def test_client_id_in_the_body(self) -> None:
        """Required: the certificate alone names nobody (RFC 8705 §2)."""
        credentials = await ask(X509SvidTls(WebPki()), facts("", FakeIdentity()))

        assert (("client_id", "spiffe://shop.test/web"),) == credentials.form
        assert (("client_id", "web"),) == (
            await ask(X509SvidTls(WebPki()), facts("web", FakeIdentity()))
        ).form

    async def test_the_trust_mode_is_said(self) -> None:
        """Web PKI or SPIFFE: there is no default."""
        with pytest.raises(TypeError):
            X509SvidTls()  # type: ignore[call-arg]
        assert "spiffe_x509" == X509SvidTls(SpiffePeer("spiffe://shop.test/broker")).method
        assert X509SvidTls(WebPki()).presents_certificate

    async def test_without_an_identity(self) -> None:
        """Nothing to show."""
        with pytest.raises(TokenRequestError, match="identity="):
            await ask(X509SvidTls(WebPki()))


class TestClientSecret:
    async def test_basic(self) -> None:
        """Both parts form-encoded first (RFC 6749 §2.3.1), and not in the body."""
        source = SecretCall(lambda: "s:e/c ré%t")
        credentials = await ask(ClientSecret(source, "my client:1"))

        [(name, value)] = credentials.headers
        assert "authorization" == name
        encoded = base64.b64encode(b"my+client%3A1:s%3Ae%2Fc+r%C3%A9%25t").decode()
        assert f"Basic {encoded}" == "".join(value)
        assert encoded not in repr(value) + repr(credentials)
        assert () == credentials.form

    async def test_post(self) -> None:
        """In the body, for token brokers that want it there."""
        authentication = ClientSecret(SecretCall(lambda: CANARY), method="client_secret_post")
        credentials = await ask(authentication)

        assert (("client_id", "web"), ("client_secret", CANARY)) == credentials.form
        assert CANARY not in repr(credentials) + repr(authentication)

    async def test_a_rotated_secret_counts_at_once(self, tmp_path: Path) -> None:
        """It is read for each request."""
        authentication = ClientSecret(SecretFile(tmp_path / "secret"), method="client_secret_post")
        for value in ("one", "two"):
            (tmp_path / "secret").write_text(value)
            assert value == dict((await ask(authentication)).form)["client_secret"]

    async def test_what_is_missing(self) -> None:
        """A client without name, a secret that is not there, a method nobody knows."""
        with pytest.raises(TokenRequestError, match="client_id"):
            await ask(ClientSecret(SecretCall(lambda: "x")), facts(""))
        with pytest.raises(SecretSourceError):
            await ask(ClientSecret(SecretFile("/nowhere/at/all")))
        with pytest.raises(TokenRequestError, match="client_secret_jwt"):
            ClientSecret(SecretCall(lambda: "x"), method="client_secret_jwt")  # type: ignore[arg-type]


class TestNone:
    async def test_says_who_it_is_and_no_more(self) -> None:
        """RFC 6749 §3.2.1; a client without name says nothing."""
        assert (("client_id", "web"),) == (await ask(NoAuthentication())).form
        assert Credentials() == await ask(NoAuthentication(), facts(""))


KEYS = {
    "ES256": ec_key("P-256"),
    "ES384": ec_key("P-384"),
    "ES512": ec_key("P-521"),
    "RS256": rsa_key(),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


class TestPrivateKeyJwt:
    @pytest.mark.parametrize("alg", KEYS)
    async def test_assertion(self, alg: str) -> None:
        """RFC 7523 §3: short-lived, for the issuer alone, signed as the key is."""
        key = KEYS[alg]
        credentials = await ask(PrivateKeyJwt(key, key_id="k1"))

        form = dict(credentials.form)
        jws = parse_compact(form.pop("client_assertion"), error=TokenError)
        assert {"client_id": "web", "client_assertion_type": JWT_BEARER_ASSERTION} == form
        assert {"alg": alg, "typ": "JWT", "kid": "k1"} == dict(jws.header)
        issued_at = int(NOW.timestamp())
        jti = jws.claims["jti"]
        assert isinstance(jti, str)
        assert len(jti) >= 22
        assert {
            "iss": "web",
            "sub": "web",
            "aud": ISSUER,
            "iat": issued_at,
            "exp": issued_at + 60,
            "jti": jti,
        } == dict(jws.claims)
        assert signed_by(key.public_key(), alg, jws)

    async def test_each_request_has_its_own(self) -> None:
        """One that is seen twice is taken for a replay."""
        authentication = PrivateKeyJwt(KEYS["ES256"])
        first, second = [await ask(authentication) for _ in range(2)]

        assert first.form != second.form

    async def test_another_algorithm_that_fits(self) -> None:
        """PS256 for RSA, where the token broker wants it; never one that does not fit."""
        credentials = await ask(PrivateKeyJwt(rsa_key(), algorithm="PS256", client_id="other"))

        jws = parse_compact(dict(credentials.form)["client_assertion"], error=TokenError)
        assert ("PS256", "other", None) == (jws.header["alg"], jws.claims["iss"], jws.header.get("kid"))
        for algorithm in ("ES384", "HS256", "none"):
            with pytest.raises(TokenRequestError):
                await ask(PrivateKeyJwt(KEYS["ES256"], algorithm=algorithm))

    @pytest.mark.parametrize("alg", KEYS)
    async def test_pem(self, alg: str, tmp_path: Path) -> None:
        """From a secret source, with a line end."""
        (tmp_path / "key").write_text(pem(KEYS[alg]))
        credentials = await ask(PrivateKeyJwt(SecretFile(tmp_path / "key")))

        jws = parse_compact(dict(credentials.form)["client_assertion"], error=TokenError)
        assert signed_by(KEYS[alg].public_key(), alg, jws)
        assert "kid" not in jws.header

    @pytest.mark.parametrize(("own", "kid"), [(None, "of the jwk"), ("mine", "mine")])
    async def test_jwk(self, own: str | None, kid: str) -> None:
        """It brings its own key ID (RFC 7517 §4.5), unless another is said."""
        numbers = KEYS["ES256"].private_numbers()
        jwk = {
            "kty": "EC",
            "crv": "P-256",
            "x": b64(numbers.public_numbers.x.to_bytes(32, "big")),
            "y": b64(numbers.public_numbers.y.to_bytes(32, "big")),
            "d": b64(numbers.private_value.to_bytes(32, "big")),
            "kid": "of the jwk",
        }
        credentials = await ask(PrivateKeyJwt(SecretCall(lambda: json.dumps(jwk)), key_id=own))

        jws = parse_compact(dict(credentials.form)["client_assertion"], error=TokenError)
        assert kid == jws.header["kid"]
        assert signed_by(KEYS["ES256"].public_key(), "ES256", jws)

    async def test_a_rotated_key_counts_at_once(self, tmp_path: Path) -> None:
        """It is read for each request."""
        path = tmp_path / "key"
        authentication = PrivateKeyJwt(SecretFile(path))
        for number in (1, 2):
            key = ec_key("P-256", number)
            path.write_text(pem(key))
            assertion = dict((await ask(authentication)).form)["client_assertion"]
            assert signed_by(key.public_key(), "ES256", parse_compact(assertion, error=TokenError))

    @pytest.mark.parametrize(
        "text",
        [
            CANARY,
            '{"kty": "EC", "d": "' + CANARY + '"}',
            '{"kty": "RSA", "kty": "EC"}',
            "{" + CANARY,
            "-----BEGIN PRIVATE KEY-----\n" + CANARY + "\n-----END PRIVATE KEY-----",
            pem(x25519.X25519PrivateKey.generate()),
        ],
        ids=["text", "jwk", "twice", "broken", "pem", "another-kind"],
    )
    async def test_what_is_no_key(self, text: str, caplog: pytest.LogCaptureFixture) -> None:
        """A typed error that shows none of it, nor do its frames."""
        caplog.set_level(logging.DEBUG)
        with pytest.raises(SecretSourceError, match="no EC, RSA or Ed25519 private key") as e:
            await ask(PrivateKeyJwt(SecretCall(lambda: text, name="vault")))

        assert_no_secret(e.value, text)
        assert CANARY not in caplog.text

    @pytest.mark.parametrize(
        "key",
        [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256K1())],
        ids=["rsa", "k"],
    )
    async def test_keys_that_are_too_weak(self, key) -> None:
        """RSA below 2048 bits, curves nobody registered for this."""
        with pytest.raises(TokenRequestError):
            await ask(PrivateKeyJwt(key))

    @pytest.mark.parametrize("lifetime", [0, -1, 61, 3600])
    async def test_lifetime(self, lifetime: int) -> None:
        """At most a minute: a stolen one is worth little."""
        with pytest.raises(TokenRequestError, match="60 seconds"):
            PrivateKeyJwt(KEYS["ES256"], lifetime=lifetime)

    async def test_without_a_name(self) -> None:
        """There is nobody to speak for."""
        with pytest.raises(TokenRequestError, match="client_id"):
            await ask(PrivateKeyJwt(KEYS["ES256"]), facts(""))

    async def test_it_does_not_show_its_key(self) -> None:
        """In repr."""
        assert "PrivateKey" not in repr(PrivateKeyJwt(KEYS["ES256"])).replace("PrivateKeyJwt", "")
