"""Who makes an agent's tool calls in the demo, in place of a model: from a script, so that each run is the same."""

from __future__ import annotations

import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from types import ModuleType
from typing import Protocol, TypeAlias, cast

import anyio
import anyio.to_thread

from spiffe_client.agents import Requires, guard
from spiffe_client.errors import PolicyError, TaskEndedError

__all__ = ["PlainPlayer", "Player", "Tool", "ToolCall", "loading", "player_for"]

#: A tool, and what it needs.
Tool: TypeAlias = tuple[Callable[..., Awaitable[str]], Requires]
#: A tool's name, and what a model would give it.
ToolCall: TypeAlias = tuple[str, Mapping[str, object]]

#: The integration's part of the demo.
_LANGCHAIN = "spiffe_client_langchain.demo"


class Player(Protocol):
    """Makes tool calls.

    Attributes:
        framework: What runs the tools.
        note: What to say about that.
    """

    framework: str
    note: str

    async def play(self, *calls: ToolCall) -> list[str]:
        """Make these calls, one after the other, and return what a model is told of each.

        Raises:
            TaskEndedError: There is no task any more to make them in.
        """
        ...


class PlainPlayer:
    """Calls the tools as they are, guarded.

    Args:
        tools: The tools.
    """

    framework = "none"
    note = "(plain tools; for LangChain: pip install 'spiffe-client[demo]')"

    def __init__(self, *tools: Tool) -> None:
        self._tools = {
            tool.__name__: guard(tool, requires=needs.action, resource=needs.resource)
            for tool, needs in tools
        }

    async def play(self, *calls: ToolCall) -> list[str]:
        """See `Player.play`."""
        told = []
        for name, arguments in calls:
            try:
                told.append(await self._tools[name](**arguments))
            except TaskEndedError:
                raise
            except PolicyError as error:
                told.append(str(error))
        return told


@asynccontextmanager
async def loading() -> AsyncIterator[None]:
    """Import LangChain meanwhile, in a thread, so that the agent need not wait: it takes a second.

    Nothing else may be imported in that time: of two threads that import the same, one may see half of it.
    """
    thread = threading.Thread(target=_integration, name="demo import")
    thread.start()
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(thread.join)


def _integration() -> ModuleType | None:
    with warnings.catch_warnings(action="ignore"):  # what libraries tell each other is no part of the story
        try:
            return import_module(_LANGCHAIN)
        except ImportError:
            return None


def player_for(*tools: Tool) -> Player:
    """Return who plays with these tools: a LangChain agent, if the integration is there."""
    module = _integration()
    return PlainPlayer(*tools) if module is None else cast("Player", module.ScriptedAgent(*tools))
