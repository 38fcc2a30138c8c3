"""What a tool returned, without tokens and keys, also inside of LangChain's and LangGraph's own values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from langchain_core.messages import BaseMessage
from langgraph.types import Command, Send

from spiffe_client.agents import Call

__all__ = ["cleaned"]

#: What of a message can hold anything.
_PARTS: Final = ("content", "artifact", "additional_kwargs", "response_metadata")
_HARMLESS: Final = frozenset((bool, int, float, type(None)))
_EMPTY: Final = frozenset((dict, list, tuple))


def cleaned(call: Call, value: Any) -> Any:
    """Return a value without secrets; the same object where there are none.

    A value of a type that nobody knows here becomes text if its text shows a secret.

    Raises:
        TypeError: It would run after the call has ended.
    """
    kind = type(value)
    if kind is str or kind is bytes:
        return call.clean(value)
    if kind in _HARMLESS or (kind in _EMPTY and not value):
        return value
    if isinstance(value, BaseMessage):
        return _message(call, value)
    if isinstance(value, Command | Send):
        return _order(call, value)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _container(call, value)
    call.clean(value)  # refuses what would run later
    text = str(value)
    safe = call.clean(text)
    return value if safe == text else safe


def _changed(values: Mapping[str, Any], clean: Callable[[Any], Any]) -> dict[str, Any]:
    new = {name: clean(value) for name, value in values.items()}
    return {name: value for name, value in new.items() if value is not values[name]}


def _message(call: Call, message: BaseMessage) -> BaseMessage:
    parts = {name: getattr(message, name, None) for name in _PARTS}
    update = _changed(parts, lambda part: cleaned(call, part))
    return message.model_copy(update=update) if update else message


def _order(call: Call, command: Command[Any] | Send) -> Command[Any] | Send:
    if isinstance(command, Send):
        arg = cleaned(call, command.arg)
        return command if arg is command.arg else Send(command.node, arg)
    parts = {"update": command.update, "resume": command.resume, "goto": command.goto}
    update = _changed(parts, lambda part: cleaned(call, part))
    return replace(command, **update) if update else command


def _container(call: Call, value: Any) -> Any:
    if isinstance(value, Mapping):
        pairs = [(cleaned(call, key), cleaned(call, each)) for key, each in value.items()]
        same = all(k is key and v is value[key] for (k, v), key in zip(pairs, value, strict=True))
        return value if same else dict(pairs)
    items = [cleaned(call, each) for each in value]
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    return tuple.__new__(type(value), items) if isinstance(value, tuple) else type(value)(items)
