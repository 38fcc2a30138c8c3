"""A token broker client while it is open: its background task, what it holds, and how that ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import anyio

from spiffe_client._clock import Clock
from spiffe_client._service import Service
from spiffe_client.audit import EventSink
from spiffe_client.errors import TokenBrokerClosedError, TokenError
from spiffe_client.tokens._cache import TokenCache
from spiffe_client.tokens._gates import Gate
from spiffe_client.tokens._health import TokenHealth
from spiffe_client.tokens._home import Home
from spiffe_client.tokens._kill_switch import KillSwitch
from spiffe_client.tokens._reports import Reports
from spiffe_client.tokens._revocation import Revoker
from spiffe_client.tokens._rotation import Rotation
from spiffe_client.tokens._session import Session
from spiffe_client.tokens._tokens import AccessToken, SecurityToken

if TYPE_CHECKING:
    from spiffe_client.tokens._caep import CaepPoll, Receiver
    from spiffe_client.tokens._identity import Identity
    from spiffe_client.tokens._introspection import Introspection
    from spiffe_client.tokens._request import TokenRequest
    from spiffe_client.tokens._revocation import Revocation

__all__ = ["Open"]

#: Seconds that closing spends on revoking, at most.
_BUDGET = 5.0


class Open:
    """Everything that an open token broker client is made of; on its event loop, but for `stop`.

    It does not know the client: the background task must not keep alive what the user forgot.

    Args:
        session: Asks the token broker.
        clock: Where the time comes from.
        timeout: Seconds that a caller waits at most.
        capacity: Most tokens kept.
        sink: Takes events.
        switch: Stops it.
        owner: What its user knows it as.

    Attributes:
        home: The event loop.
        cache: What is held.
        reports: What happened.
    """

    def __init__(
        self,
        session: Session,
        *,
        clock: Clock,
        timeout: float,
        capacity: int,
        sink: EventSink,
        switch: KillSwitch,
        owner: str = "this TokenBroker",
    ) -> None:
        self._session = session
        self._clock = clock
        self._switch = switch
        self.home = Home(owner)
        self.reports = Reports(session.issuer, sink, clock)
        self.cache = TokenCache(
            session.mint,
            self.home,
            clock=clock,
            timeout=timeout,
            limit=session.limit,
            capacity=capacity,
            gate=Gate(),
            reports=self.reports,
        )
        self._revoker = Revoker(
            session.issuer, session, lineage=session.lineage, purge=self.cache.purge, clock=clock, sink=sink
        )
        self._nap: anyio.CancelScope | None = None
        session.lineage.added = self._added
        self._receiver = self._receive(session.security_events, sink)
        self._service = Service(
            _body(self.home, self.cache, session), name="spiffe-client TokenBroker", crashed=self._crashed
        )
        self._rotation = self._follow(session.identity)
        switch.also(self._stop)  # it may have been used a moment ago

    def _added(self) -> None:
        """See that what was made from a token is forgotten in time; one task, while there is any."""
        if self._nap is not None:
            self._nap.cancel()  # it may have to go earlier than those before it
        elif self._session.lineage.next_expiry is not None:
            self._nap = anyio.CancelScope()
            with suppress(TokenBrokerClosedError):
                self.home.spawn(self._prune)

    async def _prune(self) -> None:
        lineage = self._session.lineage
        while (expiry := lineage.next_expiry) is not None:
            with anyio.CancelScope() as self._nap:
                await self._clock.sleep(max(0.0, (expiry - self._clock.now()).total_seconds()))
            lineage.prune(self._clock.now())
        self._nap = None

    def _follow(self, identity: Identity | None) -> Rotation | None:
        if identity is None:
            return None
        rotation = Rotation(
            self.cache,
            self._session,
            identity,
            self.home,
            clock=self._clock,
            reports=self.reports,
            switch=self._switch,
        )
        rotation.follow()
        return rotation

    def _receive(self, poll: CaepPoll | None, sink: EventSink) -> Receiver | None:
        if poll is None:
            return None
        from spiffe_client.tokens._caep import Receiver, Receiving

        session, cache = self._session, self.cache

        async def fetch(request: TokenRequest) -> AccessToken:
            return cache.peek(request) or await cache.fetch(request)

        receiving = Receiving(
            channel=session.channel,
            fetch=fetch,
            dpop=session.dpop,
            nonces=session.nonces,
            issuer=session.issuer,
            client_id=lambda: session.client_id,
            own_id=lambda: None if session.identity is None else str(session.identity.id),
            held=cache.held,
            purge=cache.purge,
            withdrawn=lambda affected: [tell(affected) for tell in session.withdrawn.living()],
            clock=self._clock,
            sink=sink,
        )
        receiver = Receiver(poll, receiving)
        self.home.spawn(receiver.run)
        return receiver

    async def close(self, *, revoke: bool) -> None:
        """End everything, even if the caller is being cancelled; from any event loop."""
        # First, so that nobody asks for another while those that are held are taken back.
        held = self.cache.take(TokenBrokerClosedError("the token broker client was closed"))
        with anyio.CancelScope(shield=True):
            try:
                with suppress(TokenBrokerClosedError):  # its event loop has ended, and everything with it
                    await self.home.carry(self._close, held if revoke else [])
            finally:
                if self.home.here:
                    await self._service.stop()
                else:
                    self.home.call(self._service.cancel)

    async def _close(self, held: list[AccessToken]) -> None:
        try:
            if self._receiver is not None:
                await self._receiver.aclose()  # before its connections are closed under it
            if held:
                await self._revoker.revoke_all(held, budget=_BUDGET)
        finally:
            await self._session.aclose()

    async def revoke(self, token: AccessToken | SecurityToken, seconds: float) -> Revocation:
        """Take a token back, from any event loop; see `Revoker.revoke`."""

        async def revoking() -> Revocation:
            return await self._revoker.revoke(token, timeout=seconds)

        return await self.home.carry(revoking)

    async def introspect(self, token: AccessToken | SecurityToken, seconds: float) -> Introspection:
        """Ask what the token broker knows of a token, from any event loop."""
        from spiffe_client.tokens._introspection import introspect

        hint = "access_token" if isinstance(token, AccessToken) else ""

        async def asking() -> Introspection:
            return await introspect(self._session, token.token, timeout=seconds, clock=self._clock, hint=hint)

        return await self.home.carry(asking)

    @property
    def health(self) -> TokenHealth:
        """How it is doing."""
        trouble = self.reports.trouble
        state: Literal["ready", "unavailable", "no_identity"] = "ready"
        if trouble is not None:
            state = "unavailable" if isinstance(trouble, TokenError) else "no_identity"
        return TokenHealth(state, self.reports.since, len(self.cache), trouble, *self.cache.lookups)

    def _stop(self) -> None:
        error = self._switch.error
        assert error is not None
        count = self.cache.close(error)
        self._session.stop()
        self.home.soon(self._service.cancel)
        self.reports.stopped(error.reason, count)

    def _crashed(self, error: Exception) -> None:
        text = f"the background task of the token broker client crashed: {type(error).__name__}"
        crash = TokenBrokerClosedError(text)
        crash.__cause__ = error
        self.cache.close(crash)
        self.reports.crashed(text)


def _body(home: Home, cache: TokenCache, session: Session) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        try:
            await home.run(cache.run)
        finally:
            with anyio.CancelScope(shield=True):
                await session.aclose()

    return run
