"""Tools as the guard runs them: with the arguments that were decided about, and clean results."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import update_wrapper, wraps
from typing import Any, Final, get_args, get_origin, get_type_hints

from langchain.tools import InjectedState, InjectedStore, InjectedToolCallId, ToolRuntime
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langgraph.errors import GraphBubbleUp
from pydantic import BaseModel

from spiffe_client.agents import Call, ToolGate, current_call, guard
from spiffe_client.agents._admission import is_bound
from spiffe_client.errors import DeniedError, NoTaskError, TaskEndedError, TaskError
from spiffe_client_langchain._cleaning import clean_pause, cleaned

__all__ = ["KnownTool", "KnownTools", "guarded_tool"]

#: So many tools are known at a time; a graph that makes tools as it goes has others later.
_MOST: Final = 256
#: What the framework puts in by itself.
_INJECTED: Final = (InjectedState, InjectedStore, InjectedToolCallId, ToolRuntime)


@dataclass(frozen=True, slots=True)
class KnownTool:
    """What is known of a tool.

    Attributes:
        tool: As the framework has it.
        twin: Checks what it gets, and cleans what it returns.
        defaults: What arguments of a model are if it leaves them out.
        injected: Names of what the framework puts in, whatever a model says; versions of it differ in whether it
            has done so already.
    """

    tool: BaseTool
    twin: BaseTool
    defaults: Mapping[str, Any]
    injected: frozenset[str]

    def own(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is a model's of arguments, and defaults."""
        if not self.injected.isdisjoint(arguments):
            arguments = {name: value for name, value in arguments.items() if name not in self.injected}
        return {**self.defaults, **arguments} if self.defaults else arguments


class KnownTools:
    """What has to be known of each tool, found out once.

    Args:
        gate: Verifies what tools get.
    """

    def __init__(self, gate: ToolGate) -> None:
        self._gate = gate
        self._known: dict[int, KnownTool] = {}

    def find(self, tool: BaseTool) -> KnownTool:
        """Return what is known of a tool."""
        known = self._known.get(id(tool))
        if known is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            known = KnownTool(tool, _twin(tool, self._gate), _defaults(tool), _injected(tool))
            _watch(known, self._gate)
            self._known[id(tool)] = known
        return known


def _function(tool: BaseTool) -> Callable[..., Any]:
    function: Callable[..., Any] | None = getattr(tool, "func", None) or getattr(tool, "coroutine", None)
    return function or tool._run  # noqa: SLF001


def _injected(tool: BaseTool) -> frozenset[str]:
    hints: dict[str, Any] = {}
    for known in (_function(tool), tool.get_input_schema()):
        with suppress(NameError, TypeError):
            hints |= get_type_hints(known, include_extras=True)
    return frozenset(name for name, hint in hints.items() if _is_injected(hint))


def _is_injected(hint: Any) -> bool:
    kind = hint if isinstance(hint, type) else get_origin(hint) or type(hint)
    return (isinstance(kind, type) and issubclass(kind, _INJECTED)) or any(map(_is_injected, get_args(hint)))


def _signature_defaults(tool: BaseTool) -> dict[str, Any]:
    parameters = inspect.signature(_function(tool)).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def _defaults(tool: BaseTool) -> dict[str, Any]:
    """Return what arguments of a model are if it leaves them out; not those that it cannot give."""
    schema = tool.tool_call_schema
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        return {name: value for name, value in _signature_defaults(tool).items() if name in tool.args}
    fields = schema.model_fields.items()
    return {name: it.get_default(call_default_factory=True) for name, it in fields if not it.is_required()}


