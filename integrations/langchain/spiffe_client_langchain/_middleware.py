"""Around each tool call: decided before the tool runs, with credentials that end with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import ToolCall, ToolMessage
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from spiffe_client.agents import Answer, Call, ToolGate
from spiffe_client.agents._records import record_ignored
from spiffe_client.errors import DeniedError, NoTaskError, TaskEndedError
from spiffe_client_langchain._cleaning import cleaned
from spiffe_client_langchain._people import Asked, ask
from spiffe_client_langchain._tools import KnownTool, KnownTools

__all__ = ["TaskCredentials"]


class TaskCredentials(AgentMiddleware):
    """Makes each tool call of an agent one of the present task's; what the gate does not list is denied.

    `create_agent(…, middleware=[…, TaskCredentials(gate)])`: the last one is the innermost, and sees
    what the tool gets. For LangGraph's `ToolNode` it is `wrap_tool_call=it.wrap_tool_call,
    awrap_tool_call=it.awrap_tool_call`; give both.

    A denial is the tool's answer to the model, with the status `error`. Without a task, or when it has
    ended, `NoTaskError` and `TaskEndedError` end the run. Where the contract wants a person's approval,
    and the agent has no approver of its own, the graph pauses (`interrupt`): it needs a checkpointer,
    and goes on with `Command(resume=approve(question, by=…))`, in the same task. An answer is used once,
    also where a graph is resumed from an earlier checkpoint.

    Args:
        gate: The tools by name, and what each needs.
        used: Says of an answer, by a key and when it was given, whether it is used for the first time, in all
            processes and for ever; one that is so old that it may have been forgotten was used. Answers are good
            in later tasks of the same agent, purpose and tenant, then, also after a restart. `UsedAnswers(folder)`
            is one. None: in the task only in which the question was asked; in another one it is asked again.
    """

    def __init__(self, gate: ToolGate, *, used: Callable[[str, datetime], bool] | None = None) -> None:
        super().__init__()
        self.gate = gate
        self._used = used
        self._known = KnownTools(gate)

    def wrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]],
    ) -> ToolMessage | Command[Any]:
        """See `AgentMiddleware.wrap_tool_call`."""
        try:
            made = self._prepare(request)
            with made.call:
                return made.over(handler(made.sent(self.gate)))
        except _OtherEndError as end:
            return end.message
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
            made = self._prepare(request)
            async with made.call:
                answer = made.over(await handler(made.sent(self.gate)))
        except _OtherEndError as end:
            return end.message
        except (NoTaskError, TaskEndedError):
            raise
        except DeniedError as error:
            return _denied(request, error)
        return answer

    def _prepare(self, request: ToolCallRequest) -> _Made:
        asked = request.tool_call
        name, call_id = asked["name"], asked["id"] or ""
        arguments: Mapping[str, Any] = asked["args"]
        known = None if request.tool is None else self._known.find(request.tool)
        if known is not None:
            arguments = known.own(arguments)
            request = ToolCallRequest(
                tool_call=asked, tool=known.twin, state=request.state, runtime=request.runtime
            )
        call = self.gate.call(name, arguments, call_id=call_id)
        question = None if call.task.host.approver is not None else self.gate.asks(call)
        if question is None:
            return _Made(call, request, known)
        task = call.task
        said = ask(
            question,
            name,
            arguments,
            call_id,
            task=task,
            lasting=self._used is not None,
            ignored=partial(record_ignored, call, "answer_of_another_task"),
        )
        if said is not None and not self._take(said, call):
            task.refuse(task.host.clock.monotonic())
            for result in said.results:
                raise _OtherEndError(result)
            said = None
        answer = Answer(question.digest, by="" if said is None else said.by, clock=task.host.clock)
        call = self.gate.call(name, arguments, call_id=call_id, approver=answer)
        return _Made(call, request, known, said)

    def _take(self, said: Asked, call: Call) -> bool:
        """Say whether a yes is used for the first time, and tell where it is not, or nobody knows."""
        try:
            first = said.take(self._used)
        except Exception:
            record_ignored(call, "answer_not_recorded")
            raise
        if not first:
            record_ignored(call, "answer_used")
        return first


@dataclass(frozen=True, slots=True)
class _Made:
    """A call that is about to be made."""

    call: Call
    request: ToolCallRequest
    known: KnownTool | None
    said: Asked | None = None

    def sent(self, gate: ToolGate) -> ToolCallRequest:
        """Return what goes to the tool, as it was decided about."""
        request, known = self.request, self.known
        now = request.tool_call["args"]
        if not gate.recheck(self.call, now if known is None else known.own(now)):
            return request
        # Nobody else holds these; what the framework has put in is not a model's to change, nor to be copied.
        injected = frozenset() if known is None else known.injected
        args = {name: value if name in injected else deepcopy(value) for name, value in now.items()}
        copied: ToolCall = {**request.tool_call, "args": args}
        return ToolCallRequest(
            tool_call=copied, tool=request.tool, state=request.state, runtime=request.runtime
        )

    def over(self, result: ToolMessage | Command[Any]) -> ToolMessage | Command[Any]:
        """Return what came back, without secrets."""
        clean: ToolMessage | Command[Any] = cleaned(self.call, result)
        if self.said is not None:
            self.said.keep(clean)
        if isinstance(clean, ToolMessage) and clean.status == "error":
            raise _OtherEndError(clean)
        return clean


class _OtherEndError(Exception):
    """What is an answer to the model, and to the audit an error, or no call at all.

    The framework made a message of a tool's error; or it makes a call again that somebody had approved once.
    """

    def __init__(self, message: ToolMessage | Command[Any]) -> None:
        super().__init__("the tool failed")
        self.message = message


def _denied(request: ToolCallRequest, error: DeniedError) -> ToolMessage:
    asked = request.tool_call
    return ToolMessage(str(error), name=asked["name"], tool_call_id=asked["id"], status="error")
