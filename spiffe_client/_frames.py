"""Errors without the frames below them, whose locals hold what was being read: keys and tokens.

Crash reporters print the locals of every frame on a traceback. Nothing of ours on it may show a
secret, so what takes one in is a border: errors leave it with their message, type and causes, and
without the tracebacks inside.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from os.path import basename
from typing import Any, ParamSpec, TypeVar

from spiffe_client.errors import SpiffeError

__all__ = ["async_border", "border", "place_of", "without_frames"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_E = TypeVar("_E", bound=BaseException)


def place_of(error: BaseException) -> str:
    """Say where an error was raised, by function, file and line; empty if it was not raised."""
    # By hand: the module traceback would read the source files, and an error's message.
    place = error.__traceback__
    if place is None:
        return ""
    while place.tb_next is not None:
        place = place.tb_next
    code = place.tb_frame.f_code
    return f"{code.co_name}, {basename(code.co_filename)}:{place.tb_lineno}"  # noqa: PTH119 - pathlib costs a start 1 ms


def without_frames(error: _E, *, handled: BaseException | None = None) -> _E:
    """Take the tracebacks off an error and off all it is linked to; return it.

    Args:
        error: What was raised.
        handled: What was being handled when that began: the caller's, whose frames stay.
    """
    # A cancellation is none of these: a deadline's error leads to it, and that is all.
    if isinstance(error, Exception) and not isinstance(error, SpiffeError) and (place := place_of(error)):
        # Unforeseen: whoever looks for the bug needs to know where it is.
        error.add_note(f"in {place}; frames hold secrets")
    seen = {id(handled), id(None)}
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            current.__traceback__ = None
            queue += (current.__cause__, current.__context__)
            queue += current.exceptions if isinstance(current, BaseExceptionGroup) else ()
    return error


def border(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make a function whose errors show nothing of its arguments and of what it calls."""

    @wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        handled = sys.exception()
        try:
            return function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - raised again; whatever it is, its frames hold secrets
            del args, kwargs
            raise without_frames(error, handled=handled)  # noqa: B904 - it is the same error

    return guarded


def async_border(function: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """As `border`, of a coroutine function."""

    @wraps(function)
    async def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        handled = sys.exception()
        try:
            return await function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - raised again; whatever it is, its frames hold secrets
            del args, kwargs
            raise without_frames(error, handled=handled)  # noqa: B904 - it is the same error

    return guarded