def _twin(tool: BaseTool, gate: ToolGate) -> BaseTool:
    """Return a copy whose two ways to run verify what they get, and clean what they return or raise.

    In here, and not around the framework's own code: what that traces and reports is clean, too.
    """
    twin = copy(tool)
    run, arun = tool._run, tool._arun  # noqa: SLF001 - what a tool class implements, and its callers call
    missing, names = _signature_defaults(tool), list(tool.args)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        call = current_call()
        if call is None:
            raise TaskError(f"the tool {tool.name} runs in a context without its call")
        call.refuse()
        gate.verify(call, tool.name, {**missing, **dict(zip(names, args, strict=False)), **kwargs})
        return call

    def checked_run(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        try:
            return cleaned(call, run(*args, **kwargs))
        except GraphBubbleUp as pause:
            clean_pause(call, pause)
            raise
        except Exception as error:
            call.clean_error(error)
            raise

    async def checked_arun(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        try:
            return cleaned(call, await arun(*args, **kwargs))
        except GraphBubbleUp as pause:
            clean_pause(call, pause)
            raise
        except Exception as error:
            call.clean_error(error)
            raise

    _pose(checked_run, run)
    _pose(checked_arun, arun)
    vars(twin).update(_run=checked_run, _arun=checked_arun)
    return twin


def _watch(known: KnownTool, gate: ToolGate) -> None:
    """Have a twin look at what it is given, before validators: no argument of a call that is bound to them may change."""
    run, arun = known.twin.run, known.twin.arun

    def check(given: Any) -> None:
        call = current_call()
        if call is not None and is_bound(call):
            gate.recheck(call, known.own(given))

    def watched_run(tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        check(tool_input)
        return run(tool_input, *args, **kwargs)

    async def watched_arun(tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        check(tool_input)
        return await arun(tool_input, *args, **kwargs)

    vars(known.twin).update(run=watched_run, arun=watched_arun)


def _pose(checked: Any, method: Callable[..., Any]) -> None:
    """Make a function look like a method, with all that LangChain finds out at each call found out before."""
    update_wrapper(checked, method)
    del checked.__wrapped__
    checked.__signature__ = inspect.signature(method)
    with suppress(NameError):  # of names that only type checkers know
        checked.__annotations__ = get_type_hints(method)


def guarded_tool(
    function: Callable[..., Any] | None = None,
    *,
    requires: str,
    resource: str = "",
    classification: str = "",
) -> Any:
    """Make a LangChain tool whose every call is one of the present task's, or is denied; in place of `@tool`.

    As `spiffe_client.agents.guard`, with its injected arguments, for agents without `TaskCredentials`. A
    denial is the tool's answer, with the status `error`. Calls have no framework's ids here: one that is
    made again is another one, and a person is asked by the agent's own approver.

    Args:
        function: The tool, with a docstring for the model.
        requires: The action, as the contract calls it.
        resource: What it touches, with its arguments in braces.
        classification: How confidential that is.
    """
    if function is None:
        return lambda it: guarded_tool(
            it, requires=requires, resource=resource, classification=classification
        )
    guarded = guard(function, requires=requires, resource=resource, classification=classification)
    if inspect.iscoroutinefunction(guarded):
        return StructuredTool.from_function(coroutine=_answering_async(guarded), handle_tool_error=_shown)
    return StructuredTool.from_function(_answering(guarded), handle_tool_error=_shown)


class _RefusedError(ToolException):
    """A denial, as LangChain's tools say so."""


def _shown(error: ToolException) -> str:
    if isinstance(error, _RefusedError):
        return str(error)
    raise error


def _answering(guarded: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(guarded)
    def answering(*args: Any, **kwargs: Any) -> Any:
        try:
            return guarded(*args, **kwargs)
        except (NoTaskError, TaskEndedError):
            raise
        except DeniedError as error:
            raise _RefusedError(str(error)) from error

    return answering


def _answering_async(guarded: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(guarded)
    async def answering(*args: Any, **kwargs: Any) -> Any:
        try:
            return await guarded(*args, **kwargs)
        except (NoTaskError, TaskEndedError):
            raise
        except DeniedError as error:
            raise _RefusedError(str(error)) from error

    return answering
