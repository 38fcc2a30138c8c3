"""Who makes an agent's tool calls in the demo, in place of a model: from a script, so that each run is the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Protocol, TypeAlias

from spiffe_client.agents import Requires, guard
from spiffe_client.errors import PolicyError, TaskEndedError

__all__ = ["PlainPlayer", "Player", "Tool", "ToolCall", "player_for"]

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
    note = "(plain tools; for LangChain: pip install ./integrations/langchain)"

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


def player_for(*tools: Tool) -> Player:
    """Return who plays with these tools: a LangChain agent, if the integration is there."""
    try:
        module = import_module(_LANGCHAIN)
    except ImportError:
        return PlainPlayer(*tools)
    player: Player = module.ScriptedAgent(*tools)
    return player
