"""Client authentication with a secret, or with none (RFC 6749 §2.3.1)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import quote_plus

from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens._authentication import ClientFacts, Credentials
from spiffe_client.tokens._secret_purpose import read_for
from spiffe_client.tokens._secret_source import SecretSource
from spiffe_client.tokens._unprinted import Unprinted

__all__ = ["ClientSecret", "NoAuthentication"]


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A secret that the token broker knows too.

    Attributes:
        source: Where it is read, anew for each request.
        client_id: The OAuth client; None for the TokenBroker's.
        method: In the `Authorization` header, or in the form.
    """

    source: SecretSource
    client_id: str | None = None
    method: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"
    presents_certificate = False

    def __post_init__(self) -> None:
        if self.method not in ("client_secret_basic", "client_secret_post"):
            raise TokenRequestError(
                f"method {self.method!r:.80} is neither client_secret_basic nor client_secret_post"
            )

    async def credentials(self, to: ClientFacts, *, now: datetime, refresh: bool) -> Credentials:  # noqa: ARG002 - of the protocol; it is read anew anyway
        """See `ClientAuthentication.credentials`."""
        client_id = self.client_id or to.client_id
        if not client_id:
            raise TokenRequestError("ClientSecret() needs a client_id")
        read = await read_for(self.source, f"the client secret of {client_id}")
        secret = read.reveal()
        if self.method == "client_secret_post":
            return Credentials((("client_id", client_id), ("client_secret", secret)), secrets=(read,))
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
        basic = base64.b64encode(pair.encode()).decode()
        return Credentials(headers=(("authorization", Unprinted(f"Basic {basic}")),), secrets=(read,))


@dataclass(frozen=True, slots=True)
class NoAuthentication:
    """Says which OAuth client it is, if it is one, and proves nothing."""

    method = "none"
    presents_certificate = False

    async def credentials(self, to: ClientFacts, *, now: datetime, refresh: bool) -> Credentials:  # noqa: ARG002 - of the protocol
        """See `ClientAuthentication.credentials`."""
        return Credentials((("client_id", to.client_id),) if to.client_id else ())
