"""How much a task may do: calls in all, and calls in any minute."""

from __future__ import annotations

from array import array
from threading import Lock, RLock
from typing import Final

__all__ = ["Budget", "Rate", "Refusals"]

_MINUTE: Final = 60.0


class Budget:
    """Calls that a task has, and with it all tasks that it handed work on to.

    Every attempt counts, also one that is denied: who guesses comes to an end, too. Threads that come
    at once do not get more together.

    Args:
        calls: How many.
        parent: That of the task which handed it on: each call is one of its calls.
    """

    __slots__ = ("calls", "lock", "parent", "spent")

    def __init__(self, calls: int, parent: Budget | None = None) -> None:
        self.calls: int = calls
        self.spent: int = 0
        self.parent: Budget | None = parent
        self.lock: Lock = Lock() if parent is None else parent.lock  # one for the whole family

    @property
    def left(self) -> int:
        """How many calls there still are."""
        left, above = self.calls - self.spent, self.parent
        while above is not None:
            left, above = min(left, above.calls - above.spent), above.parent
        return max(0, left)

    def spend(self) -> bool:
        """Take one call; return False if there is none left."""
        if self.parent is not None:
            return self.give(1)
        # Not acquire() and try, though that is half: Ctrl-C comes in between, and the lock would be held for good.
        with self.lock:
            if self.spent >= self.calls:
                return False
            self.spent += 1
        return True

    def give(self, calls: int) -> bool:
        """Take calls that are counted elsewhere; return False if there are not so many left."""
        with self.lock:
            if calls > self.left:
                return False
            self._add(calls)
        return True

    def take_back(self, calls: int) -> None:
        """Have calls again that were given, and went nowhere."""
        with self.lock:
            self._add(-calls)

    def _add(self, calls: int) -> None:
        budget: Budget | None = self
        while budget is not None:
            budget.spent += calls
            budget = budget.parent


class Rate:
    """At most so many calls in any minute, by the monotonic clock.

    Args:
        per_minute: How many; also how many times are remembered, in eight bytes each.
    """

    __slots__ = ("_first", "_lock", "_times", "per_minute")

    def __init__(self, per_minute: int) -> None:
        self.per_minute: int = per_minute
        self._times = array("d")
        self._first = 0  # before it is what is over, and not thrown away yet
        self._lock = RLock()  # what is refused in a signal handler is told there

    def take(self, now: float) -> bool:
        """Count a call at this time; return False if it would be one too many."""
        times = self._times
        with self._lock:  # threads that come at once do not get more together
            while self._first < len(times) and now - times[self._first] >= _MINUTE:
                self._first += 1
            if len(times) - self._first >= self.per_minute:
                return False
            times.append(now)
            if self._first > len(times) // 2:
                del times[: self._first]
                self._first = 0
        return True


class Refusals:
    """How many refusals are told one by one: those that cost nobody a call are no way to flood an audit.

    Args:
        per_minute: As many; of the rest it is told how many there were.
    """

    __slots__ = ("_lock", "_rate", "_untold")

    def __init__(self, per_minute: int) -> None:
        self._rate = Rate(per_minute)
        self._untold = 0
        self._lock = RLock()

    def take(self, now: float) -> int | None:
        """Return how many were not told before this one; None if this one is not told either."""
        with self._lock:
            if not self._rate.take(now):
                self._untold += 1
                return None
            untold, self._untold = self._untold, 0
        return untold

    def rest(self) -> int:
        """Return how many were not told at the end, once."""
        with self._lock:
            untold, self._untold = self._untold, 0
        return untold
