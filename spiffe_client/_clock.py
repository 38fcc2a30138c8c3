"""The one place that reads a clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

import anyio

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """What running code asks for the time and waits with."""

    def now(self) -> datetime:
        """Wall-clock time, aware, in UTC: to compare with what certificates and tokens say."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back: to measure how long something took."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait this many seconds."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)  # noqa: TID251 - this is the one place

    #: See `Clock.monotonic`; asked several times for each request and call, so it is the function itself.
    monotonic: staticmethod[[], float] = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        await anyio.sleep(seconds)


SYSTEM_CLOCK: Clock = SystemClock()
