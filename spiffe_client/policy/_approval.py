"""What a human is asked, what the human answers, and the ledger in which each answer is used once."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import field
from datetime import datetime
from typing import Final, NoReturn, Protocol

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._values import dataclass
from spiffe_client.errors import DeniedError
from spiffe_client.ids import SpiffeId
from spiffe_client.policy._decision import Decision, Question

__all__ = ["Approval", "ApprovalRequest", "Approvals", "Approver", "not_approved"]

#: Most approvals that wait to be used.
_CAPACITY: Final = 1024
_BOUND: Final = ("agent", "task", "tenant", "action", "resource", "arguments")


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """May this be done? As a human, or a program in front of one, is asked.

    What an agent's model chose (`resource`, and parts of `purpose`) may hold anything: show it
    escaped.

    Attributes:
        id: Random; the answer names it.
        agent: Who asks.
        task: The task's id.
        purpose: What the task is for, in words.
        action: What is to be done, as the contract calls it.
        resource: What to.
        arguments: SHA-256 of the call's arguments, base64url; empty for none.
        expires_at: An answer after this does not count, and an approval is of no use.
        tenant: Whose task it is; empty for nobody's.
        text: What it is about, for people: short, one line.
        shown: The arguments themselves for people, as JSON, without what looks like a secret and cut
            where it is long; empty for none. It is what `arguments` is the digest of.
    """

    id: str
    agent: SpiffeId
    task: str
    purpose: str
    action: str
    resource: str
    arguments: str
    expires_at: datetime
    tenant: str = ""
    text: str = ""
    shown: str = field(default="", repr=False)

    @classmethod
    def of(
        cls, question: Question, *, expires_at: datetime, text: str = "", shown: str = ""
    ) -> ApprovalRequest:
        """Make the request for approving a call, with an id of its own.

        Args:
            question: What was asked about the call.
            expires_at: Until when the answer is waited for and may be used.
            text: For people; empty for one made of the question.
            shown: The arguments, for people.
        """
        return cls(
            id=secrets.token_urlsafe(16),
            agent=question.agent,
            task=question.task,
            purpose=question.purpose,
            action=question.action,
            resource=question.resource,
            arguments=question.arguments,
            expires_at=expires_at,
            tenant=question.tenant,
            text=text or f"{question.agent} asks for {question.action} on {question.resource or 'nothing'}",
            shown=shown,
        )

    @property
    def digest(self) -> str:
        """What an answer repeats of it, so that it is none to anything else: all that it is about.

        base64url of SHA-256 over agent, task, tenant, action, resource and arguments, as a JSON array
        of texts in ASCII without spaces. Asked again, as after a pause, it is the same.
        """
        facts = [str(getattr(self, name)) for name in _BOUND]
        text = json.dumps(facts, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()

    def is_answered_by(self, approval: Approval) -> bool:
        """Say whether an approval is about just this."""
        return approval.request == self.id and approval.digest == self.digest

    def approve(self, *, by: str, clock: Clock = SYSTEM_CLOCK) -> Approval:
        """Return somebody's yes to just this.

        Args:
            by: Who says so; it is recorded.
            clock: For when.
        """
        return Approval(self.id, by, clock.now(), self.digest)


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody said yes; made by `ApprovalRequest.approve`.

    Attributes:
        request: The id of what was asked.
        approver: Who said so.
        at: When.
        digest: Of what they were shown; see `ApprovalRequest.digest`.
    """

    request: str
    approver: str
    at: datetime
    digest: str


class Approver(Protocol):
    """Asks somebody; see `ask_approval`, which adds the deadline and the checks."""

    async def approve(self, request: ApprovalRequest) -> Approval | None:
        """Return `request.approve(by=…)`, or None for a no.

        Raises:
            Exception: Whatever it is, it is a no.
        """
        ...


def not_approved(action: str, resource: str, **evidence: str) -> DeniedError:
    """Return the denial of what nobody approved."""
    decision = Decision(
        allowed=False, reason="not_approved", policy="approval", evidence=tuple(evidence.items())
    )
    return DeniedError(
        f"{action!r:.100} on {resource!r:.200} needs somebody's approval, and has none", decision=decision
    )


class Approvals:
    """Approvals that were given and not yet used: each is for one call, and for that one only.

    Safe to use from several threads.

    Args:
        clock: Says when an approval has expired.
        capacity: Most that wait to be used; more are refused.
    """

    __slots__ = ("_capacity", "_clock", "_held")

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK, capacity: int = _CAPACITY) -> None:
        self._clock = clock
        self._capacity = capacity
        self._held: dict[str, tuple[ApprovalRequest, Approval]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, request: ApprovalRequest, approval: Approval) -> None:
        """Keep an approval until it is taken; `ask_approval` does this.

        Raises:
            DeniedError: It answers another request, or one that was answered, or there are too many.
        """
        if not request.is_answered_by(approval):
            _refuse(request, approval, "another_request")
        if len(self._held) >= self._capacity:
            now = self._clock.now()
            for key, (asked, _) in list(self._held.items()):
                if asked.expires_at <= now:
                    self._held.pop(key, None)
            if len(self._held) >= self._capacity:
                _refuse(request, approval, "too_many")
        entry = (request, approval)
        if self._held.setdefault(request.id, entry) is not entry:
            _refuse(request, approval, "answered_before")

    def take(self, approval: Approval, question: Question) -> Approval:
        """Use an approval for the call it was given for; it is of no use after that.

        Refused for another call, it stays good for its own.

        Args:
            approval: What `ask_approval` returned.
            question: The call that is about to be made.

        Raises:
            DeniedError: It is unknown, was used, has expired, or is for another agent, task, tenant,
                action, resource or other arguments.
        """
        held = self._held.get(approval.request)
        if held is None or held[1] != approval:
            _refuse(question, approval, "unknown_or_used")
        request = held[0]
        if self._clock.now() >= request.expires_at:
            self._held.pop(approval.request, None)
            _refuse(question, approval, "expired")
        for name in _BOUND:
            if getattr(request, name) != getattr(question, name):
                _refuse(question, approval, f"other_{name}")
        if self._held.pop(approval.request, None) is not held:  # another thread was faster
            _refuse(question, approval, "unknown_or_used")
        return approval

    def drop(self, task: str) -> None:
        """Forget what was approved for a task that has ended."""
        for key, (request, _) in list(self._held.items()):
            if request.task == task:
                self._held.pop(key, None)


def _refuse(about: ApprovalRequest | Question, approval: Approval, cause: str) -> NoReturn:
    raise not_approved(about.action, about.resource, approval=approval.request, cause=cause)
