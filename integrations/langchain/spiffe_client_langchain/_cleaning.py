"""What a tool returned, without tokens and keys, also inside of LangChain's and LangGraph's own values."""

from __future__ import annotations

from typing import Any, Final

from langchain_core.messages import ToolMessage
from langgraph.errors import GraphBubbleUp
from langgraph.types import Send

from spiffe_client.agents import Call, Scrubber

__all__ = ["clean_pause", "cleaned"]

_HARMLESS: Final = frozenset((bool, int, float, type(None)))
_EMPTY: Final = frozenset((dict, list, tuple))


class _Scrubber(Scrubber):
    """Knows what LangGraph sends; a value of a type that nobody knows becomes text if its text shows a secret."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        super().__init__(call.secrets())
        self._call = call

    def parts(self, value: object) -> dict[str, object] | None:
        """See `Scrubber.parts`."""
        if isinstance(value, Send):
            return {"node": value.node, "arg": value.arg}
        return super().parts(value)

    def opaque(self, value: object) -> object:
        """See `Scrubber.opaque`."""
        self._call.clean(value)  # refuses what would run later
        text = str(value)
        safe = self.text(text)
        return value if safe == text else safe


def cleaned(call: Call, value: Any) -> Any:
    """Return a value without secrets; the same object where there are none.

    Raises:
        TypeError: It would run after the call has ended.
    """
    kind = type(value)
    if kind is str or kind is bytes:
        return call.clean(value)
    if (
        kind in _HARMLESS
        or (kind in _EMPTY and not value)
        or (kind is ToolMessage and _is_plain(call, value))
    ):
        return value
    scrubber = _Scrubber(call)
    clean = scrubber.clean(value)
    call.redacted += scrubber.count
    return clean


def _is_plain(call: Call, message: ToolMessage) -> bool:
    """Say whether there is text in a message, and nothing else, and no secret: as in most."""
    if message.artifact is not None or message.additional_kwargs or message.response_metadata:
        return False
    content = message.content
    return type(content) is str and Scrubber(call.secrets()).text(content) is content


def clean_pause(call: Call, pause: GraphBubbleUp) -> None:
    """Take secrets out of what a tool pauses a graph with, or hands on to its parent."""
    pause.args = cleaned(call, pause.args)
