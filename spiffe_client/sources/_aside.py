"""Something slow, beside the event loop, in a thread that ends with it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import anyio

__all__ = ["aside"]


def _wake_from_thread(event: anyio.Event) -> Callable[[], object]:
    """Return what sets an event of the running loop from any thread."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        token = trio.lowlevel.current_trio_token()
        return lambda: token.run_sync_soon(event.set)
    loop = asyncio.get_running_loop()
    return lambda: loop.call_soon_threadsafe(event.set)


async def aside(call: Callable[[], object]) -> None:
    """Run `call` in a thread of its own, wait for it, and raise what it raises.

    anyio's worker threads would stay for as long as an asyncio loop runs: an idle thread in every
    process, for work that comes twice in an hour. If the caller is cancelled, the thread is left
    alone and what comes of it is ignored.
    """
    done = anyio.Event()
    wake = _wake_from_thread(done)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again on the loop
            failures.append(error)
        with suppress(RuntimeError):  # the loop is gone, and with it who waited
            wake()

    threading.Thread(target=work, name="spiffe-client prepares", daemon=True).start()
    await done.wait()
    if failures:
        raise failures[0]
