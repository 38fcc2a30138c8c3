"""Client authentication with SVIDs (draft-ietf-oauth-spiffe-client-auth)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens._authentication import ClientFacts, Credentials
from spiffe_client.tokens._channel import ServerTrust
from spiffe_client.tokens._urns import JWT_SPIFFE_ASSERTION

__all__ = ["JwtSpiffe", "X509SvidTls"]


@dataclass(frozen=True, slots=True)
class JwtSpiffe:
    """A JWT-SVID as client assertion, for the token broker alone."""

    method = "spiffe_jwt"
    presents_certificate = False

    async def credentials(self, to: ClientFacts, *, now: datetime, refresh: bool) -> Credentials:  # noqa: ARG002 - of the protocol; the identity knows what is fresh
        """See `ClientAuthentication.credentials`."""
        if to.identity is None:
            raise TokenRequestError("JwtSpiffe() needs an identity: pass identity= to the TokenBroker")
        svid = await to.identity.jwt_svid(to.issuer)
        return Credentials(
            (
                ("client_id", to.client_id or str(svid.id)),
                ("client_assertion_type", JWT_SPIFFE_ASSERTION),
                ("client_assertion", svid.token.reveal()),
            )
        )


@dataclass(frozen=True, slots=True)
class X509SvidTls:
    """The X509-SVID as TLS client certificate (RFC 8705 §2).

    Attributes:
        server: How the token broker is verified, in place of the TokenBroker's `trust`. There is
            no default: one of the web PKI and one that is a SPIFFE workload are told apart by nothing
            else.
    """

    server: ServerTrust
    method = "spiffe_x509"
    presents_certificate = True

    async def credentials(self, to: ClientFacts, *, now: datetime, refresh: bool) -> Credentials:  # noqa: ARG002 - of the protocol; the identity knows what is fresh
        """See `ClientAuthentication.credentials`."""
        if to.identity is None:
            raise TokenRequestError("X509SvidTls() needs an identity: pass identity= to the TokenBroker")
        return Credentials((("client_id", to.client_id or str(to.identity.id)),))
