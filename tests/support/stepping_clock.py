"""A clock that starts where it is told to and goes when it is told to."""

from __future__ import annotations

from datetime import datetime, timedelta

import anyio

from spiffe_client._latest import Latest

__all__ = ["SteppingClock"]


class SteppingClock:
    """Stands still until `step`; sleepers wake when their time has come."""

    def __init__(self, start: datetime) -> None:
        self._start = self._now = start
        self._sleepers: list[tuple[datetime, anyio.Event]] = []
        self._slept: Latest[None] = Latest(None)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._start).total_seconds()

    async def sleep(self, seconds: float) -> None:
        sleeper = (self._now + timedelta(seconds=seconds), anyio.Event())
        self._sleepers.append(sleeper)
        self._slept.set(None)
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    @property
    def due(self) -> list[datetime]:
        """When those who sleep are to wake."""
        return [due for due, _ in self._sleepers]

    async def wait_sleepers(self, count: int = 1) -> None:
        """Wait until so many are asleep."""
        while len(self._sleepers) < count:
            await self._slept.wait_newer(self._slept.version)

    def step(self, seconds: float) -> None:
        """Let time pass, at once."""
        self._now += timedelta(seconds=seconds)
        for due, wake in self._sleepers:
            if due <= self._now:
                wake.set()
