"""What a source holds and serves: one reference, replaced whole, and nothing that must not be used."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Generic, TypeVar

from spiffe_client._clock import Clock
from spiffe_client._latest import Latest
from spiffe_client.errors import SourceClosedError, SourceError, SpiffeError, StaleError, StoppedError
from spiffe_client.sources._health import Health, State

__all__ = ["Holding"]

_T = TypeVar("_T")


class Holding(Generic[_T]):
    """The last known good value, as long as it may be used.

    Reading is one attribute load, a look at the clock and at the process ID, from any thread.
    So is stopping, also in a signal handler; everything else belongs to the event loop.

    Args:
        what: What is held, for messages: `the X.509 identity`.
        clock: Tells what has expired.
        owner: What the user has to open and close, for messages; the source by default.
        opening: How.

    Attributes:
        owner: As above.
        latest: The value with its expiry, or None where there is nothing to serve.
        crash: What the background task died of, if it did.
    """

    def __init__(
        self, what: str, clock: Clock, *, owner: str = "", opening: str = "`async with` or await open()"
    ) -> None:
        self._what = what
        self.owner = owner or f"the source of {what}"
        self._clock = clock
        self._pid: int | None = None
        # Value and expiry travel together, so that a reader on another thread never sees one
        # generation's value with another one's expiry.
        self.latest: Latest[tuple[_T, datetime | None] | None] = Latest(None)
        self._health = Health("closed", clock.now())
        self._why_closed = f"was not opened yet: use {opening}"
        self.crash: SourceError | None = None
        # Why, and since when. A lock would be for ever in a signal handler whose thread holds it;
        # appending is one step, so that of two who stop it one is the first.
        self._stops: list[tuple[str, datetime]] = []

    def read(self) -> _T:
        """Return the value.

        Raises:
            StaleError: It expired or was withdrawn.
            StoppedError: It was stopped.
            SourceError: It was started and there was no first update yet.
            SourceClosedError: Not open, or opened by the process this one was forked from.
        """
        held = self.latest.value
        # What is held was put there by an open source, which knows its process.
        if held is None or self._stops or self._pid != os.getpid():
            raise self._why_not()
        value, expires_at = held
        if expires_at is not None and self._clock.now() >= expires_at:
            raise StaleError(
                f"{self._what} expired at {expires_at:%Y-%m-%dT%H:%M:%SZ} and no fresh one came"
                f"{_because(self._health.last_error)}",
                reason="expired",
            )
        return value

    def holds(self, value: object) -> bool:
        """Whether this very value is what is held: not replaced, withdrawn or stopped; expired, it may be."""
        held = self.latest.value
        return held is not None and held[0] is value and not self._stops and self._pid == os.getpid()

    @property
    def value(self) -> _T | None:
        """What is held, even if it has expired; for comparing with, not for handing out."""
        held = self.latest.value
        return None if held is None else held[0]

    @property
    def health(self) -> Health:
        """How the source is doing, by the clock of now."""
        health = self._health
        if self._stops:
            return Health("stopped", self._stops[0][1], health.last_update, last_error=self._why_not())
        if self._forked:
            return Health("closed", health.since, health.last_update, last_error=self._why_not())
        if health.state in ("fresh", "degraded") and self.expired:
            return replace(health, state="stale", since=health.expires_at or health.since)
        return health

    @property
    def expired(self) -> bool:
        """Whether there is a value and it must not be used any more."""
        held = self.latest.value
        return held is not None and held[1] is not None and self._clock.now() >= held[1]

    @property
    def _forked(self) -> bool:
        return self._pid is not None and self._pid != os.getpid()

    def refuse_fork(self) -> None:
        """Return if this is the process that opened the source.

        Raises:
            SourceClosedError: It is a child of it.
        """
        if self._forked:
            raise self._why_not()

    def refuse_stopped(self) -> None:
        """Return if nobody stopped it.

        Raises:
            StoppedError: Somebody did.
        """
        if self._stops:
            raise self._why_not()

    def refuse_unopened(self) -> None:
        """Return if the source is open in this process.

        Raises:
            SourceClosedError: It is not.
            StoppedError: It was stopped.
        """
        if self._health.state == "closed" or self._stops or self._forked:
            raise self._why_not()

    def opened(self) -> None:
        """Begin waiting for the first value, for this process and no child of it."""
        self._pid = os.getpid()
        self._to("starting")

    def publish(self, value: _T, expires_at: datetime | None, *, flaw: SpiffeError | None) -> bool:
        """Serve this value from now on, and wake all who wait for it; False if it was stopped."""
        self._health = replace(self._health, last_update=self._clock.now(), expires_at=expires_at)
        self.confirm(flaw=flaw)
        self.latest.set((value, expires_at))
        if self._stops:  # looked at last: whoever stops it later takes the value away
            self.latest.value = None
        return not self._stops

    def confirm(self, *, flaw: SpiffeError | None) -> None:
        """Note that the Workload API stands by what is held, but for `flaw`."""
        self._health = replace(self._health, last_error=flaw or self._health.last_error, attempts=0)
        self._to("degraded" if flaw else "fresh")

    def trouble(self, error: SpiffeError, *, attempt: bool) -> None:
        """Note what is wrong; what is held is served on."""
        attempts = self._health.attempts + attempt
        self._health = replace(self._health, last_error=error, attempts=attempts)
        if self._health.state in ("starting", "fresh"):
            self._to("waiting" if self._health.state == "starting" else "degraded")

    def withdraw(self) -> None:
        """Serve nothing until something is published again."""
        self._health = replace(self._health, expires_at=None)
        self._to("withdrawn")
        self.latest.set(None)

    def stop(self, reason: str) -> bool:
        """Serve nothing from now on, for good; from any thread. Only the first reason counts.

        Who waits is let go by `close`, which belongs to the event loop.

        Returns:
            Whether it was the first.
        """
        stop = (reason, self._clock.now())
        if not self._stops:
            self._stops.append(stop)
        self.latest.value = None
        return self._stops[0] is stop

    def close(self, why: str, *, crash: SourceError | None = None) -> None:
        """Serve nothing any more and let all who wait go; called once."""
        self._why_closed, self.crash = why, crash
        self._health = replace(self._health, expires_at=None, last_error=crash or self._health.last_error)
        self._to("closed")
        self.latest.value = None
        self.latest.close()

    async def wait_updated(self) -> None:
        """Wait until another value is published.

        Raises:
            SourceClosedError: The source is closed, or was while waiting.
        """
        self.refuse_unopened()
        async for _ in self.changes():
            return
        raise self._why_not()

    def changes(self) -> AsyncIterator[_T]:
        """Iterate over each newest value published from now on, until the source is closed.

        The iterator raises SourceClosedError if the source's background task crashes.
        """
        self.refuse_unopened()
        return _Changes(self)

    def _to(self, state: State) -> None:
        if self._health.state != state:
            self._health = replace(self._health, state=state, since=self._clock.now())

    def _why_not(self) -> SourceError:
        if self._stops:
            return StoppedError(self._stops[0][0])
        if self._forked:
            return SourceClosedError(
                f"{self.owner} was opened before this process was forked, and its "
                f"updates go to the parent; open a new one in the child"
            )
        if self._health.state == "withdrawn":
            why = f"{self._what} was withdrawn by its issuer{_because(self._health.last_error)}"
            return StaleError(why, reason="withdrawn")
        if self._health.state != "closed":
            return SourceError(
                f"there was no first update of {self._what} yet{_because(self._health.last_error)}"
            )
        error = SourceClosedError(f"{self.owner} {self._why_closed}")
        error.__cause__ = self.crash
        return error


def _because(error: SpiffeError | None) -> str:
    return "" if error is None else f" (last error: {error})"


class _Changes(Generic[_T]):
    # Not an async generator: leaving an `async for` early would leave one to the garbage
    # collector, which trio rightly warns about.

    def __init__(self, holding: Holding[_T]) -> None:
        self._holding = holding
        self._seen = holding.latest.version

    def __aiter__(self) -> _Changes[_T]:
        return self

    async def __anext__(self) -> _T:
        holding = self._holding
        holding.refuse_stopped()
        holding.refuse_fork()
        while await holding.latest.wait_newer(self._seen):
            self._seen = holding.latest.version
            # What a slow reader comes for may be withdrawn or expired by now.
            if (value := holding.value) is not None and not holding.expired:
                return value
        holding.refuse_stopped()
        if holding.crash is not None:
            raise holding.crash
        raise StopAsyncIteration
