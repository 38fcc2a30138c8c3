"""Denials: as text that a model may read and act on, and as what the audit gets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from spiffe_client.errors import DecisionUnavailableError, DeniedError, TaskEndedError
from spiffe_client.policy import Decision, Evidence, Reason, ResourceTemplate

if TYPE_CHECKING:
    from spiffe_client.agents._task import Task

__all__ = ["denial", "refusal", "shown"]

_LONGEST: Final = 160
#: A model reads what a model wrote: nothing of it but plain ASCII, and no brackets or quotes to break out of.
_UNPLAIN: Final = re.compile(r"[^A-Za-z0-9 ._~@+=:/*-]+")


def shown(text: str) -> str:
    """Return text that somebody else chose as it may stand in a message: plain, and not long."""
    plain = _UNPLAIN.sub("?", text)
    return plain if len(plain) <= _LONGEST else plain[:_LONGEST] + "..."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(shown, names))) or "nothing"


def _may(task: Task, _: str) -> str:
    return f"this task may do: {_listed(task.actions)}"


def _tenant(task: Task, _: str) -> str:
    return f"it is another tenant's; this task works for {shown(task.tenant) or 'no tenant'}"


def _resources(task: Task, action: str) -> str:
    known = task.host.contract.actions[action]
    names = task.names
    texts = (
        ResourceTemplate(text).fill(names).text
        for text in known.resources
        if names.keys() >= set(ResourceTemplate(text).parameters)
    )
    return f"this task may do it on: {_listed(texts)}"


def _next(task: Task, _: str) -> str:
    workflow = task.host.contract.workflow
    previous = task.previous
    following = (
        () if workflow is None else workflow.start if previous is None else workflow.follows.get(previous, ())
    )
    return f"what may come next: {_listed(task.actions & set(following))}"


#: What to say for each reason: words, or what makes them of the task and the action.
_WHY: Final[dict[Reason, str | Callable[[Task, str], str]]] = {
    "task_ended": "the task has ended",
    "budget_spent": "the calls of this task are used up",
    "rate": "too many calls within a minute; wait before the next one",
    "workflow": _next,
    "missing_scope": _may,
    "tenant_boundary": _tenant,
    "outside_purpose": _resources,
    "outside_window": "not at this time",
    "wrong_environment": "this agent does not run where it may",
    "classification": "what it touches is too confidential for this task",
    "contract_expired": "the permissions of this agent have expired",
    "not_approved": "it needs a person's approval, which was not given",
    "decision_point_denied": "policy does not permit it",
    "decision_point_unavailable": "nobody could decide whether it is permitted; try again later",
    "token_refused": "no credential is issued for it",
    "token_unavailable": "no credential could be had for it now; try again later",
    "audit_unavailable": "it cannot be recorded now, so it is not done; try again later",
}
_KINDS: Final[dict[Reason, type[DeniedError]]] = {
    "task_ended": TaskEndedError,
    "decision_point_unavailable": DecisionUnavailableError,
    "token_unavailable": DecisionUnavailableError,
    "audit_unavailable": DecisionUnavailableError,
}


def denial(task: Task, action: str, resource: str, call: str, decision: Decision) -> DeniedError:
    """Make the error for a call that is not made.

    Args:
        task: Whose call it was.
        action: What was to be done.
        resource: To what; as a model said it, perhaps.
        call: The call's id, by which the audit knows it.
        decision: Why not.
    """
    why = _WHY.get(decision.reason, "it is not permitted")
    words = why if isinstance(why, str) else why(task, action)
    what = f"{shown(action)} on {shown(resource)}" if resource else shown(action)
    kind = _KINDS.get(decision.reason, DeniedError)
    return kind(f"not permitted: {what}: {words} (ref {call})", decision=decision)


def refusal(reason: Reason, policy: str, *evidence: tuple[str, str | int | float | bool]) -> Decision:
    """Return the decision that says no."""
    facts: Evidence = evidence
    return Decision(allowed=False, reason=reason, policy=policy, evidence=facts)
