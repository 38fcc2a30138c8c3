"""From opening a source to closing it: one detached background task for all it follows."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from spiffe_client._frames import place_of
from spiffe_client._service import Service
from spiffe_client.audit import Event
from spiffe_client.errors import SourceClosedError, SourceError, StoppedError

if TYPE_CHECKING:
    from spiffe_client.sources._holding import Holding
    from spiffe_client.sources._terms import Terms

    class _Feed(Protocol):
        @property
        def holding(self) -> Holding[Any]: ...
        async def wait_first(self, until: float) -> None: ...
        async def run(self) -> None: ...
        def stop(self, reason: str) -> bool: ...
        def close(self, why: str, *, crash: SourceError | None = None) -> None: ...


__all__ = ["Lifetime"]


class Lifetime:
    """Opens, runs and closes what a source is made of.

    It does not know the source: the background task must not keep alive what the user forgot.

    Args:
        name: Of the background task: `X509Source`.
        feeds: At least one.
        companions: More to run in the same task, until cancelled.
        terms: How long to wait, and whom to tell of a crash.
    """

    def __init__(
        self,
        name: str,
        feeds: Sequence[_Feed],
        companions: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
        *,
        terms: Terms,
    ) -> None:
        self._name = name
        self._owner = terms.owner or f"this {name}"
        self._feeds = feeds
        self._companions = companions
        self._terms = terms
        # Of the process that opened it: one made before a fork may be opened in each child.
        self._pid: int | None = None
        self._service: Service | None = None
        self._closed = False
        self._ended = False

    @property
    def unclosed(self) -> bool:
        """Whether somebody opened it in this process and did not close it."""
        return self._service is not None and not self._closed and not self._forked

    @property
    def _forked(self) -> bool:
        return self._pid is not None and self._pid != os.getpid()

    def start(self) -> None:
        """Start the background task if it does not run yet; does not wait for anything.

        Raises:
            SourceClosedError: It was closed, or started before a fork.
            StoppedError: It was stopped.
        """
        for feed in self._feeds:
            feed.holding.refuse_stopped()
        if self._forked:
            raise SourceClosedError(f"{self._owner} was opened before a fork; make a new one in the child")
        if self._closed:
            raise SourceClosedError(f"{self._owner} was closed; make a new one")
        if self._service is None:
            self._pid = os.getpid()
            for feed in self._feeds:
                feed.holding.opened()
            self._service = Service(self._run, name=f"spiffe-client {self._name}", crashed=self._crashed)
            try:
                self.refuse_unopened()
            except StoppedError as error:  # by another thread, a moment ago
                self._halt(self._service, error)
                raise

    def refuse_unopened(self) -> None:
        """Return if it runs, in this process.

        Raises:
            SourceClosedError: It does not.
        """
        for feed in self._feeds:
            feed.holding.refuse_unopened()

    async def wait_first_update(self) -> None:
        """Wait until every feed has something to serve, and leave all as it is if that fails.

        Raises:
            FirstUpdateTimeoutError: No first update in time.
            WorkloadApiError: There will not be one, whatever the wait.
            SourceClosedError: It is not open, or was closed meanwhile.
        """
        until = self._terms.clock.monotonic() + self._terms.timeout
        for feed in self._feeds:
            await feed.wait_first(until)

    async def open(self) -> None:
        """Start and wait for the first update; if that fails or is cancelled, close again.

        Raises:
            FirstUpdateTimeoutError: No first update in time.
            WorkloadApiError: There will not be one, whatever the wait.
            SourceClosedError: Closed before or meanwhile, or opened before a fork.
        """
        self.start()
        try:
            await self.wait_first_update()
        except BaseException:  # a half-open source must not go on behind anybody's back
            await self.aclose()
            raise

    def stop(self, reason: str) -> None:
        """Serve nothing from now on, for good, and end the background task.

        Idempotent, from any thread, also in a signal handler.
        """
        first = [feed.stop(reason) for feed in self._feeds]
        if not any(first):
            return
        if self._service is not None and not self._forked:
            self._service.soon(partial(self._halt, self._service, StoppedError(reason)))
        text = f"{self._owner} was stopped, and serves nothing any more: {reason}"
        facts = {"source": self._name, "reason": reason}
        self._terms.sink(Event("workload.stopped", text, facts, logging.WARNING))

    def _halt(self, service: Service, error: StoppedError) -> None:
        self._closed = True
        self._close("was stopped", crash=error)
        service.cancel()

    async def aclose(self) -> None:
        """Stop the background task and serve nothing any more. Idempotent, from any task."""
        if self._forked:
            return  # the connections and the task are the parent's
        self._closed = True
        self._close("was closed")
        if self._service is not None:
            await self._service.stop()

    def _close(self, why: str, *, crash: SourceError | None = None) -> None:
        if self._ended:  # only the first reason counts
            return
        self._ended = True
        for feed in self._feeds:
            feed.close(why, crash=crash)

    async def _run(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                for body in (*(feed.run for feed in self._feeds), *self._companions):
                    tasks.start_soon(body)
        except anyio.get_cancelled_exc_class():
            # Either closed already, or its event loop ends: nobody would refresh it any more.
            self._close("ended together with its event loop")
            raise

    def _crashed(self, error: Exception) -> None:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        # Where, and not what: the message of an unforeseen error could hold anything.
        where = f"{type(error).__name__} in {place_of(error)}"
        crash = SourceClosedError(f"the background task of {self._owner} crashed: {where}")
        crash.__cause__ = error
        self._close(f"crashed: {where}", crash=crash)
        self._terms.sink(Event("source.crashed", str(crash), {"source": self._name}, logging.CRITICAL))
