"""The tokens that are held, and what decides which of them go."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable

from spiffe_client.errors import SpiffeError
from spiffe_client.tokens._lifetime import Lifetime
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._tokens import AccessToken

__all__ = ["Entries", "Entry"]

#: When there are too many, this share of them goes at once, the least recently used ones: reading
#: keeps no order, so that it takes no lock.
_EVICTED = 16


class Entry:
    """A token that is held.

    Attributes:
        request: What it was asked for.
        token: As it was issued.
        life: Its phases.
        used_at: When somebody last read it, in monotonic seconds.
    """

    __slots__ = ("life", "request", "token", "used_at")

    def __init__(self, request: TokenRequest, token: AccessToken, life: Lifetime, used_at: float) -> None:
        self.request = request
        self.token = token
        self.life = life
        self.used_at = used_at

    def idle(self, now: float) -> bool:
        """Return whether nobody used it for as long as such a token lives."""
        return now - self.used_at > self.life.ttl


class Entries:
    """Held tokens by the key of their request.

    `peek` is for any thread and takes no lock; everything else is for who holds the cache's.

    Args:
        capacity: Most tokens held.
        now: The monotonic clock.

    Attributes:
        closed: Why none is handed out any more, whatever is still held; None before that is so.
        hits: How often one was handed out; as threads may count at once, about that.
        misses: How often somebody had to wait for one.
    """

    def __init__(self, capacity: int, now: Callable[[], float]) -> None:
        self._capacity = capacity
        self._now = now
        self._pid = os.getpid()
        self._held: dict[bytes, Entry] = {}
        self.closed: SpiffeError | None = None
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._held)

    def peek(self, request: TokenRequest) -> AccessToken | None:
        """Return the token for this request if it is valid now; a forked child has none."""
        entry = self._held.get(request.key)
        if entry is None:
            return None
        now = self._now()
        if now >= entry.life.hard or self.closed is not None or os.getpid() != self._pid:
            return None
        entry.used_at = now
        self.hits += 1
        return entry.token

    def get(self, key: bytes) -> Entry | None:
        """Return what is held for this key, valid or not."""
        return self._held.get(key)

    def of(self, token: AccessToken | None) -> Entry | None:
        """Return where this very token is held."""
        entry = None if token is None else self._held.get(token.request.key)
        return entry if entry is not None and entry.token is token else None

    def everything(self) -> list[Entry]:
        """Return all that is held, valid or not."""
        return list(self._held.values())

    def in_use(self) -> list[AccessToken]:
        """Return the tokens that are valid and were used within their lifetime, latest use first."""
        now = self._now()
        live = [entry for entry in self.everything() if now < entry.life.hard and not entry.idle(now)]
        return [entry.token for entry in sorted(live, key=lambda entry: entry.used_at, reverse=True)]

    def keep(self, request: TokenRequest, token: AccessToken, life: Lifetime, *, used: bool) -> list[bytes]:
        """Hold a token, in place of the one before it.

        Args:
            request: What it was asked for.
            token: As it was issued.
            life: Its phases.
            used: Whether somebody waited for it; else it was last used when the one before it was.

        Returns:
            The keys of those that had to go for it.
        """
        key, entry = request.key, self._held.get(request.key)
        if entry is not None:
            self._held[key] = Entry(request, token, life, self._now() if used else entry.used_at)
            return []
        gone: list[bytes] = []
        if len(self._held) >= self._capacity:
            count = 1 + self._capacity // _EVICTED
            gone = heapq.nsmallest(count, self._held, key=lambda held: self._held[held].used_at)
            for old in gone:
                del self._held[old]
        self._held[key] = Entry(request, token, life, self._now())
        return gone

    def drop(self, entry: Entry) -> bool:
        """Forget this one; return whether it was still held: there may be none, or another in its place."""
        held = self._held.get(entry.request.key) is entry
        if held:
            del self._held[entry.request.key]
        return held

    def clear(self) -> None:
        """Forget everything."""
        self._held = {}
