"""Questions for people, as LangGraph's interrupts, and their answers, each of which is used once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from weakref import WeakKeyDictionary

from langgraph.config import get_config
from langgraph.types import interrupt

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.agents import Task
from spiffe_client.policy import ApprovalRequest

__all__ = ["Asked", "approve", "ask", "refuse"]

#: What an answer repeats of its question: it is about this call and no other. `pause` is where the graph has
#: paused: thread, checkpoint and node; a graph that goes on there a second time has the same.
_ECHO: Final = (
    "tool_call",
    "tool",
    "action",
    "resource",
    "arguments",
    "digest",
    "agent",
    "purpose",
    "tenant",
    "pause",
    "task",
)
#: Of each task, what it has done with answers, and what came of it, if that is known.
_DONE: Final[WeakKeyDictionary[Task, dict[str, list[Any]]]] = WeakKeyDictionary()


class Asked:
    """A person's yes, for one call.

    Args:
        by: Who said so.
        task: Whose call it is.
        key: Tells this answer from all others.
        at: When they said so; None if that is not known.
    """

    def __init__(self, by: str, task: Task, key: str, at: datetime | None) -> None:
        self.by = by
        self._at = at
        self._done = _DONE.setdefault(task, {})
        self._key = key

    def take(self, used: Callable[[str, datetime], bool] | None) -> bool:
        """Say whether it is used for the first time, which makes it used.

        Where answers last, one that does not say when it was given is none: it would be good for ever.
        """
        mine: list[Any] = []
        # In one step: two threads may go on from the same pause.
        if self._done.setdefault(self._key, mine) is not mine:
            return False
        return used is None or (self._at is not None and used(self._key, self._at))

    @property
    def results(self) -> list[Any]:
        """What came of it, when it was used; empty if that is not known."""
        return self._done.get(self._key, [])

    def keep(self, result: Any) -> None:
        """Keep what came of it: a graph that makes the call again, as after another pause, gets that."""
        self._done[self._key].append(result)


def ask(
    request: ApprovalRequest,
    name: str,
    arguments: Mapping[str, Any],
    tool_call: str,
    *,
    task: Task,
    lasting: bool,
    ignored: Callable[[], object],
) -> Asked | None:
    """Pause the graph until somebody has answered; return their yes, or nothing.

    A yes that another task was given is none: it is told, and asked again.

    Args:
        request: What is asked.
        name: The tool's name.
        arguments: The tool's arguments: whoever is asked has to see them.
        tool_call: The id of the tool call.
        task: Whose call it is.
        lasting: Whether an answer is good in later tasks for the same work, too.
        ignored: Tells that an answer was another task's.
    """
    question = _question(request, name, arguments, tool_call, "" if lasting else task.id)
    echo = {key: question[key] for key in _ECHO}
    while True:
        answer = interrupt(question)
        if not isinstance(answer, Mapping):
            return None
        by, said = answer.get("approved_by"), {key: answer.get(key) for key in _ECHO}
        if not isinstance(by, str) or not by:
            return None
        if said == echo:
            return Asked(by, task, _hash(echo), _time(answer.get("approved_at")))
        # The digest is over the task, too.
        same = said == {**echo, "task": said["task"], "digest": said["digest"]}
        if not same or said["task"] == echo["task"]:
            return None
        ignored()


def _question(
    request: ApprovalRequest, name: str, arguments: Mapping[str, Any], tool_call: str, task: str
) -> dict[str, Any]:
    """Return what people see; without a task, it is asked for all tasks that do the same work."""
    return {
        "type": "spiffe_client.approval",
        "tool_call": tool_call,
        "tool": name,
        "args": dict(arguments),
        "action": request.action,
        "resource": request.resource,
        "arguments": request.arguments,
        "digest": request.digest if task else "",
        "agent": str(request.agent),
        "purpose": request.purpose,
        "tenant": request.tenant,
        "text": request.text,
        "pause": _pause(),
        "task": task,
    }


def _pause() -> str:
    at = get_config().get("configurable", {})
    return _hash([at.get("thread_id"), at.get("checkpoint_ns")])


def _time(said: object) -> datetime | None:
    if isinstance(said, bool) or not isinstance(said, int | float):
        return None
    try:
        return datetime.fromtimestamp(said, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _hash(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def approve(question: Mapping[str, Any], *, by: str) -> dict[str, Any]:
    """Return the yes to a question, for `Command(resume=…)`.

    Args:
        question: The interrupt's value; what of it the person was shown, they have approved.
        by: Who says so, now; it is recorded.

    Raises:
        ValueError: Nobody does.
    """
    if not by:
        raise ValueError("an approval has somebody who gives it: by=…")
    at = SYSTEM_CLOCK.now().timestamp()
    return {"approved_by": by, "approved_at": at, **{key: question[key] for key in _ECHO}}


def refuse(question: Mapping[str, Any]) -> dict[str, Any]:
    """Return the no to a question, for `Command(resume=…)`.

    Args:
        question: The interrupt's value.
    """
    return {"approved_by": "", **{key: question[key] for key in _ECHO}}
