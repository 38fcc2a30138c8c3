"""Around each tool call: decided before the tool runs, with credentials that end with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import ToolMessage
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from spiffe_client.agents import Call, ToolGate
from spiffe_client.errors import DeniedError, NoTaskError, TaskEndedError
from spiffe_client_langchain._cleaning import cleaned
from spiffe_client_langchain._people import ask
from spiffe_client_langchain._tools import KnownTools

__all__ = ["TaskCredentials"]


class TaskCredentials(AgentMiddleware):
    """Makes each tool call of an agent one of the present task's; what the gate does not list is denied.

    `create_agent(…, middleware=[…, TaskCredentials(gate)])`: the last one is the innermost, and sees
    what the tool gets. For LangGraph's `ToolNode` it is `wrap_tool_call=it.wrap_tool_call,
    awrap_tool_call=it.awrap_tool_call`; give both.

    A denial is the tool's answer to the model, with the status `error`. Without a task, or when it has
    ended, `NoTaskError` and `TaskEndedError` end the run. Where the contract wants a person's approval,
    and the agent has no approver of its own, the graph pauses (`interrupt`): it needs a checkpointer,
    and goes on with `Command(resume=approve(question, by=…))`, in the same task.

    Args:
        gate: The tools by name, and what each needs.
    """

    def __init__(self, gate: ToolGate) -> None:
        super().__init__()
        self.gate = gate
        self._known = KnownTools(gate)

    def wrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]],
    ) -> ToolMessage | Command[Any]:
        """See `AgentMiddleware.wrap_tool_call`."""
        try:
            call, prepared = self._prepare(request)
            with call:
                return _over(call, handler(prepared))
        except _FailedError as failed:
            return failed.message
        except (NoTaskError, TaskEndedError):
            raise
        except DeniedError as error:
            return _denied(request, error)

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """See `AgentMiddleware.awrap_tool_call`."""
        try:
            call, prepared = self._prepare(request)
            async with call:
                answer = _over(call, await handler(prepared))
        except _FailedError as failed:
            return failed.message
        except (NoTaskError, TaskEndedError):
            raise
        except DeniedError as error:
            return _denied(request, error)
        return answer

    def _prepare(self, request: ToolCallRequest) -> tuple[Call, ToolCallRequest]:
        asked = request.tool_call
        name, call_id, arguments = asked["name"], asked["id"] or "", asked["args"]
        if request.tool is not None:
            twin, defaults = self._known.find(request.tool)
            arguments = {**defaults, **arguments} if defaults else arguments
            request = ToolCallRequest(
                tool_call=asked, tool=twin, state=request.state, runtime=request.runtime
            )
        call = self.gate.call(name, arguments, call_id=call_id)
        question = None if call.task.host.approver is not None else self.gate.asks(call)
        if question is not None:
            answer = ask(question, name, arguments, call_id, call.task.host.clock)
            call = self.gate.call(name, arguments, call_id=call_id, approver=answer)
        return call, request


class _FailedError(Exception):
    """The framework made a message of a tool's error: to the model an answer, to the audit an error."""

    def __init__(self, message: ToolMessage) -> None:
        super().__init__("the tool failed")
        self.message = message


def _over(call: Call, result: ToolMessage | Command[Any]) -> ToolMessage | Command[Any]:
    clean: ToolMessage | Command[Any] = cleaned(call, result)
    if isinstance(clean, ToolMessage) and clean.status == "error":
        raise _FailedError(clean)
    return clean


def _denied(request: ToolCallRequest, error: DeniedError) -> ToolMessage:
    asked = request.tool_call
    return ToolMessage(str(error), name=asked["name"], tool_call_id=asked["id"], status="error")
