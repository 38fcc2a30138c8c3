"""How a client shows the token broker who it is (RFC 6749 §2.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from spiffe_client._redact import Secret

if TYPE_CHECKING:
    from spiffe_client.tokens._identity import Identity

__all__ = ["Challenged", "ClientAuthentication", "ClientFacts", "Credentials"]


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """Who authenticates, to whom and where.

    Attributes:
        issuer: The token broker's issuer identifier.
        client_id: The OAuth client; empty if it has none.
        url: The endpoint.
        identity: This workload's identity; None if it has none.
    """

    issuer: str
    client_id: str
    url: str
    identity: Identity | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is added to a request; shows nothing.

    Attributes:
        form: Form parameters.
        headers: HTTP headers.
        secrets: What is encoded in them, such as a client secret, where they do not show it as it is:
            a token broker that repeats it must not have it in an error.
    """

    form: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    secrets: tuple[Secret[str], ...] = field(default=(), repr=False)


class ClientAuthentication(Protocol):
    """One way of client authentication."""

    @property
    def method(self) -> str:
        """As metadata names it, such as `private_key_jwt`."""
        ...

    @property
    def presents_certificate(self) -> bool:
        """Whether the connection shows the X509-SVID."""
        ...

    def credentials(self, to: ClientFacts, *, now: datetime, refresh: bool) -> Awaitable[Credentials]:
        """Return what to add to one request; asked anew for each.

        Args:
            to: Who authenticates, to whom and where.
            now: The time.
            refresh: Whether the last ones were refused.

        Raises:
            SecretSourceError: A secret or key cannot be read.
            TokenRequestError: Something it needs is missing.
        """
        ...


@runtime_checkable
class Challenged(Protocol):
    """A way of client authentication that answers of the token broker have a say in."""

    def heard(self, to: ClientFacts, headers: Mapping[str, str]) -> None:
        """Take in the headers of an answer, by lower-case name, whatever its status."""
        ...
