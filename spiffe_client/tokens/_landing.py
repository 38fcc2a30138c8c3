"""Where tokens come in: those that must not be used any more are turned away, the rest are held."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from spiffe_client._agenda import Agenda
from spiffe_client._clock import Clock
from spiffe_client.errors import UnacceptableTokenError
from spiffe_client.tokens._entries import Entries
from spiffe_client.tokens._flight import Flight, again
from spiffe_client.tokens._gates import Gate
from spiffe_client.tokens._home import Home
from spiffe_client.tokens._kill_switch import orphaned
from spiffe_client.tokens._lifetime import Lifetime
from spiffe_client.tokens._lock import Lock
from spiffe_client.tokens._reports import Reports
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._retries import renew_at
from spiffe_client.tokens._tokens import AccessToken, SecurityToken

if TYPE_CHECKING:
    from spiffe_client.tokens._endpoint import Minted

__all__ = ["Landing"]


class Landing:
    """Takes in tokens, on the home loop; arguments as `TokenCache`'s.

    Args:
        entries: The tokens held.
        home: The event loop.
        limit: Returns how many seconds a token just issued is used at most.
        agenda: Renews them.
        clock: Where the time comes from.
        gate: Before the token endpoint.
        reports: Told what comes.
        lock: For whoever changes what is held or on its way.
        draw: Draws a number from 0 to 1.
    """

    def __init__(
        self,
        entries: Entries,
        home: Home,
        *,
        limit: Callable[[AccessToken], float],
        agenda: Agenda[bytes | int],
        clock: Clock,
        gate: Gate,
        reports: Reports,
        lock: Lock,
        draw: Callable[[], float],
    ) -> None:
        self._entries = entries
        self._home = home
        self._limit = limit
        self._agenda = agenda
        self._clock = clock
        self._gate = gate
        self._reports = reports
        self._lock = lock
        self._draw = draw

    def peek(self, request: TokenRequest) -> AccessToken | None:
        """Return the token held for this request if it is valid now."""
        return self._entries.peek(request)

    def refuse_closed(self) -> None:
        """Return if tokens are still taken in and handed out.

        Raises:
            SpiffeError: The reason why they are not.
        """
        if self._entries.closed is not None:
            raise again(self._entries.closed)

    def adopt(self, request: TokenRequest, minted: Minted, started_at: float) -> None:
        """Hold a token that was fetched elsewhere, in place of the one before it; any thread.

        Raises:
            UnacceptableTokenError: It is none that can be held.
        """
        token, life = self._judge(minted, started_at, spread=False)
        with self._lock:
            if life.kept and self._entries.closed is None and orphaned(request) is None:
                gone = self._entries.keep(request, token, life, used=False)
                self._home.call(partial(self._plan, request.key, life.soft, gone))

    def land(self, request: TokenRequest, flight: Flight, minted: Minted, started_at: float) -> None:
        """Take in what a flight brought, if it is still wanted.

        Raises:
            UnacceptableTokenError: It is none that can be used.
        """
        life = None if flight.alone else self._judge(minted, started_at, spread=not flight.ahead)[1]
        with self._lock:
            # Who purges from here on asks about it themselves: else a stream of purges held it up for ever.
            flight.arrived = arrived = _purgeable(minted.token)
        # Asked without the lock: they may take their time, or look into this very cache.
        purged = any(veto(one) for veto in flight.vetoes for one in arrived)
        with self._lock:
            if purged:
                flight.drop(None)
            wanted = self._settle(request, flight, minted, life)
        if wanted:
            self._reports.issued(minted.token, refreshed=flight.ahead)
        elif flight.ahead:
            self.postpone(request.key)

    def _settle(self, request: TokenRequest, flight: Flight, minted: Minted, life: Lifetime | None) -> bool:
        """Hand out what a flight brought, and hold it; return False if nobody is to get it."""
        token = minted.token
        if stopped := self._entries.closed or orphaned(request):
            flight.drop(stopped)
        if not flight.wanted:
            return False
        flight.minted = minted
        if life is not None and isinstance(token, AccessToken):
            flight.token = token
            self._keep(request, token, life, ahead=flight.ahead)
        return True

    def _keep(self, request: TokenRequest, token: AccessToken, life: Lifetime, *, ahead: bool) -> None:
        if life.kept:
            gone = self._entries.keep(request, token, life, used=not ahead)
            self._plan(request.key, life.soft, gone)
        elif ahead:
            self.postpone(request.key)

    def postpone(self, key: bytes) -> None:
        """Set the next appointment of a token that could not be replaced now; it stays what it is."""
        entry, now = self._entries.get(key), self._clock.monotonic()
        if entry is not None:
            self._agenda.put(key, renew_at(entry.life, now=now, closed=self._gate.left(now)))

    def _judge(self, minted: Minted, started_at: float, *, spread: bool) -> tuple[AccessToken, Lifetime]:
        token = minted.token
        if not isinstance(token, AccessToken):
            raise UnacceptableTokenError(
                "this is no access token (N_A): use exchange() for it", why="not_an_access_token"
            )
        entry = self._entries.get(token.request.key)
        same = entry is not None and entry.token.token == token.token
        # Else all that an outage held up would come together once more, an interval later.
        late = entry is not None and entry.life.overdue(started_at)
        life = Lifetime.of(
            minted.expires_in,
            refresh_in=minted.refresh_in,
            started_at=started_at,
            max_ttl=self._limit(token),
            spread=spread or late,
            former=entry.life if entry is not None and same else None,
            draw=self._draw,
        )
        if life.ends <= self._clock.monotonic():
            raise UnacceptableTokenError("the token just issued is expired already", why="expired")
        return token, life

    def _plan(self, key: bytes, at: float, gone: list[bytes]) -> None:
        for other in gone:
            self._agenda.drop(other)
        self._agenda.put(key, at)


def _purgeable(token: AccessToken | SecurityToken) -> list[AccessToken]:
    """Return what purges are asked about: of what is no access token, those that it was made from."""
    if isinstance(token, AccessToken):
        return [token]
    made_from = (token.request.subject, token.request.actor)
    return [one for one in made_from if isinstance(one, AccessToken)]
