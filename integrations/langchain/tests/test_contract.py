"""The contract of adapters: for `create_agent`, for a plain `ToolNode`, and for tools that are guarded one by one."""

from __future__ import annotations

from importlib.metadata import version
from threading import Lock
from typing import Any, ClassVar, Final

from langchain.agents import create_agent
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from tests.support.scripted_langchain import Model, agent_of, graph_of, play_async, play_blocking

from spiffe_client.testing import AdapterContract, Play
from spiffe_client_langchain import guarded_tool


#: LangChain switches a warning off while it makes a tool, for all threads: of two at once, the first to be
#: done switches it on for the other, which then fails, as warnings are errors here.
_MAKING: Final = Lock()


class LangChainContract(AdapterContract):
    def graph(self, play: Play, saver: InMemorySaver) -> Any:
        raise NotImplementedError

    async def run(self, play: Play) -> None:
        saver = InMemorySaver()
        await play_async(play, self.graph(play, saver), saver)

    def run_blocking(self, play: Play) -> None:
        saver = InMemorySaver()
        with _MAKING:
            graph = self.graph(play, saver)
        play_blocking(play, graph, saver)


class TestMiddleware(LangChainContract):
    """`create_agent(…, middleware=[TaskCredentials(gate)])`."""

    def graph(self, play: Play, saver: InMemorySaver) -> Any:
        return agent_of(play, saver)


class TestToolNode(LangChainContract):
    """`ToolNode(…, wrap_tool_call=…, awrap_tool_call=…)`."""

    def graph(self, play: Play, saver: InMemorySaver) -> Any:
        return graph_of(play, saver)


class TestToolNodeThatShowsErrors(LangChainContract):
    """The same with a node that shows the model the text of every exception, until 1.1.2 also that of a pause."""

    pauses: ClassVar[bool] = tuple(map(int, version("langgraph-prebuilt").split("."))) >= (1, 1, 2)

    def graph(self, play: Play, saver: InMemorySaver) -> Any:
        return graph_of(play, saver, handle_tool_errors=True)


class TestGuardedTools(LangChainContract):
    """`@guarded_tool(…)` in place of `@tool`, without any middleware."""

    has_call_ids: ClassVar[bool] = False
    has_gate: ClassVar[bool] = False
    pauses: ClassVar[bool] = False

    def graph(self, play: Play, saver: InMemorySaver) -> Any:
        tools = [_guarded(play, name, function) for name, function in play.tools.items()]
        return create_agent(Model(turns=play.turns), tools, checkpointer=saver)


def _guarded(play: Play, name: str, function: Any) -> Any:
    rule = play.gate.requires.get(name)
    if rule is None:  # a tool that the agent does not have
        return StructuredTool.from_function(lambda order: "there is no such tool", name=name, description="-")
    made = guarded_tool(function, requires=rule.action, resource=rule.resource)
    made.name = name
    return made
