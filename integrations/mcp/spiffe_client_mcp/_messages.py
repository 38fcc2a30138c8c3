"""JSON-RPC as MCP sends it: what a request is about, and answers that are a denial."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

from spiffe_client._json import parse_json_object

__all__ = [
    "DENIED",
    "SESSION_METHODS",
    "ListedTool",
    "Message",
    "denied",
    "error_body",
    "listed_tools",
    "read_message",
    "uncached",
]

#: The code of the JSON-RPC error that a denial is.
DENIED: Final = -32001
#: What belongs to a session and to no call: it goes with the session's credential, never with a call's.
SESSION_METHODS: Final = frozenset(
    {
        "initialize",
        "logging/setLevel",
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/progress",
        "notifications/roots/list_changed",
        "ping",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "server/discover",
        "subscriptions/listen",
        "tools/list",
    }
)
_FORBIDDEN: Final = 403


@dataclass(frozen=True, slots=True)
class Message:
    """What a client sends.

    Attributes:
        method: What for; empty for the answer to a request of the server's.
        id: Of a request; None for what has no answer.
        params: With what.
        tool: The tool that is called; empty for other methods.
        arguments: The tool's.
        whole: All of it.
    """

    method: str
    id: str | int | None
    params: Mapping[str, object]
    tool: str = ""
    arguments: Mapping[str, object] | None = None
    whole: Mapping[str, object] = field(default_factory=dict)

    @property
    def cancels(self) -> object:
        """The id of the request that is given up by this; None if none is."""
        return self.params.get("requestId") if self.method == "notifications/cancelled" else None


def read_message(body: bytes) -> Message | None:
    """Read one message; None if it is none, or several, or could be read in two ways.

    Args:
        body: Its size is the caller's to limit.
    """
    said = parse_json_object(body)
    if said is None or said.get("jsonrpc") != "2.0":
        return None
    number, params = said.get("id"), said.get("params", {})
    if (
        isinstance(number, bool)
        or not isinstance(number, str | int | None)
        or ("id" in said) == (number is None)
    ):
        return None
    if not isinstance(params, dict):
        return None
    if "method" not in said:
        answers = number is not None and ("result" in said) != ("error" in said)
        return Message("", None, {}) if answers else None
    return _request(said, number, params)


def _request(
    said: Mapping[str, object], number: str | int | None, params: Mapping[str, object]
) -> Message | None:
    method, tool, arguments = said["method"], params.get("name"), params.get("arguments")
    if not isinstance(method, str) or not method:
        return None
    if method != "tools/call":
        return Message(method, number, params)
    if number is None or not isinstance(tool, str) or not tool or not isinstance(arguments, dict | None):
        return None
    return Message(method, number, params, tool, arguments or {}, said)


@dataclass(frozen=True, slots=True)
class ListedTool:
    """A tool as its server lists it.

    Attributes:
        name: Its name.
        defaults: What the server takes for arguments that are left out, as far as it says so.
    """

    name: str
    defaults: Mapping[str, object]


def listed_tools(document: Mapping[str, object]) -> list[ListedTool]:
    """Return the tools in an answer to `tools/list`; what is malformed is not there."""
    result = document.get("result")
    tools = result.get("tools") if isinstance(result, dict) else None
    found = []
    for tool in tools if isinstance(tools, list) else ():
        schema = tool.get("inputSchema") if isinstance(tool, dict) else None
        properties = schema.get("properties") if isinstance(schema, dict) else None
        if isinstance(properties, dict) and isinstance(tool.get("name"), str):
            said = properties.items()
            defaults = {name: p["default"] for name, p in said if isinstance(p, dict) and "default" in p}
            found.append(ListedTool(tool["name"], defaults))
    return found


def uncached(document: MutableMapping[str, Any]) -> None:
    """Have a client not keep an answer: who asks for it next may be another task, about which nobody has decided."""
    result = document.get("result")
    if isinstance(result, dict):
        result |= {"ttlMs": 0, "cacheScope": "private"}


def error_body(number: str | int | None, text: str) -> bytes:
    """Return the JSON-RPC error that answers a request.

    Args:
        number: The request's id.
        text: For the model.
    """
    error = {"code": DENIED, "message": text}
    return json.dumps({"jsonrpc": "2.0", "id": number, "error": error}).encode()


def denied(number: str | int | None, text: str) -> httpx2.Response:
    """Return the answer to a request that is not sent.

    It is one that clients of every version of the protocol take for the answer to that request, and
    go on. Whatever is raised instead ends the session.

    Args:
        number: The request's id; None if it has none.
        text: For the model.
    """
    headers = {"content-type": "application/json"}
    return httpx2.Response(_FORBIDDEN, headers=headers, content=error_body(number, text))
