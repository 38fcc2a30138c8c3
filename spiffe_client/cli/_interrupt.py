"""Ctrl-C, and being told to go: the command is cancelled, cleans up, and the exit code says so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable

import anyio

__all__ = ["until_interrupted"]

_FATAL = 128  # what a shell adds to the number of the signal that ended a process


def _wanted() -> list[signal.Signals]:
    if threading.current_thread() is not threading.main_thread():
        return []  # only the main thread is told
    candidates = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    # What nohup or a shell's & has switched off stays off.
    return [s for s in candidates if signal.getsignal(s) is not signal.SIG_IGN]


async def until_interrupted(command: Callable[[], Awaitable[int]]) -> int:
    """Run a command, or cancel it at the first signal.

    A second signal finds no handler of ours and ends the process the hard way.

    Args:
        command: Returns the exit code.

    Returns:
        Its exit code, or 128 and the number of the signal.
    """
    ended_by = 0
    outcome: int | Exception = 0

    async def wait_signal() -> None:
        nonlocal ended_by
        with anyio.open_signal_receiver(*wanted) as signals:
            async for number in signals:
                ended_by = _FATAL + number
                break
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        if wanted := _wanted():
            tasks.start_soon(wait_signal)
        try:
            outcome = await command()
        except Exception as error:  # noqa: BLE001 - carried out of the task group as it is, see below
            outcome = error
        tasks.cancel_scope.cancel()
    if ended_by:
        return ended_by
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
