"""What must be seen once only."""

from __future__ import annotations

import heapq

__all__ = ["Replays"]


class Replays:
    """Names that were used, each kept until using it again would fail for another reason."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._ends: list[tuple[float, str]] = []

    def use(self, name: str, *, until: float, now: float) -> bool:
        """Note that a name is used.

        Args:
            name: What must be unique.
            until: From when on it need not be remembered, in seconds since the epoch.
            now: The time.

        Returns:
            False if it was used before.
        """
        while self._ends and self._ends[0][0] < now:
            self._seen.discard(heapq.heappop(self._ends)[1])
        if name in self._seen:
            return False
        self._seen.add(name)
        heapq.heappush(self._ends, (until, name))
        return True
