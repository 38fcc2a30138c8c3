"""A model that follows a script, and agents of LangChain and LangGraph around it, watched from all sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command
from spiffe_client_langchain import TaskCredentials, approve, refuse

from spiffe_client.testing import Play, ToolCall

__all__ = ["Model", "Watch", "agent_of", "graph_of", "play_async", "play_blocking", "tool_of"]


class Model(BaseChatModel):
    """Asks for the calls of each turn, one message after the other; then says that it is done."""

    turns: Sequence[Sequence[ToolCall]]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        said = sum(isinstance(message, AIMessage) for message in messages)
        calls = self.turns[said] if said < len(self.turns) else ()
        asked = [{"name": it.name, "args": dict(it.arguments), "id": it.id, "type": "tool_call"} for it in calls]
        message = AIMessage("" if asked else "done", tool_calls=asked)
        return ChatResult(generations=[ChatGeneration(message=message)])


class Watch(BaseCallbackHandler):
    """Sees what tracers see."""

    run_inline = True

    def __init__(self, play: Play) -> None:
        self._play = play

    def on_tool_start(self, serialized: Any, input_str: str, **more: Any) -> None:
        self._play.see(serialized, input_str, more)

    def on_tool_end(self, output: Any, **more: Any) -> None:
        self._play.see(output, more)

    def on_tool_error(self, error: BaseException, **more: Any) -> None:
        self._play.see(error, more)

    def on_chain_end(self, outputs: Any, **more: Any) -> None:
        self._play.see(outputs, more)

    def on_chain_error(self, error: BaseException, **more: Any) -> None:
        self._play.see(error, more)


def tool_of(function: Any) -> BaseTool:
    """What `@tool` makes."""
    return StructuredTool.from_function(
        **{"coroutine" if function.__code__.co_flags & 0x80 else "func": function}, name=function.__name__.removesuffix("_blocking")
    )


def agent_of(play: Any, saver: Any = None, *, used: Any = None, **more: Any) -> Any:
    """`create_agent` with the middleware."""
    tools = [tool_of(function) for function in play.tools.values()]
    middleware = [TaskCredentials(play.gate, used=used)]
    return create_agent(Model(turns=play.turns), tools, middleware=middleware, checkpointer=saver, **more)


def graph_of(play: Any, saver: Any = None, *, used: Any = None, **more: Any) -> Any:
    """A graph with a plain `ToolNode`, and the same object around its calls."""
    credentials, model = TaskCredentials(play.gate, used=used), Model(turns=play.turns)
    tools = ToolNode(
        [tool_of(function) for function in play.tools.values()],
        wrap_tool_call=credentials.wrap_tool_call,
        awrap_tool_call=credentials.awrap_tool_call,
        **more,
    )

    def think(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    def more_to_do(state: MessagesState) -> str:
        return "tools" if state["messages"][-1].tool_calls else END

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", tools)
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", more_to_do)
    graph.add_edge("tools", "think")
    return graph.compile(checkpointer=saver)


def answers(play: Play, result: Any) -> Command | None:
    """What a person says to all that a graph has paused for; None if it has not."""
    paused = result.get("__interrupt__") or ()
    play.see(*paused)
    return Command(resume={it.id: answer(play, it.value) for it in paused}) if paused else None


def answer(play: Play, question: Mapping[str, Any]) -> dict[str, Any]:
    reply = play.person(question["arguments"])
    said = approve(question, by=reply.name) if reply.name else refuse(question)
    about = question["digest"] if reply.arguments == question["arguments"] else reply.arguments
    return {**said, "digest": about}


def take_down(play: Play, saver: InMemorySaver, values: Mapping[str, Any]) -> None:
    for message in values.get("messages", ()):
        if isinstance(message, ToolMessage):
            play.show(message.tool_call_id, message.content)
    play.see(values, dict(saver.storage), dict(saver.writes), dict(saver.blobs))


CONFIG = {"configurable": {"thread_id": "1"}}


async def play_async(play: Play, agent: Any, saver: InMemorySaver) -> None:
    config = {**CONFIG, "callbacks": [Watch(play)]}
    todo: Any = {"messages": [HumanMessage("go")]}
    try:
        while todo is not None:
            todo = answers(play, await agent.ainvoke(todo, config))
    finally:
        take_down(play, saver, (await agent.aget_state(CONFIG)).values)


def play_blocking(play: Play, agent: Any, saver: InMemorySaver) -> None:
    config = {**CONFIG, "callbacks": [Watch(play)]}
    todo: Any = {"messages": [HumanMessage("go")]}
    try:
        while todo is not None:
            todo = answers(play, agent.invoke(todo, config))
    finally:
        take_down(play, saver, agent.get_state(CONFIG).values)
