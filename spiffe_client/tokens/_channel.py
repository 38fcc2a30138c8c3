"""How requests reach the token broker: whom to trust there, what to show, new connections for each SVID."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

import anyio

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.authorize import Authorizer
from spiffe_client.errors import TokenRequestError

if TYPE_CHECKING:
    import ssl

    from spiffe_client.ids import SpiffeId
    from spiffe_client.tokens._route import Route
    from spiffe_client.workload_api import X509Context, X509ContextSource

__all__ = ["Channel", "Lease", "ServerTrust", "Shown", "SpiffePeer", "WebPki"]


@dataclass(frozen=True, slots=True)
class WebPki:
    """The token broker's certificate is of the web PKI: its host name is verified as usual.

    Attributes:
        roots: Authorities to trust, as PEM text; None for the system's.
    """

    roots: str | None = None


@dataclass(frozen=True, slots=True, init=False)
class SpiffePeer:
    """The token broker is a SPIFFE workload: both ends show their X509-SVIDs.

    Attributes:
        peer: Who it may be.
    """

    peer: Authorizer

    def __init__(self, peer: Authorizer | SpiffeId | str) -> None:
        """Take an authorizer, or the SPIFFE ID of the token broker.

        Raises:
            InvalidIdError: A string is not a workload's SPIFFE ID.
        """
        object.__setattr__(self, "peer", Authorizer.parse(peer))


#: How the token broker's certificate is verified; always said, never guessed.
ServerTrust: TypeAlias = WebPki | SpiffePeer


@dataclass(frozen=True, slots=True)
class Shown:
    """The certificate that a connection shows.

    Attributes:
        thumbprint: base64url of the SHA-256 of its DER (`x5t#S256`, RFC 8705 §3.1).
        not_after: When it expires, UTC.
    """

    thumbprint: str
    not_after: datetime


class Lease:
    """One generation's connections, open for as long as somebody uses them.

    Attributes:
        route: Keeps them; it keeps nothing else, such as cookies, and has no deadline of its own.
        shown: The certificate that its connections show; None for none.
        context: The snapshot it was made for; None where nothing is shown.
    """

    __slots__ = ("context", "route", "shown", "users")

    def __init__(self, route: Route, shown: Shown | None, context: X509Context | None) -> None:
        self.route = route
        self.shown = shown
        self.context = context
        self.users = 0


class Channel:
    """Connections to a token broker, made anew whenever the SVID that they show is another.

    For one event loop. Proxies of the environment are used for https, as httpx does; what goes to
    this machine goes direct.

    Args:
        trust: How the token broker is verified.
        identity: Whose SVID is shown; a fixed `X509Context` is one too.
        present_svid: Whether to show it to a token broker of the web PKI; to one that is a SPIFFE
            workload it always is.
        clock: Tells the time.

    Attributes:
        clock: The same.

    Raises:
        TokenRequestError: An SVID is to be shown and there is no identity.
    """

    def __init__(
        self,
        trust: ServerTrust,
        *,
        identity: X509ContextSource | None = None,
        present_svid: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._trust = trust
        self._shows = present_svid or isinstance(trust, SpiffePeer)
        if self._shows and identity is None:
            raise TokenRequestError(
                "an X509-SVID is to be shown to the token broker: pass identity=, such as a Workload"
            )
        self._source = identity if self._shows else None
        self.clock = clock
        self._current: Lease | None = None
        self._former: list[Lease] = []

    @property
    def certificate(self) -> str | None:
        """Thumbprint of the certificate that connections show now; None if they show none.

        Raises:
            SourceError: One is to be shown, and there is no identity now.
        """
        shown = self._lease().shown
        return shown.thumbprint if shown else None

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """Use the connections of the current generation, which stay open meanwhile.

        Raises:
            SourceError: An SVID is to be shown, and there is no identity now.
            TlsConfigurationError: The roots are no certificates.
        """
        lease = self._lease()
        lease.users += 1
        try:
            await self._close_former()
            yield lease
        finally:
            lease.users -= 1
            await self._close_former()

    def staged(self, context: X509Context) -> Channel:
        """Return a channel that shows the SVID of this context, for before it is published."""
        return Channel(self._trust, identity=context, present_svid=self._shows, clock=self.clock)

    async def aclose(self) -> None:
        """Close all connections, also those in use."""
        leases = [*self._former, *([self._current] if self._current else [])]
        self._former, self._current = [], None
        await _close(leases)

    def _lease(self) -> Lease:
        context = self._source.x509_context if self._source else None
        current = self._current
        if current is None or not self._serves(current, context):
            if current is not None:
                self._former.append(current)
            current = self._current = self._new_lease(context)
        return current

    def _serves(self, lease: Lease, context: X509Context | None) -> bool:
        if lease.context is context:
            return True
        # A new bundle concerns who the token broker is only where it is verified with it.
        return (
            isinstance(self._trust, WebPki)
            and lease.context is not None
            and context is not None
            and lease.context.svid == context.svid
        )

    def _new_lease(self, context: X509Context | None) -> Lease:
        from spiffe_client.tokens._route import Route  # imports httpx, which is heavy

        route = Route(self._new_tls(context))
        if context is None:
            return Lease(route, None, None)
        digest = hashlib.sha256(context.svid.ders[0]).digest()
        thumbprint = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return Lease(route, Shown(thumbprint, context.svid.not_after), context)

    def _new_tls(self, context: X509Context | None) -> ssl.SSLContext:
        if isinstance(self._trust, SpiffePeer):
            from spiffe_client.tls import SpiffeTls

            assert context is not None
            # One snapshot for each: a connection that shows the former SVID is not reused.
            return SpiffeTls(context, self._trust.peer, clock=self.clock).client_context()
        from spiffe_client.tls import web_client_context

        return web_client_context(context, roots=self._trust.roots)

    async def _close_former(self) -> None:
        idle = [lease for lease in self._former if not lease.users]
        if idle:
            self._former = [lease for lease in self._former if lease.users]
            await _close(idle)


async def _close(leases: list[Lease]) -> None:
    with anyio.CancelScope(shield=True):
        for lease in leases:
            await lease.route.aclose()
