"""What may come once: remembered in this process for as long as it could come again."""

from __future__ import annotations

import heapq

__all__ = ["Once"]


class Once:
    """Names that have come.

    Args:
        most: How many are remembered at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[str] = set()
        self._ends: list[tuple[float, str]] = []

    @property
    def is_full(self) -> bool:
        """Whether there is room for no more."""
        return len(self._seen) >= self._most

    def is_first(self, name: str, until: float, now: float) -> bool:
        """Say whether a name comes for the first time, and there is room to remember it.

        Args:
            name: Of what has come.
            until: When it could not come again for another reason, in seconds.
            now: The time.
        """
        while self._ends and self._ends[0][0] < now:
            self._seen.discard(heapq.heappop(self._ends)[1])
        if name in self._seen or self.is_full:
            return False
        self._seen.add(name)
        heapq.heappush(self._ends, (until, name))
        return True
