"""A clock that stands still until a test moves it on."""

from __future__ import annotations

import asyncio
import heapq
import sys
from datetime import UTC, datetime, timedelta

import anyio
from anyio.lowlevel import checkpoint

__all__ = ["ManualClock", "settle"]


async def settle() -> None:
    """Return when every other task waits for something: a deadline, an event, a message.

    anyio's `wait_all_tasks_blocked` does the same and naps for 0.1 s on asyncio each time.
    """
    if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_task():
        await anyio.wait_all_tasks_blocked()
        return
    this = asyncio.current_task()
    quiet = 0
    while quiet < 3:
        await asyncio.sleep(0)
        waiters = [getattr(task, "_fut_waiter", None) for task in asyncio.all_tasks() if task is not this]
        quiet = quiet + 1 if all(w is not None and not w.done() for w in waiters) else 0


class ManualClock:
    """A `Clock` whose time passes only in `advance`; for `Workload(clock=…)` and whatever else takes one.

    Args:
        start: What the wall clock shows at first.

    Attributes:
        skew: Set this to move the wall clock alone, as an administrator may.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._serial = 0
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self.skew: timedelta = timedelta(0)

    def now(self) -> datetime:
        """See `Clock.now`."""
        return self._start + timedelta(seconds=self._elapsed) + self.skew

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`; it wakes in an `advance`."""
        if seconds <= 0:
            await checkpoint()
            return
        self._serial += 1
        sleeper = (self._elapsed + seconds, self._serial, anyio.Event())
        heapq.heappush(self._sleepers, sleeper)
        try:
            await sleeper[2].wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    @property
    def sleepers(self) -> int:
        """How many wait for their time."""
        return len(self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Let this much time pass, waking each sleeper at its own moment."""
        target = self._elapsed + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            self._elapsed, _, event = heapq.heappop(self._sleepers)
            event.set()
            await settle()
        self._elapsed = target
