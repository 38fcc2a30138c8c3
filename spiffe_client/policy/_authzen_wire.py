"""Questions and decisions as AuthZEN writes them (Authorization API 1.0): built and read without I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any, Final, Literal, TypeAlias

from spiffe_client.policy._combined import unavailable
from spiffe_client.policy._decision import Decision, Evidence, Question

__all__ = [
    "ResourceType",
    "Semantic",
    "evaluation_of",
    "read_evaluation",
    "read_evaluations",
    "type_of_action",
]

#: How far a batch is evaluated.
Semantic: TypeAlias = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]
#: Of what type, to the decision point, a question's resource is.
ResourceType: TypeAlias = Callable[[Question], str]

#: A code, not a sentence: it goes into the audit.
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}\Z")
_REASONS: Final = ("reason_code", "code", "reason", "id")
_MAX_OBLIGATIONS: Final = 16


def type_of_action(question: Question) -> str:
    """Return the resource's type: what stands before the last colon of the action, or `resource`.

    The contract's author chose the action's name, and decision points look up their policies by type.
    Parts of the resource's path may be a model's choice, so they are never the type.
    """
    return question.action.rpartition(":")[0] or "resource"


def evaluation_of(question: Question, resource_type: ResourceType = type_of_action) -> dict[str, object]:
    """Return the access evaluation request for a question.

    An action without a resource is its own: AuthZEN knows no question without one.

    Raises:
        ValueError: `at` has no time zone.
    """
    if question.at.tzinfo is None:
        raise ValueError("a question's time has a time zone")
    return {
        "subject": {
            "type": "agent",
            "id": str(question.agent),
            "properties": {"task": question.task, "depth": question.depth, "parents": list(question.parents)},
        },
        "action": {"name": question.action},
        "resource": {
            "type": resource_type(question),
            "id": question.resource or question.action,
            "properties": {"tenant": question.tenant, "classification": question.classification},
        },
        "context": {
            "purpose": question.purpose,
            "environment": question.environment,
            "params": dict(question.params),
            "arguments": question.arguments,
            "time": question.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        },
    }


def read_evaluation(document: object, *, policy: str) -> Decision:
    """Read a decision.

    Only JSON's `true` allows. What is neither `true` nor `false`, or has obligations that are no
    list of names, is no decision.

    Args:
        document: As it was parsed.
        policy: Whose word it is.
    """
    if not isinstance(document, dict):
        return unavailable(policy, cause="malformed")
    said, context = document.get("decision"), document.get("context", {})
    if not isinstance(said, bool) or not isinstance(context, dict):
        return unavailable(policy, cause="malformed")
    evidence: Evidence = tuple(("code", code) for code in _codes(context))[:1]
    if not said:
        return Decision(allowed=False, reason="decision_point_denied", policy=policy, evidence=evidence)
    obligations = _obligations(context)
    if obligations is None:
        return unavailable(policy, cause="malformed_obligations")
    return Decision(allowed=True, reason="allowed", policy=policy, obligations=obligations, evidence=evidence)


def read_evaluations(document: dict[str, object], count: int, *, policy: str) -> tuple[Decision, ...]:
    """Read the decisions of a batch, in the order of the questions.

    What is missing at the end was not evaluated, which is a denial; more decisions than questions
    are none.

    Args:
        document: As it was parsed.
        count: How many questions there were.
        policy: Whose word it is.
    """
    items = document.get("evaluations")
    if not isinstance(items, list) or len(items) > count:
        return (unavailable(policy, cause="malformed"),) * count
    read = tuple(read_evaluation(item, policy=policy) for item in items)
    return read + (not_evaluated(policy),) * (count - len(read))


def not_evaluated(policy: str) -> Decision:
    """Return the denial of what comes after the decision that settled a batch."""
    return Decision(
        allowed=False, reason="decision_point_denied", policy=policy, evidence=(("cause", "not_evaluated"),)
    )


def is_settled(decisions: Sequence[Decision], semantic: Semantic) -> bool:
    """Whether what comes after these is not evaluated any more."""
    allowed = [decision.allowed for decision in decisions]
    return (semantic == "deny_on_first_deny" and False in allowed) or (
        semantic == "permit_on_first_permit" and True in allowed
    )


def unambiguous_batches(evaluations: Sequence[dict[str, object]]) -> list[list[dict[str, object]]]:
    """Cut a batch, in its order, where two of it are about the same and are not the same.

    A decision point that looks its answers up by subject, action and resource, without the properties,
    would give the second of two such questions the answer to the first.
    """
    batches: list[list[dict[str, object]]] = []
    seen: dict[tuple[str, ...], dict[str, object]] = {}
    for evaluation in evaluations:
        about = _about(evaluation)
        if not batches or seen.get(about, evaluation) != evaluation:
            batches.append([])
            seen = {}
        seen[about] = evaluation
        batches[-1].append(evaluation)
    return batches


def _about(evaluation: dict[str, Any]) -> tuple[str, ...]:
    subject, action, resource = evaluation["subject"], evaluation["action"], evaluation["resource"]
    return (subject["id"], action["name"], resource["type"], resource["id"])


def _codes(context: dict[str, object]) -> Sequence[str]:
    found = (context.get(name) for name in _REASONS)
    return [code for code in found if isinstance(code, str) and _CODE.match(code)]


def _obligations(context: dict[str, object]) -> frozenset[str] | None:
    names = context.get("obligations", [])
    if not isinstance(names, list) or len(names) > _MAX_OBLIGATIONS:
        return None
    texts = [name for name in names if isinstance(name, str) and _CODE.match(name)]
    return frozenset(texts) if len(texts) == len(names) else None
