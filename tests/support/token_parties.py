"""Tokens, requests and endpoints for tests of what is done with tokens that were issued."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from spiffe_client._redact import Secret
from spiffe_client.errors import StaleError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid import JwtSvid
from spiffe_client.tokens import (
    AccessToken,
    Binding,
    ClientSecret,
    Metadata,
    SecretCall,
    SecurityToken,
    TokenRequest,
)
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._endpoint import TokenEndpoint
from spiffe_client.tokens._urns import ACCESS_TOKEN, JWT

__all__ = ["ISSUER", "DomainIdentity", "access_token", "endpoint_of", "metadata_of", "security_token"]

#: Whose tokens these are, unless said otherwise.
ISSUER = "https://tokens.test"
LATER = datetime.now(UTC) + timedelta(hours=1)


def access_token(
    text: str, *, subject=None, actor=None, issuer: str = ISSUER, expires_at: datetime = LATER, **asked
) -> AccessToken:
    """An access token as if it had been issued, from another token if a subject is given."""
    more = {} if subject is None else {"subject": subject}
    request = TokenRequest.of("orders:read", actor=actor, **more, **asked)
    return AccessToken(
        Secret(text),
        "Bearer",
        issuer,
        request,
        request.scope,
        "",
        ACCESS_TOKEN,
        expires_at,
        Binding(),
    )


def security_token(text: str, *, subject=None, issuer: str = ISSUER) -> SecurityToken:
    """One that is not an access token."""
    more = {} if subject is None else {"subject": subject}
    request = TokenRequest.of("orders:read", requested_token_type=JWT, **more)
    return SecurityToken(Secret(text), issuer, request, request.scope, JWT, LATER)


def metadata_of(url: str, **more) -> Metadata:
    """A token broker with all endpoints below one URL."""
    endpoints = {
        "token_endpoint": f"{url}/token",
        "revocation_endpoint": f"{url}/revocation",
        "introspection_endpoint": f"{url}/introspection",
        **more,
    }
    return Metadata(issuer=ISSUER, **endpoints)


def endpoint_of(url: str, channel: Channel, **more) -> TokenEndpoint:
    """A client of it that authenticates with a secret."""
    authentication = ClientSecret(SecretCall(lambda: "client-secret", name="a test's"), client_id="c1")
    return TokenEndpoint(metadata_of(url, **more), channel, authentication=authentication, client_id="c1")


class DomainIdentity:
    """A workload of a development trust domain, without a Workload API in between."""

    def __init__(self, domain, spiffe_id: str) -> None:
        self._domain = domain
        self.id = SpiffeId.parse(spiffe_id)

    @property
    def x509_context(self):
        raise StaleError("there is none", reason="withdrawn")

    async def jwt_svid(self, audience: str, /) -> JwtSvid:
        return JwtSvid.parse_unverified(self._domain.ca.issue_jwt_svid(str(self.id), [audience]))

    def before_publish(self, prepare) -> None:
        pass

    def after_publish(self, notify) -> None:
        pass
