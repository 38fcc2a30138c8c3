"""Closes pools when their moment comes, though nobody sends a request."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from spiffe_client._clock import Clock
from spiffe_client._service import Service
from spiffe_client.audit import Event, EventSink
from spiffe_client.http._pools import Pools

__all__ = ["Drainer"]

_T = TypeVar("_T")


class Drainer(Generic[_T]):
    """At most one background task per transport, alive only while a pool waits to be closed.

    Args:
        pools: What to watch.
        close: Closes the transports of pools; does not raise.
        clock: Waits.
        sink: Told of a bug in here; requests then close pools as they come.
    """

    def __init__(
        self,
        pools: Pools[_T],
        close: Callable[[list[_T]], Awaitable[None]],
        *,
        clock: Clock,
        sink: EventSink,
    ) -> None:
        self._pools = pools
        self._close = close
        self._clock = clock
        self._sink = sink
        self._service: Service | None = None
        self._thread = 0
        self._until = 0.0

    def wake(self) -> None:
        """See to it that the next pool is closed in time; called on an event loop.

        Called elsewhere it does nothing: the next request closes what is due.
        """
        wait = self._pools.pending()
        if wait is None:
            return
        until = self._clock.monotonic() + wait
        if self._service is not None and self._until <= until:
            return
        self.stop()
        self._until = until
        with contextlib.suppress(RuntimeError):  # no event loop runs in this thread
            self._service = Service(self._drain, name="spiffe-client drain", crashed=self._crashed)
            self._thread = threading.get_ident()

    def stop(self) -> None:
        """Stop waiting, if this is the thread of the task; elsewhere it finds nothing to do later."""
        if self._service is not None and self._thread == threading.get_ident():
            self._service.cancel()
        self._service = None

    async def _drain(self) -> None:
        while (wait := self._pools.pending()) is not None:
            self._until = self._clock.monotonic() + wait
            if wait:
                await self._clock.sleep(wait)
            await self._close(self._pools.take_idle())
        self._service = None

    def _crashed(self, error: Exception) -> None:
        self._service = None
        message = f"closing drained connections is left to the next request: {error!r}"
        self._sink(Event("connection.drain_crashed", message, level=logging.ERROR))
