"""The event loop that an agent host lives on, for its tasks on other loops and in threads."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import Event
from typing import Any, Final, TypeVar, TypeVarTuple

import anyio
import anyio.from_thread
import anyio.lowlevel

from spiffe_client._door import Door
from spiffe_client.errors import TaskError

__all__ = ["HostLoop", "cancel_on"]

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")

#: Seconds within which an event loop that is not blocked comes to what it is given.
_PATIENCE: Final = 10.0


def cancel_on(door: Door, scope: anyio.CancelScope) -> None:
    """Cancel what runs in a scope on the event loop behind a door, from any thread."""
    if door.here:
        scope.cancel()
    else:
        with suppress(RuntimeError):  # its event loop has ended, and with it all that ran there
            door.soon(scope.cancel)


class HostLoop:
    """The one that runs in this thread, which makes it."""

    def __init__(self) -> None:
        self._door = Door()
        self._token = anyio.lowlevel.current_token()

    def door(self) -> Door:
        """Return the way into the event loop that this code runs on: this one's, or another's."""
        return self._door if self._door.here else Door()

    def call(self, function: Callable[[], object]) -> None:
        """Run a function on this loop: at once if this code does, else soon; nothing if the loop has ended."""
        if self._door.here:
            function()
        else:
            self.soon(function)

    def soon(self, function: Callable[[], object]) -> None:
        """As `call`, and never at once: a signal handler interrupts the loop in the middle of anything."""
        with suppress(RuntimeError):
            self._door.soon(function)

    def wait_for(self, function: Callable[[*_Args], Coroutine[Any, Any, _T]], *args: *_Args) -> _T:
        """Run a coroutine function on this loop, and block the thread until it returns.

        Raises:
            TaskError: This is the loop's own thread, or something blocks it.
        """
        if self._door.here:
            raise TaskError(
                "this call has to wait for a decision, which must not block the event loop: "
                "make the tool `async def`, or call it in a worker thread"
            )
        self.refuse_blocked()
        return anyio.from_thread.run(function, *args, token=self._token)

    def refuse_blocked(self) -> None:
        """Return if this loop comes to what it is given, for a thread that is about to wait for it.

        What is begun may take its time, such as a person; that it begins may not: the loop may be blocked
        by whoever waits for this very thread.

        Raises:
            TaskError: It does not come to it.
            RuntimeError: It has ended.
        """
        answers = Event()
        self._door.soon(answers.set)
        if not answers.wait(_PATIENCE):
            raise TaskError(
                f"the event loop that this agent lives on has not answered for {_PATIENCE:g} s: something blocks it, "
                "perhaps what waits for this very thread, such as an agent that is run without `await`; "
                "run that with `await`, or in a worker thread"
            )

    def try_for(self, function: Callable[[*_Args], Coroutine[Any, Any, object]], *args: *_Args) -> None:
        """As `wait_for`, where it can be: not in the loop's own thread, nor after it; for what the end does, too."""
        with suppress(TaskError, RuntimeError):
            self.wait_for(function, *args)
