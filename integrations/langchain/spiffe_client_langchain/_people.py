"""Questions for people, as LangGraph's interrupts, and their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langgraph.types import interrupt

from spiffe_client.policy import ApprovalRequest

__all__ = ["approve", "ask", "refuse"]

#: What an answer repeats of its question: it is about this call and no other.
_ECHO: Final = ("tool_call", "action", "resource", "arguments")


def ask(request: ApprovalRequest, name: str, arguments: Mapping[str, Any], tool_call: str) -> str:
    """Pause the graph until somebody has answered; return who said yes, or nothing.

    Args:
        request: What is asked.
        name: The tool's name.
        arguments: The tool's arguments: whoever is asked has to see them.
        tool_call: The id of the tool call.
    """
    question = {
        "type": "spiffe_client.approval",
        "tool_call": tool_call,
        "tool": name,
        "args": dict(arguments),
        "action": request.action,
        "resource": request.resource,
        "arguments": request.arguments,
        "agent": str(request.agent),
        "purpose": request.purpose,
        "tenant": request.tenant,
        "text": request.text,
    }
    answer = interrupt(question)
    if not isinstance(answer, Mapping) or any(answer.get(key) != question[key] for key in _ECHO):
        return ""
    by = answer.get("approved_by")
    return by if isinstance(by, str) else ""


def approve(question: Mapping[str, Any], *, by: str) -> dict[str, Any]:
    """Return the yes to a question, for `Command(resume=…)`.

    Args:
        question: The interrupt's value; what of it the person was shown, they have approved.
        by: Who says so; it is recorded.

    Raises:
        ValueError: Nobody does.
    """
    if not by:
        raise ValueError("an approval has somebody who gives it: by=…")
    return {"approved_by": by, **{key: question[key] for key in _ECHO}}


def refuse(question: Mapping[str, Any]) -> dict[str, Any]:
    """Return the no to a question, for `Command(resume=…)`.

    Args:
        question: The interrupt's value.
    """
    return {"approved_by": "", **{key: question[key] for key in _ECHO}}
