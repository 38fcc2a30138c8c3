"""Tokens that were asked for, kept fresh for as long as somebody uses them.

Fresh: handed out at once, without a lock, on any thread. Due: handed out, and replaced in the
background. Expired: who asks waits for the one request that is on its way for all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from spiffe_client._agenda import Agenda
from spiffe_client._clock import Clock
from spiffe_client.errors import SpiffeError, TokenBrokerClosedError
from spiffe_client.tokens._entries import Entries
from spiffe_client.tokens._flight import Flight, Mint, again
from spiffe_client.tokens._flights import Flights
from spiffe_client.tokens._gates import Gate
from spiffe_client.tokens._home import Home
from spiffe_client.tokens._kill_switch import orphaned
from spiffe_client.tokens._landing import Landing
from spiffe_client.tokens._lock import Lock
from spiffe_client.tokens._purging import Purging, ground
from spiffe_client.tokens._reports import Reports
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._tokens import AccessToken, SecurityToken

if TYPE_CHECKING:
    from spiffe_client.tokens._endpoint import Minted

__all__ = ["TokenCache"]

#: A caller that has less than this many seconds left does not start a request of its own any more.
_WORTH_ASKING = 1.0


class TokenCache:
    """Keeps access tokens by request: one heap and one waiting task, whatever their number.

    A flight is a request on its way to the token broker: callers join one or launch it, its token
    lands, or it is grounded. Tokens go in these ways:

    | what | whose doing | who waits for one that is on its way |
    |---|---|---|
    | `purge` | a service refused it, a security event | asks anew |
    | `clear` | another identity | asks anew, or gets the error |
    | `take`, `close` | `aclose`; a kill switch, in any thread or signal handler | gets the error, for good |
    | `orphan` | what it was made of was stopped | gets the error when it comes |

    Args:
        mint: Asks the token broker once.
        home: The event loop that requests run on.
        clock: Where the time comes from.
        timeout: Seconds that a caller waits at most.
        limit: Returns how many seconds a token just issued is used at most.
        capacity: Most tokens kept.
        gate: Before the token endpoint.
        reports: Told what happens.
        draw: Draws a number from 0 to 1.
    """

    def __init__(
        self,
        mint: Mint,
        home: Home,
        *,
        clock: Clock,
        timeout: float,
        limit: Callable[[AccessToken], float],
        capacity: int,
        gate: Gate,
        reports: Reports,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._home = home
        self._clock = clock
        self._timeout = timeout
        self._gate = gate
        self._reports = reports
        self._entries = Entries(capacity, clock.monotonic)
        # What comes due is a token, by the key of its request, or a flight, by its number.
        self._agenda: Agenda[bytes | int] = Agenda(clock, self._due)
        # For whoever changes what is held, for as long as that takes; `peek` never takes it.
        self._lock = Lock()
        agenda, lock = self._agenda, self._lock
        self._landing = Landing(
            self._entries,
            home,
            limit=limit,
            agenda=agenda,
            clock=clock,
            gate=gate,
            reports=reports,
            lock=lock,
            draw=draw,
        )
        self._flights = Flights(
            mint, home, self._landing, agenda=agenda, clock=clock, gate=gate, reports=reports, lock=lock
        )
        self._purging = Purging(self._entries, self._flights, home, lock)

    @property
    def lookups(self) -> tuple[int, int]:
        """How often a token was read from memory, and how often somebody had to wait for one."""
        return self._entries.hits, self._entries.misses

    @property
    def generation(self) -> int:
        """How often tokens were dropped that were there or on their way."""
        return self._purging.generation

    def __len__(self) -> int:
        return len(self._entries)

    async def run(self) -> None:
        """Renew until cancelled."""
        try:
            await self._agenda.run()
        finally:
            self.take(
                TokenBrokerClosedError("the token broker client was closed, or its event loop has ended")
            )

    def peek(self, request: TokenRequest) -> AccessToken | None:
        """Return the token held for this request if it is valid now; instant, any thread."""
        return self._entries.peek(request)

    async def fetch(self, request: TokenRequest, timeout: float | None = None) -> AccessToken:  # noqa: ASYNC109 - kept by the injected clock
        """Return a token that is valid now, from memory or from the token broker; on the home loop.

        Args:
            request: What for.
            timeout: Seconds to wait at most; None for the usual.

        Raises:
            TokenError: It was refused, or did not come in time.
            SpiffeError: The reason that `close` was given, or there is no identity to ask with.
        """
        until = self._clock.monotonic() + (self._timeout if timeout is None else timeout)
        while (token := self._entries.peek(request)) is None:
            self._landing.refuse_closed()
            self._entries.misses += 1
            flight = self._flights.join(request, until)
            await self._flights.wait(flight, until)
            self._landing.refuse_closed()
            if (got := flight.token) is not None:  # read once: another thread may drop it
                return got
            # A flight that was for somebody has used up its tries; one ahead of need had just one.
            enough = _WORTH_ASKING if flight.wanted and not flight.ahead else 0.0
            if flight.conclusive or until - self._clock.monotonic() <= enough:
                raise again(flight.error)
        return token

    async def exchange(
        self,
        request: TokenRequest,
        timeout: float | None = None,  # noqa: ASYNC109 - kept by the injected clock
    ) -> AccessToken | SecurityToken:
        """Have one token issued that nobody else gets and that is not kept; on the home loop.

        Raises:
            TokenError: It was refused, or did not come in time.
            SpiffeError: As `fetch`.
        """
        self._landing.refuse_closed()
        until = self._clock.monotonic() + (self._timeout if timeout is None else timeout)
        minted = await self._flights.exchange(request, until)
        self._landing.refuse_closed()
        return minted.token

    def purge(self, which: AccessToken | Callable[[AccessToken], bool]) -> int:
        """Forget a token, or all that fit, and let no request under way bring one back; any thread.

        Returns:
            How many there were.
        """
        gone = self._purging.one(which) if isinstance(which, AccessToken) else self._purging.all(which)
        if gone:
            self._reports.purged(gone)
        return gone

    def forget(self, request: TokenRequest, error: SpiffeError) -> AccessToken | None:
        """Forget what is held or on its way for one request; see `Purging.of`."""
        return self._purging.of(request, error)

    def clear(self, error: SpiffeError | None = None) -> int:
        """Forget everything, also what is on its way; any thread.

        Args:
            error: What those who wait get; None if they are to ask anew.

        Returns:
            How many tokens there were.
        """
        with self._lock:
            return len(self._drop_all(error, self._home.call))

    def take(self, error: SpiffeError) -> list[AccessToken]:
        """As `close`, for who can wait; return the tokens that were held."""
        self._seal(error)
        with self._lock:
            return self._drop_all(error, self._home.call)

    def close(self, error: SpiffeError) -> int:
        """Forget everything and refuse whoever asks from now on; the first reason counts.

        From any thread, also in a signal handler.

        Returns:
            How many tokens there were.
        """
        count = len(self._entries)
        self._seal(error)
        self._lock.soon(partial(self._drop_all, error, self._home.soon))
        return count

    def orphan(self) -> None:
        """Forget what was made of what was stopped; from any thread, also in a signal handler.

        What is on its way is refused when it comes.
        """
        self._lock.soon(self._drop_orphans)

    def _seal(self, error: SpiffeError) -> None:
        self._entries.closed = self._entries.closed or error

    def _drop_all(
        self, error: SpiffeError | None, tell: Callable[[Callable[[], object]], None]
    ) -> list[AccessToken]:
        held = [entry.token for entry in self._entries.everything()]
        self._entries.clear()
        self._purging.generation += 1
        ground(self._flights.take_all(), error, tell)
        return held

    def _drop_orphans(self) -> None:
        for entry in self._entries.everything():
            if orphaned(entry.request):
                self._entries.drop(entry)

    def held(self) -> list[AccessToken]:
        """Return the tokens held, valid or not."""
        return [entry.token for entry in self._entries.everything()]

    def in_use(self) -> list[AccessToken]:
        """Return the tokens that are valid and were used within their lifetime, latest use first."""
        return self._entries.in_use()

    def adopt(self, request: TokenRequest, minted: Minted, started_at: float) -> None:
        """Hold a token that was fetched elsewhere; see `Landing.adopt`."""
        self._landing.adopt(request, minted, started_at)

    def _due(self, what: bytes | int) -> None:
        if isinstance(what, int):
            self._flights.end(what)
            return
        if self._entries.closed is not None:
            return
        key, now = what, self._clock.monotonic()
        entry = self._entries.get(key)
        if entry is None or key in self._flights:
            return
        if now >= entry.life.hard or entry.idle(now):
            with self._lock:
                self._entries.drop(entry)
        elif self._gate.left(now):
            self._landing.postpone(key)
        else:
            with suppress(SpiffeError):  # closed by another thread, just now
                self._flights.launch(entry.request, Flight(now + self._timeout, ahead=True))
