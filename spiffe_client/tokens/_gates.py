"""A token broker that asks for patience gets it from all requests, not just from the one it told."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

__all__ = ["Gate"]

#: Seconds that a token broker can make us wait at most (`Retry-After`, RFC 9110 §10.2.3).
_LONGEST: Final = 60.0
#: Who waited for the same moment does not come all at once then: within this share of the wait,
#: or so many seconds.
_SPREAD: Final = 0.1
_SPREAD_SECONDS: Final = 1.0


class Gate:
    """Before one endpoint: closed for as long as its `Retry-After` says, for every key.

    Args:
        draw: Draws a number from 0 to 1.
    """

    __slots__ = ("_draw", "_until")

    def __init__(self, *, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._until = 0.0

    def shut(self, seconds: float, *, now: float) -> None:
        """Close for so many seconds from `now` (monotonic), and not for less than before."""
        self._until = max(self._until, now + min(seconds, _LONGEST))

    def left(self, now: float) -> float:
        """Return the seconds until it opens; 0 if it is open."""
        return max(0.0, self._until - now)

    def wait(self, now: float, *, left: float) -> float | None:
        """Return the seconds to wait before asking, or None if it opens too late.

        Args:
            now: In monotonic seconds.
            left: Seconds that there are.
        """
        closed = self.left(now)
        if not closed:
            return 0.0
        if closed >= left:
            return None
        # Half of what is left is for the request itself.
        return closed + self._draw() * min((left - closed) / 2, max(_SPREAD_SECONDS, _SPREAD * closed))
