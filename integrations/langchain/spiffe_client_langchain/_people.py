"""Questions for people, as LangGraph's interrupts, and their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langgraph.types import interrupt

from spiffe_client._clock import Clock
from spiffe_client.agents import Answer
from spiffe_client.policy import ApprovalRequest

__all__ = ["approve", "ask", "refuse"]

#: What an answer repeats of its question: it is about this call and no other.
_ECHO: Final = ("tool_call", "digest")


def ask(
    request: ApprovalRequest, name: str, arguments: Mapping[str, Any], tool_call: str, clock: Clock
) -> Answer:
    """Pause the graph until somebody has answered; return what they said, and about what.

    Args:
        request: What is asked.
        name: The tool's name.
        arguments: The tool's arguments: whoever is asked has to see them.
        tool_call: The id of the tool call.
        clock: For when.
    """
    question = {
        "type": "spiffe_client.approval",
        "tool_call": tool_call,
        "tool": name,
        "args": dict(arguments),
        "action": request.action,
        "resource": request.resource,
        "arguments": request.arguments,
        "digest": request.digest,
        "agent": str(request.agent),
        "purpose": request.purpose,
        "tenant": request.tenant,
        "text": request.text,
    }
    answer = interrupt(question)
    by, digest = "", ""
    if isinstance(answer, Mapping) and answer.get("tool_call") == tool_call:
        by, digest = answer.get("approved_by", ""), answer.get("digest", "")
    # What it says goes on as it is: it is compared, and a mismatch is told, where the call is decided.
    return Answer(digest, by=by if isinstance(by, str) else "", clock=clock)


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
