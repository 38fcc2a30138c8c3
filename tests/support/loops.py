"""Agent frameworks of thirty lines: loops that run the calls of a script at once, with our adapters, good and bad."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread

from spiffe_client.agents import Answer, Call, bind, guard
from spiffe_client.errors import PolicyError, TaskEndedError, TaskError
from spiffe_client.testing import Play, ToolCall

__all__ = ["GateLoop", "GuardLoop"]


def defaults(tool: Callable[..., Any]) -> dict[str, Any]:
    return {n: p.default for n, p in inspect.signature(tool).parameters.items() if p.default is not p.empty}


class GateLoop:
    """Around each tool: `ToolGate`."""

    def call_of(self, play: Play, it: ToolCall, **more: Any) -> Call:
        arguments = {**self.arguments_of(play, it), **it.arguments}
        call = play.gate.call(it.name, arguments, call_id=self.id_of(it), **more)
        question = play.gate.asks(call)
        if question is None or more:
            return call
        reply = play.person(question.arguments)
        about = question.digest if self.is_about(reply, question) else reply.arguments
        return self.call_of(play, it, approver=Answer(about, by=reply.name))

    def arguments_of(self, play: Play, it: ToolCall) -> dict[str, Any]:
        return defaults(play.tools[it.name])

    def id_of(self, it: ToolCall) -> str:
        return it.id

    def is_about(self, reply: Any, question: Any) -> bool:
        return reply.arguments == question.arguments

    async def body(self, play: Play, it: ToolCall) -> Any:
        tool = play.tools[it.name]
        if inspect.iscoroutinefunction(tool):
            return await tool(**it.arguments)
        return await anyio.to_thread.run_sync(lambda: tool(**it.arguments))

    async def one(self, play: Play, it: ToolCall) -> Any:
        async with self.call_of(play, it) as call:
            try:
                result = await self.body(play, it)
            except Exception as error:
                call.clean_error(error)
                raise
            return call.clean(result)

    def one_blocking(self, play: Play, it: ToolCall) -> Any:
        with self.call_of(play, it) as call:
            try:
                result = play.tools[it.name](**it.arguments)
            except Exception as error:
                call.clean_error(error)
                raise
            return call.clean(result)

    async def shown(self, play: Play, it: ToolCall) -> None:
        try:
            text = await self.one(play, it)
        except TaskEndedError:
            raise
        except (PolicyError, TaskError) as error:
            text = error
        play.show(it.id, text)
        play.see({"state": text})

    def shown_blocking(self, play: Play, it: ToolCall) -> None:
        try:
            text = self.one_blocking(play, it)
        except TaskEndedError:
            raise
        except (PolicyError, TaskError) as error:
            text = error
        play.show(it.id, text)
        play.see({"state": text})

    async def run(self, play: Play) -> None:
        for turn in play.turns:
            async with anyio.create_task_group() as group:
                for it in turn:
                    group.start_soon(self.shown, play, it)

    def run_blocking(self, play: Play) -> None:
        with ThreadPoolExecutor() as pool:
            for turn in play.turns:
                list(pool.map(bind(lambda it: self.shown_blocking(play, it)), turn))


class GuardLoop(GateLoop):
    """The tools are guarded one by one; what has no guard is none."""

    def tool(self, play: Play, it: ToolCall) -> Callable[..., Any]:
        if it.name not in play.gate.requires:
            return lambda **_: "there is no such tool"
        rule = play.gate.requires[it.name]
        return guard(play.tools[it.name], requires=rule.action, resource=rule.resource)

    async def one(self, play: Play, it: ToolCall) -> Any:
        tool = self.tool(play, it)
        if inspect.iscoroutinefunction(tool):
            return await tool(**it.arguments)
        return await anyio.to_thread.run_sync(lambda: tool(**it.arguments))

    def one_blocking(self, play: Play, it: ToolCall) -> Any:
        return self.tool(play, it)(**it.arguments)
