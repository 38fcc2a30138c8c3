"""What an adapter is asked to run, and what it reports of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spiffe_client.agents import Task, ToolGate

__all__ = ["Play", "Reply", "ToolCall"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as a model asks for it.

    Attributes:
        name: The tool's name.
        arguments: By name.
        id: The framework's id of the call.
    """

    name: str
    arguments: Mapping[str, Any]
    id: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What a person says who was asked.

    Attributes:
        name: Who says yes; empty for a no.
        arguments: The digest of the arguments that it is about.
    """

    name: str
    arguments: str


@dataclass(slots=True)
class Play:
    """A script for a model, to be run through a framework; it takes down what comes of it.

    Attributes:
        gate: What the tools need.
        tools: By name; functions, or coroutine functions, whose annotations are plain types.
        turns: The calls that the model asks for, one message of it after the other.
        person: Who is asked where a framework pauses for a person: given the digest of the arguments.
        shown: What the model was shown, by the call's id.
        seen: All else that the framework kept or told: messages, state, traces.
        error: What the run raised.
        task: Whose run it was; None for nobody's.
    """

    gate: ToolGate
    tools: Mapping[str, Callable[..., Any]]
    turns: Sequence[Sequence[ToolCall]]
    person: Callable[[str], Reply]
    shown: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    error: BaseException | None = None
    task: Task | None = None

    def show(self, call_id: str, text: object) -> None:
        """Take down what the model was shown as a call's result."""
        self.shown[call_id] = str(text)

    def see(self, *things: object) -> None:
        """Take down what else there is: things as they print, for the hunt for secrets."""
        self.seen += [text for thing in things for text in (str(thing), repr(thing))]
