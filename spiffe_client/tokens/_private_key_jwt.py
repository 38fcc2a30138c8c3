"""Client authentication with an assertion signed by a key of one's own (RFC 7523 §2.2)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from spiffe_client._frames import async_border
from spiffe_client._jose import SigningKey, parse_private_jwk, sign_compact
from spiffe_client._json import parse_json_object
from spiffe_client.errors import SecretSourceError, TokenRequestError
from spiffe_client.tokens._authentication import ClientFacts, Credentials
from spiffe_client.tokens._secret_purpose import read_for
from spiffe_client.tokens._secret_source import SecretSource
from spiffe_client.tokens._urns import JWT_BEARER_ASSERTION

__all__ = ["PrivateKeyJwt"]


@dataclass(frozen=True, slots=True)
class PrivateKeyJwt:
    """A short-lived assertion for the token broker alone, signed anew for each request.

    Attributes:
        key: An EC, RSA or Ed25519 key, or where one is read, anew for each request: PEM or a JWK.
        client_id: The OAuth client; None for the TokenBroker's.
        key_id: Which of the client's keys it is; None for the `kid` of a JWK, if it has one.
        algorithm: None for ES256, ES384, ES512, RS256 or EdDSA, as the key is; `PS256` for RSA.
        lifetime: Seconds that an assertion is valid, at most 60.
    """

    key: SecretSource | SigningKey = field(repr=False)
    client_id: str | None = None
    key_id: str | None = None
    algorithm: str | None = None
    lifetime: int = 60
    method = "private_key_jwt"
    presents_certificate = False

    def __post_init__(self) -> None:
        if not 1 <= self.lifetime <= 60:
            raise TokenRequestError("lifetime= of a client assertion is from 1 to 60 seconds")

    @async_border
    async def credentials(self, to: ClientFacts, *, now: datetime, refresh: bool) -> Credentials:  # noqa: ARG002 - of the protocol; it is made anew anyway
        """See `ClientAuthentication.credentials`."""
        client_id = self.client_id or to.client_id
        if not client_id:
            raise TokenRequestError("PrivateKeyJwt() needs a client_id")
        key, key_id = await self._load(client_id)
        issued_at = int(now.timestamp())
        claims = {
            "iss": client_id,
            "sub": client_id,
            # The issuer as the only one: an assertion for several could be replayed between them.
            "aud": to.issuer,
            "jti": secrets.token_urlsafe(16),
            "iat": issued_at,
            "exp": issued_at + self.lifetime,
        }
        header: dict[str, object] = {"typ": "JWT"}
        if self.algorithm is not None:
            header["alg"] = self.algorithm
        if (key_id := self.key_id or key_id) is not None:
            header["kid"] = key_id
        assertion = sign_compact(header, claims, key)
        return Credentials(
            (
                ("client_id", client_id),
                ("client_assertion_type", JWT_BEARER_ASSERTION),
                ("client_assertion", assertion),
            )
        )

    async def _load(self, client_id: str) -> tuple[SigningKey, str | None]:
        if isinstance(self.key, SigningKey):
            return self.key, None
        text = (await read_for(self.key, f"the private key of {client_id}")).reveal()
        key, key_id = _parse_jwk(text) if text.lstrip().startswith("{") else (_parse_pem(text), None)
        if not isinstance(key, SigningKey):
            raise SecretSourceError(f"{self.key.name}: no EC, RSA or Ed25519 private key, as PEM or JWK")
        return key, key_id


def _parse_pem(text: str) -> object:
    try:
        return load_pem_private_key(text.encode(), None)
    except Exception:  # noqa: BLE001 - border; and nothing of what a parser says about a key is kept
        return None


def _parse_jwk(text: str) -> tuple[object, str | None]:
    jwk = parse_json_object(text.encode())
    key_id = jwk.get("kid") if jwk else None
    return (parse_private_jwk(jwk) if jwk else None), (key_id if isinstance(key_id, str) else None)
