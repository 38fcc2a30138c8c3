"""Tokens that must go: what a service refused, what a security event is about, what was for one use."""

from __future__ import annotations

from collections.abc import Callable

from spiffe_client.errors import SpiffeError
from spiffe_client.tokens._entries import Entries
from spiffe_client.tokens._flight import Flight
from spiffe_client.tokens._flights import Flights
from spiffe_client.tokens._home import Home
from spiffe_client.tokens._lock import Lock
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._tokens import AccessToken

__all__ = ["Purging", "ground"]


class Purging:
    """Takes tokens out, and sees to it that no request under way brings one back; from any thread.

    Args:
        entries: The tokens held.
        flights: The requests on their way.
        home: The event loop that those run on.
        lock: For whoever changes what is held or on its way.

    Attributes:
        generation: Counts how often tokens were dropped that were there or on their way.
    """

    def __init__(self, entries: Entries, flights: Flights, home: Home, lock: Lock) -> None:
        self._entries = entries
        self._flights = flights
        self._home = home
        self._lock = lock
        self.generation = 0

    def one(self, token: AccessToken) -> int:
        """Forget this one; return how many were held."""
        with self._lock:
            entry = self._entries.get(token.request.key)
            # Only this one: the many who were refused with it must not drop its successor, too.
            if entry is None or entry.token.token != token.token:
                return 0
            ground(self._flights.take(token.request.key), None, self._home.call)
            return int(self._entries.drop(entry))

    def all(self, which: Callable[[AccessToken], bool]) -> int:
        """Forget all of which `which` is true; return how many were held."""
        with self._lock:
            held = self._entries.everything()
            arrived = self._flights.veto(which)
            self.generation += 1
        # Asked without the lock: it may take its time, or look into this very cache.
        gone = [entry for entry in held if which(entry.token)]
        missed = [flight for flight in arrived if any(map(which, flight.arrived or ()))]
        with self._lock:
            # They may have landed meanwhile.
            landed = [self._entries.of(flight.token) for flight in missed]
            for flight in missed:
                flight.drop(None)
            return sum(self._entries.drop(entry) for entry in (*gone, *landed) if entry is not None)

    def of(self, request: TokenRequest, error: SpiffeError) -> AccessToken | None:
        """Forget what is held or on its way for one request.

        Args:
            request: What was asked for.
            error: What those who wait for it get.

        Returns:
            What was held, valid or not.
        """
        with self._lock:
            ground(self._flights.take(request.key), error, self._home.call)
            entry = self._entries.get(request.key)
            return entry.token if entry is not None and self._entries.drop(entry) else None


def ground(
    flights: list[Flight],
    error: SpiffeError | None,
    tell: Callable[[Callable[[], object]], None],
) -> None:
    """Have nobody get what these bring.

    Args:
        flights: Which.
        error: What those who wait get; None if they are to ask anew.
        tell: Runs a function on the event loop.
    """
    for flight in flights:
        flight.drop(error)
        tell(flight.end)
