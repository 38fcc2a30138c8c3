"""What is asked before each call of an agent, and the answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import msgspec

from spiffe_client._values import dataclass

if TYPE_CHECKING:
    from spiffe_client.ids import SpiffeId

__all__ = ["Decider", "Decision", "Evidence", "Question", "Reason"]

#: Why a call is allowed or not; stable, for programs, audits and dashboards.
Reason: TypeAlias = Literal[
    "allowed",
    "no_task",
    "task_ended",
    "budget_spent",
    "rate",
    "workflow",
    "missing_scope",
    "tenant_boundary",
    "outside_purpose",
    "outside_window",
    "wrong_environment",
    "classification",
    "contract_expired",
    "not_approved",
    "decision_point_denied",
    "decision_point_unavailable",
    "token_refused",
    "token_unavailable",
    "audit_unavailable",
]

#: Facts that a decision rests on, as names and values: public, short, without secrets.
Evidence: TypeAlias = tuple[tuple[str, str | int | float | bool], ...]


# There is one for each call: of a struct, making one costs a tenth. It holds nothing that could hold it.
class Question(msgspec.Struct, frozen=True, gc=False):
    """May this agent do this, now, for this task?

    Attributes:
        agent: Who asks.
        task: The task's id.
        action: What is to be done, as the contract calls it.
        resource: What to, as a path such as `tenants/acme/invoices/7`; empty where the action has none.
        tenant: Whose task it is; empty for nobody's.
        purpose: What the task is for, in words.
        environment: Where the agent runs, such as `prod`.
        params: The task's parameters.
        arguments: SHA-256 of the call's arguments, base64url (see `agents`); empty for none.
        classification: How confidential what the call touches is.
        at: When.
        depth: How often the authority was handed on: 0 for a task that nobody delegated.
        parents: The ids of the tasks that this one descends from, the nearest first.
    """

    agent: SpiffeId
    task: str
    action: str
    resource: str
    tenant: str
    purpose: str
    environment: str
    params: Mapping[str, str]
    arguments: str
    classification: str
    at: datetime
    depth: int = 0
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a call may be made, and why.

    Attributes:
        allowed: Whether it may.
        reason: Why, as a stable code; `allowed` if, and only if, it may.
        policy: Which rule or whose word that is, such as `contract` or the address of a decision point.
        obligations: What must be done for it to be allowed, such as `approve`. Who does not know one
            denies.
        evidence: What the decision rests on.
    """

    allowed: bool
    reason: Reason
    policy: str = ""
    obligations: frozenset[str] = frozenset()
    evidence: Evidence = ()

    def __post_init__(self) -> None:
        if self.allowed != (self.reason == "allowed"):
            raise ValueError(
                f"a decision that says allowed={self.allowed} cannot have the reason {self.reason!r}"
            )


class Decider(Protocol):
    """Answers questions; whoever raises has denied."""

    async def decide(self, question: Question) -> Decision:
        """Answer within a deadline of its own.

        Raises:
            Exception: Whatever it is, the call is denied as `decision_point_unavailable`.
        """
        ...
