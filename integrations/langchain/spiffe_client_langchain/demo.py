"""An agent whose model is a script, for `spiffe-client demo`: all of it is LangChain but the model."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool
from langsmith import tracing_context

from spiffe_client.agents import Requires, ToolGate
from spiffe_client_langchain._middleware import TaskCredentials

__all__ = ["ScriptedAgent"]


class _Script(BaseChatModel):
    """A model that makes these tool calls, one a turn, whatever it is told."""

    calls: Sequence[tuple[str, Mapping[str, Any]]]

    @property
    def _llm_type(self) -> str:
        return "script"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - it uses none, but those of its script
        """See `BaseChatModel.bind_tools`."""
        return self

    def _generate(self, messages: list[BaseMessage], *_args: Any, **_kwargs: Any) -> ChatResult:
        made = sum(isinstance(message, ToolMessage) for message in messages)
        if made == len(self.calls):
            said = AIMessage("that is all")
        else:
            name, arguments = self.calls[made]
            call = {"name": name, "args": dict(arguments), "id": secrets.token_hex(8)}
            said = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=said)])


class ScriptedAgent:
    """Makes tool calls as a LangChain agent with `TaskCredentials` does.

    Args:
        tools: Coroutine functions with a docstring, and what each needs.
    """

    framework = "langchain"
    note = "(by a LangChain agent, whose model is a script)"

    def __init__(self, *tools: tuple[Callable[..., Awaitable[str]], Requires]) -> None:
        self._gate = ToolGate({tool.__name__: needs for tool, needs in tools})
        self._tools = [StructuredTool.from_function(coroutine=tool) for tool, _ in tools]

    async def play(self, *calls: tuple[str, Mapping[str, object]]) -> list[str]:
        """Run an agent that makes these calls, and return what its model is told of each.

        Raises:
            TaskEndedError: There is no task any more to make them in.
        """
        agent: Any = create_agent(_Script(calls=calls), self._tools, middleware=[TaskCredentials(self._gate)])
        with tracing_context(enabled=False):  # whatever the environment says: it is a demo
            end = await agent.ainvoke({"messages": [HumanMessage("close the March books")]})
        return [str(message.content) for message in end["messages"] if isinstance(message, ToolMessage)]
