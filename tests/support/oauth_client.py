"""An OAuth client by hand: httpx for the wire, pyjwt for proofs and assertions."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

from spiffe_client.dev import DevTokenBroker
from spiffe_client.svid import X509Svid

__all__ = ["OAuthClient", "ProofKey", "b64", "claims_of", "client_tls", "header_of"]

SPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TYPE = "urn:ietf:params:oauth:token-type:"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims_of(token: str) -> dict[str, object]:
    """What a token says; not verified."""
    return jwt.decode(token, options={"verify_signature": False})


def header_of(token: str) -> dict[str, object]:
    return jwt.get_unverified_header(token)


class ProofKey:
    """A key that proofs and assertions are made with."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.jwk: dict[str, str] = json.loads(ECAlgorithm.to_jwk(self.key.public_key()))

    @property
    def jkt(self) -> str:
        members = {name: self.jwk[name] for name in ("crv", "kty", "x", "y")}
        return b64(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())

    def sign(self, claims: Mapping[str, object], **header: object) -> str:
        return jwt.encode(dict(claims), self.key, "ES256", headers=header)

    def proof(
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        nonce: str | None = None,
        header: Mapping[str, object] | None = None,
        **claims: object,
    ) -> str:
        said = {"jti": secrets.token_hex(16), "htm": method, "htu": url, "iat": int(time.time())}
        if token is not None:
            said["ath"] = b64(hashlib.sha256(token.encode()).digest())
        if nonce is not None:
            said["nonce"] = nonce
        said = {k: v for k, v in {**said, **claims}.items() if v is not None}
        return self.sign(said, **{"typ": "dpop+jwt", "jwk": self.jwk, **(header or {})})

    def assertion(self, client_id: str, issuer: str, **claims: object) -> str:
        now = int(time.time())
        said = {
            "iss": client_id,
            "sub": client_id,
            "aud": issuer,
            "iat": now,
            "exp": now + 60,
            "jti": secrets.token_hex(16),
            **claims,
        }
        return self.sign({k: v for k, v in said.items() if v is not None})


@contextmanager
def client_tls(roots: str, svid: X509Svid | None = None) -> Iterator[ssl.SSLContext]:
    """Plain TLS of the standard library, with an X509-SVID as client certificate."""
    context = ssl.create_default_context(cadata=roots)
    if svid is None:
        yield context
        return
    with TemporaryDirectory() as directory:
        path = Path(directory, "svid.pem")
        key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(key + b"".join(c.public_bytes(Encoding.PEM) for c in svid.chain))
        context.load_cert_chain(path)
        yield context


class OAuthClient:
    """Talks to one token broker as one workload, authenticated by its JWT-SVID unless told otherwise."""

    def __init__(self, broker: DevTokenBroker, http: httpx.AsyncClient, client_id: str) -> None:
        self.broker = broker
        self.http = http
        self.client_id = client_id

    def svid(self, audience: str | list[str] | None = None, **options: float) -> str:
        return self.broker.domain.ca.issue_jwt_svid(self.client_id, audience or self.broker.issuer, **options)

    def authentication(self) -> dict[str, str]:
        return {
            "client_id": self.client_id,
            "client_assertion_type": SPIFFE,
            "client_assertion": self.svid(),
        }

    async def post(
        self,
        endpoint: str,
        form: Mapping[str, object],
        *,
        authenticated: bool = True,
        headers: Mapping[str, str] | None = None,
        **options: object,
    ) -> httpx.Response:
        data = {**(self.authentication() if authenticated else {}), **form}
        url = f"{self.broker.issuer}/{endpoint}"
        return await self.http.post(url, data=data, headers=headers, **options)

    async def credentials(self, scope: str = "", **form: object) -> httpx.Response:
        headers = form.pop("headers", None)
        said = {"grant_type": "client_credentials", "scope": scope, **form}
        return await self.post("token", said, headers=headers)

    async def exchange(
        self, subject: str | None = None, kind: str = "access_token", **form: object
    ) -> httpx.Response:
        """Exchange a token, by default this workload's JWT-SVID."""
        headers = form.pop("headers", None)
        if subject is None:
            subject, kind = self.svid(), "jwt"
        said = {
            "grant_type": EXCHANGE,
            "subject_token": subject,
            "subject_token_type": TYPE + kind,
            **form,
        }
        return await self.post("token", said, headers=headers)

    async def token(self, scope: str = "", **form: object) -> str:
        reply = await self.credentials(scope, **form)
        assert 200 == reply.status_code, reply.text
        return reply.json()["access_token"]

    async def introspect(self, token: str, **form: object) -> dict[str, object]:
        reply = await self.post("introspection", {"token": token, **form})
        assert 200 == reply.status_code, reply.text
        return reply.json()

    def proven(self, key: ProofKey, endpoint: str = "token", **options: object) -> dict[str, str]:
        """The header with a proof for a request to an endpoint."""
        return {"DPoP": key.proof("POST", f"{self.broker.issuer}/{endpoint}", **options)}
