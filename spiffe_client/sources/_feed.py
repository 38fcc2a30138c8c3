"""Keeps one stream of the Workload API open for as long as the source lives, whatever happens.

What a status means (Workload Endpoint §6): InvalidArgument and Unimplemented will not get better
by asking again, so they fail a source that is starting and are asked again rarely by one that
already serves; PermissionDenied means that nothing is issued yet, or, to one that holds something,
that it is being withdrawn; everything else is retried with a small backoff.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import anyio

from spiffe_client._agenda import Agenda
from spiffe_client.errors import (
    BundleError,
    EndpointError,
    FirstUpdateTimeoutError,
    InvalidRequestError,
    NoIdentityIssuedError,
    SourceClosedError,
    SourceError,
    SpiffeError,
    UnavailableError,
    UnimplementedError,
)
from spiffe_client.sources._holding import Holding
from spiffe_client.sources._hooks import Hooks
from spiffe_client.sources._pace import Denial, Pace
from spiffe_client.sources._reporter import Reporter
from spiffe_client.workload_api import is_any_thread

if TYPE_CHECKING:
    from spiffe_client.sources._terms import Terms
    from spiffe_client.sources._topic import Topic

__all__ = ["Feed"]

_T = TypeVar("_T")

#: Asking again does not help; a user who is starting up has to hear it at once.
_FINAL = (EndpointError, InvalidRequestError, UnimplementedError)
#: Seconds until a source that already serves asks again after such an answer: not a retry, a look
#: whether the agent was upgraded or reconfigured meanwhile.
_SLOW = 60.0


class Feed(Generic[_T]):
    """Fills a holding from a stream.

    Args:
        topic: Which stream, and what its messages mean.
        terms: What the user decided.

    Attributes:
        holding: What is held and served.
        before: Called in a worker thread with a value about to be published; may refuse it.
        after: Called on the event loop when what is served has changed.
    """

    def __init__(self, topic: Topic[_T], terms: Terms) -> None:
        self.holding: Holding[_T] = Holding(topic.what, terms.clock, owner=terms.owner, opening=terms.opening)
        self.before: Hooks[[_T]] = Hooks()
        self.after: Hooks[[]] = Hooks()
        self._topic = topic
        self._terms = terms
        self._reporter = Reporter(topic.what, terms.sink)
        self._pace = Pace(terms.backoff)
        self._denial = Denial(terms.grace)
        self._agenda: Agenda[Literal["expiry", "withdrawal"] | _Waiter] = Agenda(terms.clock, self._due)
        self._waiters: set[_Waiter] = set()
        self._final: SpiffeError | None = None
        self._flaw: SpiffeError | None = None
        self._answered = False

    async def wait_first(self, until: float) -> None:
        """Wait for the first value, until a monotonic time.

        Raises:
            FirstUpdateTimeoutError: It did not come in time; the message and `__cause__` say why.
            WorkloadApiError: It will not come, whatever the wait.
            SourceClosedError: The source is closed, or was meanwhile.
        """
        self.holding.refuse_unopened()
        if self.holding.health.last_update is not None:
            return
        if self._final is not None:
            raise self._final
        waiter = _Waiter()
        self._waiters.add(waiter)
        self._agenda.put(waiter, until)
        try:
            await waiter.done.wait()
        finally:
            self._waiters.discard(waiter)
            self._agenda.drop(waiter)
        if waiter.failure is not None:
            raise waiter.failure

    def stop(self, reason: str) -> bool:
        """Serve nothing from now on, from any thread; `close` does the rest. Whether it was the first."""
        first = self.holding.stop(reason)
        if first:
            self._notify([notify for notify in self.after.living() if is_any_thread(notify)])
        return first

    def close(self, why: str, *, crash: SourceError | None = None) -> None:
        """Serve nothing any more; the background task is stopped by its owner."""
        served = self.holding.value is not None or self.holding.health.state == "stopped"
        self.holding.close(why, crash=crash)
        self._settle(crash or SourceClosedError(f"{self.holding.owner} {why}"))
        if served:
            self._notify()

    async def run(self) -> None:
        """Follow the stream until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._agenda.run)
            while True:
                await self._terms.clock.sleep(await self._follow_once())

    async def _follow_once(self) -> float:
        """Follow one stream to its end and return the seconds to wait before the next."""
        clock = self._terms.clock
        began, self._answered = clock.monotonic(), False
        try:
            async with self._topic.watch(self._refused) as stream:
                async for message in stream:
                    await self._take(message)
            if not self._answered:
                raise UnavailableError("the Workload API ended the stream without an answer")
        except SpiffeError as error:
            return self._failed(error, clock.monotonic() - began)
        return self._pace.ended(clock.monotonic() - began)

    async def _take(self, message: _T) -> None:
        """Publish a message, or refuse it whole."""
        self._answered = True
        held = self.holding.value
        try:
            value = self._topic.choose(message)
            new = held is None or not self._topic.same(held, value)
            if new:
                await self._prepare(value)
        except SpiffeError as error:
            self._refused(error)
            if held is not None and self._topic.revoked(held, message):
                self._redact()
            return
        self._final = None
        self._denial.lifted()
        self._agenda.drop("withdrawal")
        flaw, self._flaw = self._flaw, None
        if new:
            self._publish(held, value, flaw)
        else:
            self.holding.confirm(flaw=flaw)
        if flaw is None:
            self._reporter.well()

    async def _prepare(self, value: _T) -> None:
        listeners = self.before.living()
        if not listeners:
            return
        from spiffe_client.sources._aside import aside

        def prepare() -> None:  # one thread for all of them: starting one and coming back takes a while
            for listener in listeners:
                listener(value)

        try:
            await aside(prepare)
        except SpiffeError:
            raise
        except Exception as error:  # the border to code that is not ours
            raise SourceError(f"a listener could not prepare it: {type(error).__name__}") from error

    def _publish(self, held: _T | None, value: _T, flaw: SpiffeError | None) -> None:
        family = self._topic.family
        expires_at = self._topic.expires_at(value)
        if not self.holding.publish(value, expires_at, flaw=flaw):
            self._notify()  # stopped meanwhile: what was prepared for it has to go
            return
        self._plan_expiry()
        self._settle(None)
        gone = [] if held is None else self._topic.missing(held, value)
        if gone:
            text = f"{self._topic.what}: not issued any more, dropped: {', '.join(gone)}"
            self._reporter.tell(f"{family}.redacted", text, level=logging.WARNING)
        until = "" if expires_at is None else f", good until {expires_at:%Y-%m-%dT%H:%M:%SZ}"
        self._reporter.tell(
            f"{family}.updated", f"{self._topic.what} updated{until}", self._topic.describe(value)
        )
        self._notify()

    def _plan_expiry(self) -> None:
        expires_at = self.holding.health.expires_at
        if expires_at is None:
            self._agenda.drop("expiry")
        else:
            left = (expires_at - self._terms.clock.now()).total_seconds()
            self._agenda.put("expiry", self._terms.clock.monotonic() + left)

    def _notify(self, listeners: Iterable[Callable[[], object]] | None = None) -> None:
        for notify in self.after.living() if listeners is None else listeners:
            try:
                notify()
            except Exception as error:  # noqa: BLE001 - the border to code that is not ours
                text = f"a listener failed with {type(error).__name__}"
                self._reporter.tell("source.listener_failed", text, level=logging.ERROR)

    def _refused(self, error: SpiffeError) -> None:
        """Note that a message, or a federated bundle in it, cannot be used."""
        self._answered = True
        # A bad federated bundle costs only itself: the rest of its message follows and is taken
        # with this flaw. Anything else costs the message, with the flaws it had.
        self._flaw = error if isinstance(error, BundleError) else None
        family = "bundle" if self._flaw else self._topic.family
        self.holding.trouble(error, attempt=False)
        self._reporter.trouble(f"{family}.refused", "an update was refused", error)

    def _failed(self, error: SpiffeError, lived: float) -> float:
        """Note that a stream failed and return the seconds to wait before the next."""
        delay = self._pace.failed(lived)
        self.holding.trouble(error, attempt=True)
        self._final = error if isinstance(error, _FINAL) else None
        if self._final is not None:
            self._settle(error)
            delay = _SLOW
        held = self.holding.value is not None
        doing = (
            f"serving the last known good of {self._topic.what}"
            if held
            else f"waiting for {self._topic.what}"
        )
        self._reporter.trouble("source.unavailable", doing, error)
        if not (held and isinstance(error, NoIdentityIssuedError) and self._terms.on_redaction == "drop"):
            self._denial.doubted()
            return delay
        final_at = self._denial.heard(self._terms.clock.monotonic())
        if final_at is None:
            return 0.0
        self._agenda.put("withdrawal", final_at)
        return delay

    def _redact(self) -> None:
        if self._terms.on_redaction == "drop":
            self._withdraw()

    def _withdraw(self) -> None:
        self._agenda.drop("expiry")
        self._agenda.drop("withdrawal")
        self.holding.withdraw()
        text = f"{self._topic.what} was withdrawn: nothing is served until it is issued again"
        self._reporter.tell(f"{self._topic.family}.withdrawn", text, level=logging.WARNING)
        self._notify()

    def _expire(self) -> None:
        if not self.holding.expired:  # somebody set the wall clock back
            self._plan_expiry()
            return
        text = f"{self._topic.what} expired and no fresh one came: nothing is served until one does"
        self._reporter.tell(f"{self._topic.family}.expired", text, level=logging.ERROR)
        self._notify()

    def _give_up(self, waiter: _Waiter) -> None:
        last = self.holding.health.last_error
        why = "it is connected, but nothing came" if last is None else str(last)
        error = FirstUpdateTimeoutError(f"waited {self._terms.timeout:g} s for {self._topic.what}: {why}")
        error.__cause__ = last
        waiter.settle(error)

    def _due(self, what: Literal["expiry", "withdrawal"] | _Waiter) -> None:
        if what == "expiry":
            self._expire()
        elif what == "withdrawal":
            self._withdraw()
        else:
            self._give_up(what)

    def _settle(self, failure: SpiffeError | None) -> None:
        """Let go all who wait for the first update."""
        for waiter in self._waiters:
            waiter.settle(failure)


class _Waiter:
    """Somebody who waits for the first update; only the first word counts."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.failure: SpiffeError | None = None

    def settle(self, failure: SpiffeError | None) -> None:
        if not self.done.is_set():
            self.failure = failure
            self.done.set()
