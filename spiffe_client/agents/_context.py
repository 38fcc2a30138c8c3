"""Whose work this is: kept in context variables, so that tools find it wherever they run."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import wraps
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from spiffe_client.agents._without_task import tell_no_task
from spiffe_client.errors import NoTaskError
from spiffe_client.policy import Decision

if TYPE_CHECKING:
    from spiffe_client.agents._call import Call
    from spiffe_client.agents._task import Task

__all__ = ["CALL", "TASK", "bind", "current_call", "current_task", "task_of_call"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: What is in them is a handle that can be closed: a copy of the context keeps no authority alive.
TASK: Final[ContextVar[Task | None]] = ContextVar("spiffe_client.task", default=None)
CALL: Final[ContextVar[Call | None]] = ContextVar("spiffe_client.call", default=None)


def current_task() -> Task:
    """Return the task that this code works for.

    Raises:
        NoTaskError: It works for none.
    """
    task = TASK.get()
    if task is None:
        raise _no_task()
    return task


def task_of_call(action: str) -> Task:
    """Return the task that a call is made for.

    Args:
        action: What is to be done.

    Raises:
        NoTaskError: There is none. The agents that are open here are told, or else the log.
    """
    task = TASK.get()
    if task is None:
        tell_no_task(action)
        raise _no_task()
    return task


def _no_task() -> NoTaskError:
    return NoTaskError(
        "not permitted: this is no part of any task. Make the call inside `async with me.task(…):`; "
        "in a thread pool of your own, submit spiffe_client.agents.bind(function)",
        decision=Decision(allowed=False, reason="no_task"),
    )


def current_call() -> Call | None:
    """Return the guarded call that this code is part of; None outside of any."""
    return CALL.get()


def bind(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make a function that works for the present task in whatever thread it is called.

    `asyncio.to_thread` and `anyio.to_thread.run_sync` do so by themselves; `ThreadPoolExecutor.submit`
    and `threading.Thread` do not. It may be called often, also at the same time.
    """
    context = copy_context()

    @wraps(function)
    def bound(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return context.copy().run(function, *args, **kwargs)

    return bound
