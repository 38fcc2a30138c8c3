"""Tools, each of whose calls is decided, bound to credentials of its own, and recorded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_type_hints, overload

from spiffe_client.agents._admission import is_bound, recheck
from spiffe_client.agents._arguments import Parameters, ResourcePath
from spiffe_client.agents._call import Call
from spiffe_client.agents._context import task_of_call
from spiffe_client.agents._gate import Requires

if TYPE_CHECKING:
    from spiffe_client.agents._task import Task

__all__ = ["guard"]

_F = TypeVar("_F", bound=Callable[..., Any])

#: What a parameter's annotation is called, and what is given for it.
_INJECTED: Final[dict[str, Callable[[Call], object]]] = {
    "httpx.AsyncClient": lambda call: call.http,
    "httpx.Client": lambda call: call.http_sync,
    "Call": lambda call: call,
}
#: A resource that is none: what cannot be part of a resource is on nobody's list.
_NONE: Final = "?"


@overload
def guard(function: _F, *, requires: str, resource: str = "", classification: str = "") -> _F: ...
@overload
def guard(*, requires: str, resource: str = "", classification: str = "") -> Callable[[_F], _F]: ...


def guard(
    function: Callable[..., Any] | None = None,
    *,
    requires: str,
    resource: str = "",
    classification: str = "",
) -> Callable[..., Any]:
    """Make a tool whose every call is one of the present task's, or is denied.

    For functions and coroutine functions; as a decorator, or with the function as first argument. A
    parameter annotated `httpx.AsyncClient`, `httpx.Client` or `Call` is given by the guard, and callers
    (and so models) do not see it. What the tool returns or raises passes without tokens and keys.

    Args:
        function: The tool.
        requires: The action, as the contract calls it.
        resource: What it touches, with its arguments in braces: `tenants/{tenant}/invoices/{invoice_id}`.
            What is no argument is taken from the task.
        classification: How confidential that is.

    Raises:
        TypeError: The tool is a generator: it would run after its call has ended.
        ValueError: The resource is malformed, or an argument it names is injected; or no contract can have
            such an action, or there is no such classification.
    """
    if function is None:
        return lambda tool: guard(tool, requires=requires, resource=resource, classification=classification)
    if _is(inspect.isgeneratorfunction, function) or _is(inspect.isasyncgenfunction, function):
        raise TypeError(f"{function!r} is a generator, which runs after its call has ended: return a list")
    tool = _Tool(function, Requires(requires, resource, classification))
    return tool.guarded() if _is(inspect.iscoroutinefunction, function) else tool.guarded_blocking()


def _is(kind: Callable[[Any], bool], function: Callable[..., Any]) -> bool:
    return kind(function) or kind(type(function).__call__)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - names that only type checkers know; what can be is read from their text
        return dict(getattr(function, "__annotations__", {}))


def _name(hint: object) -> str:
    if isinstance(hint, str):
        return hint.rpartition(".")[2] if hint.endswith(".Call") else hint
    if hint is Call:
        return "Call"
    return f"{getattr(hint, '__module__', '')}.{getattr(hint, '__qualname__', '')}"


class _Tool:
    """A tool, and what is known of it before it is called."""

    def __init__(self, function: Callable[..., Any], rule: Requires) -> None:
        hints = _hints(function)
        names = {name: _name(hint) for name, hint in hints.items() if name != "return"}
        self._function = function
        self._requires = rule.action
        self._resource = ResourcePath(rule.resource)
        self._classification = rule.classification
        self._injected = {name: _INJECTED[kind] for name, kind in names.items() if kind in _INJECTED}
        # Who is given the call may keep it, and end it alone.
        self._in_place = "Call" not in map(names.get, self._injected)
        self._parameters = Parameters(function, frozenset(self._injected))
        self._hints = {name: hint for name, hint in hints.items() if name not in self._injected}
        if hidden := sorted(self._resource.holes & self._injected.keys()):
            raise ValueError(f"the resource {rule.resource!r} names {hidden[0]!r}, which is injected")

    def _dress(self, guarded: Callable[..., Any]) -> Callable[..., Any]:
        """Make the guarded function look like the tool, without a way to the unguarded one."""
        update_wrapper(
            guarded, self._function, assigned=("__module__", "__name__", "__qualname__", "__doc__")
        )
        del guarded.__wrapped__  # type: ignore[attr-defined]
        guarded.__signature__ = self._parameters.signature  # type: ignore[attr-defined]
        guarded.__annotations__ = self._hints
        return guarded

    def _call(self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        arguments = self._parameters.bind(args, kwargs)
        resource = self._resource.fill(arguments, task.names)
        return Call(
            task,
            self._requires,
            _NONE if resource is None else resource,
            arguments=arguments,
            classification=self._classification,
            in_place=self._in_place,
        )

    def _given(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return what the tool is called with."""
        if is_bound(call):
            # Lists and mappings may have been changed while a person looked at what they held.
            recheck(call, self._parameters.bind(args, kwargs))
        if not self._injected:
            return kwargs
        return {**kwargs, **{name: make(call) for name, make in self._injected.items()}}

    def guarded(self) -> Callable[..., Any]:
        """Return the guarded coroutine function."""

        async def guarded(*args: Any, **kwargs: Any) -> Any:
            async with self._call(task_of_call(self._requires), args, kwargs) as call:
                try:
                    result = await self._function(*args, **self._given(call, args, kwargs))
                except BaseException as error:
                    call.clean_error(error)
                    raise
                return call.clean(result)

        return self._dress(guarded)

    def guarded_blocking(self) -> Callable[..., Any]:
        """Return the guarded function."""

        def guarded(*args: Any, **kwargs: Any) -> Any:
            with self._call(task_of_call(self._requires), args, kwargs) as call:
                try:
                    result = self._function(*args, **self._given(call, args, kwargs))
                except BaseException as error:
                    call.clean_error(error)
                    raise
                return call.clean(result)

        return self._dress(guarded)
