"""Cancel scopes that other threads can cancel, and whether one of them is the innermost here."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Any, Final, Self

import anyio

from spiffe_client._door import Door
from spiffe_client.agents._loop import cancel_on

__all__ = ["Scope"]

#: Where anyio keeps the innermost cancel scope of each task of asyncio. It is not public, and nothing that is
#: public says it; where it is not found, no scope is known to be the innermost, and each call has its own.
_BACKEND: Final = "anyio._backends._asyncio"
_STATES: Final = "_task_states"


class Scope:
    """A cancel scope around what a task, or a call, does on the event loop.

    Args:
        door: The way into the event loop that this code runs on.
        kind: Of cancel scope, if it is known which kind that loop takes.
    """

    __slots__ = ("_runner", "_scope", "_state", "door")

    def __init__(self, door: Door, kind: type[anyio.CancelScope] = anyio.CancelScope) -> None:
        self.door: Door = door
        self._scope = kind()
        self._runner: asyncio.Task[Any] | None = None
        self._state: Any = None

    def __enter__(self) -> Self:
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._runner = self._state = (
            None  # a task of asyncio that failed holds what it ran, and would be held by it
        )
        return bool(self._scope.__exit__(kind, error, trace))

    def cancel(self) -> None:
        """Cancel what runs in it; from any thread."""
        cancel_on(self.door, self._scope)

    @property
    def caught(self) -> bool:
        """Whether what ran in it was cancelled by it."""
        return self._scope.cancelled_caught

    def note_place(self) -> None:
        """Remember where it was entered, so that it can be the innermost."""
        states = getattr(sys.modules.get(_BACKEND), _STATES, None)
        runner = _runner()
        if states is not None and runner is not None:
            state = states.get(runner)
            if getattr(state, "cancel_scope", None) is self._scope:
                self._runner, self._state = runner, state

    @property
    def innermost(self) -> bool:
        """Whether there is no other scope between it and this code: then cancelling it cancels this code.

        With one between it is not: that may be a shield.
        """
        state = self._state
        return state is not None and state.cancel_scope is self._scope and _runner() is self._runner

    def another(self) -> Scope:
        """Return a new one, for this code."""
        # One of the same kind costs less than asking which kind is needed here.
        return Scope(self.door, type(self._scope)) if self.door.here else Scope(Door())


def _runner() -> asyncio.Task[Any] | None:
    """Return the task of asyncio that this code runs in; None on another event loop, and outside of any."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
