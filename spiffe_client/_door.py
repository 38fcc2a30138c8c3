"""The way into an event loop from other threads, other loops and signal handlers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, cast

__all__ = ["Door"]


def _loop() -> object:
    """Return the event loop that runs in this thread.

    Raises:
        RuntimeError: None does.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_trio_token()
    return asyncio.get_running_loop()


class Door:
    """The way into an event loop from any thread, for the one that runs in this thread."""

    def __init__(self) -> None:
        self._loop = _loop()
        # The caller's may say that it runs on another kind of loop.
        self._context = copy_context()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def here(self) -> bool:
        """Whether this code runs on that loop."""
        try:
            return _loop() is self._loop
        except RuntimeError:
            return False

    def soon(self, function: Callable[[], object]) -> None:
        """Have a function called on the loop, in a task.

        Raises:
            RuntimeError: The loop has ended.
        """
        if isinstance(self._loop, asyncio.AbstractEventLoop):
            self._loop.call_soon_threadsafe(self._begin, function, context=self._context)
        else:
            cast("Any", self._loop).run_sync_soon(function)

    def _begin(self, function: Callable[[], object]) -> None:
        # In a bare callback anyio does not know on which kind of loop it is.
        async def run() -> None:
            function()

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
