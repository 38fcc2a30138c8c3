"""A source under test: a clock that stands still, a Workload API that says what it is told to."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import anyio
import pytest

from spiffe_client.audit import Event
from tests.support.fake_workload_api import FakeWorkloadApi
from tests.support.manual_clock import ManualClock


class Steady:
    """A backoff without chance: always half a second, unless a test has hours to pass."""

    seconds = 0.5

    def delay(self, attempt: int) -> float:
        return self.seconds


@dataclass
class World:
    clock: ManualClock = field(default_factory=ManualClock)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api = FakeWorkloadApi(self.clock)
        self.backoff = Steady()
        self.terms = {"clock": self.clock, "on_event": self._hear, "backoff": self.backoff}
        self._heard: dict[str, anyio.Event] = {}

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        if event.name in self._heard:
            self._heard[event.name].set()

    async def hear(self, name: str) -> None:
        """Wait for the next event of this name."""
        self._heard[name] = anyio.Event()
        with anyio.fail_after(20):
            await self._heard[name].wait()

    def told(self, *names: str, level: int = logging.INFO) -> list[str]:
        """The messages of the events of these names, at this level or above."""
        return [e.message for e in self.events if e.name in names and e.level >= level]

    @property
    def names(self) -> list[str]:
        """The names of all events at INFO or above."""
        return [e.name for e in self.events if e.level >= logging.INFO]


@pytest.fixture
def world() -> World:
    return World()
