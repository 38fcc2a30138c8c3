"""A background task that belongs to an object, not to the block that started it.

Why not a task group entered in `__aenter__`: a cancel scope held across a `yield` or across
methods must be closed in the task and in the order it was opened in, a user's `KeyError` would
surface as an `ExceptionGroup`, and an `httpx`-like client may be used without `async with` and be
closed from anywhere. A detached task has none of these traps; in return its owner answers for
stopping it, and its body for handling every error.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

__all__ = ["Service"]


def _in_trio() -> bool:
    trio = sys.modules.get("trio")
    return trio is not None and trio.lowlevel.in_trio_task()


class Service:
    """One detached task on the running event loop, asyncio's or trio's.

    Args:
        body: What to run until it returns or is stopped.
        name: Shown by debuggers.
        crashed: Told the exception if `body` raises one: a bug, and the owner fails closed.
    """

    def __init__(
        self, body: Callable[[], Awaitable[None]], *, name: str, crashed: Callable[[Exception], None]
    ) -> None:
        self._body = body
        self._crashed = crashed
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()
        if _in_trio():
            import trio

            self._run_soon: Callable[[Callable[[], object]], object]
            self._run_soon = trio.lowlevel.current_trio_token().run_sync_soon
            trio.lowlevel.spawn_system_task(self._run, name=name)
        else:
            loop = asyncio.get_running_loop()
            self._run_soon = loop.call_soon_threadsafe
            self._task = loop.create_task(self._run(), name=name)

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._body()
        except Exception as error:  # noqa: BLE001 - the border: nobody awaits this task
            self._crashed(error)
        finally:
            self._done.set()

    def soon(self, function: Callable[[], object]) -> None:
        """Run a function on the task's event loop; not at once, even if this is it.

        Safe in any thread, and in a signal handler, which interrupts the loop in the middle of
        anything; on a loop that has ended, nothing happens.
        """
        with suppress(RuntimeError):  # the loop has ended, and with it the task
            self._run_soon(function)

    def cancel(self) -> None:
        """Ask the task to stop; does not wait."""
        self._scope.cancel()

    async def stop(self) -> None:
        """Cancel the task and wait until it has ended, even if the caller is being cancelled."""
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._done.wait()
