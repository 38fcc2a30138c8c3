"""What may come once: remembered for as long as it could come again, in this process or in several."""

from __future__ import annotations

import heapq
from typing import Protocol

from spiffe_client._clock import Clock

__all__ = ["Once", "ReplayCache"]


class ReplayCache(Protocol):
    """Remembers the proofs and tokens that have come; for `ProofOfPossession` and `CheckedTools`.

    Where several processes serve one URL, give them one that they share: `SqliteReplayCache` on one machine, an
    adapter to a database on several. Whatever it raises is a refusal.
    """

    async def add(self, name: str, until: float) -> bool:
        """Remember a name, in one step with looking whether it was there.

        Args:
            name: Of what has come: printable ASCII, at most 128 characters, no secret.
            until: In seconds of the epoch; later it could not come again for another reason. May be infinite.

        Returns:
            Whether it comes for the first time, and is remembered now. False also where there is no room, and where
            its time is over: a request may be slow on its way.
        """
        ...


class Once:
    """Names that have come to this process.

    Args:
        most: How many are remembered at a time.
        clock: What says now.
    """

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._seen: set[str] = set()
        self._ends: list[tuple[float, str]] = []

    async def add(self, name: str, until: float) -> bool:
        """See `ReplayCache.add`."""
        now = self._clock.now().timestamp()
        while self._ends and self._ends[0][0] < now:
            self._seen.discard(heapq.heappop(self._ends)[1])
        if not until >= now or name in self._seen or len(self._seen) >= self._most:
            return False
        self._seen.add(name)
        heapq.heappush(self._ends, (until, name))
        return True
