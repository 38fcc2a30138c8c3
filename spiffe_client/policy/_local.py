"""The decision that needs nobody else: what a contract says, looked up and compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, cast

from spiffe_client.policy._contract import Contract
from spiffe_client.policy._contract_parts import CLASSIFICATIONS, Action
from spiffe_client.policy._decision import Decision, Evidence, Question, Reason
from spiffe_client.policy._hours import OpenHours
from spiffe_client.policy._templates import MAX_RESOURCE, ResourceTemplate

if TYPE_CHECKING:
    from spiffe_client.ids import SpiffeId

__all__ = ["ContractDecider", "Ruling"]

_POLICY: Final = "contract"
_APPROVE: Final = frozenset({"approve"})
_NOTHING: Final[frozenset[str]] = frozenset()
_RANK: Final[Mapping[str, int]] = {
    "": 0,  # nobody said, and what nobody classified is public
    **{name: rank for rank, name in enumerate(CLASSIFICATIONS)},
}
_UNRANKED: Final = len(_RANK)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class _Template:
    """A template as it is compared with: the shape of its resources, and which values must stand in it."""

    __slots__ = ("match", "names", "text")

    def __init__(self, text: str) -> None:
        template = ResourceTemplate.parse(text)
        self.text: str = text
        self.names: tuple[str, ...] = template.parameters
        self.match: Callable[[str], re.Match[str] | None] = template.shape().match


class _Rule:
    """An action as it is decided upon. The two answers to a call that is allowed are made beforehand."""

    __slots__ = ("answers", "ceiling", "hours", "overdue_answers", "overdue_at", "templates")

    def __init__(self, action: Action, overdue: Evidence, overdue_at: datetime) -> None:
        self.templates: tuple[_Template, ...] = tuple(map(_Template, action.resources))
        self.hours: OpenHours | None = None if action.window is None else OpenHours(action.window)
        self.ceiling: int = _RANK[action.classification]
        obligations = _APPROVE if action.approval else _NOTHING
        texts = action.resources or ("",)
        self.answers: dict[str, Decision] = {text: _allowed(text, obligations, ()) for text in texts}
        self.overdue_answers: dict[str, Decision] = {
            text: _allowed(text, obligations, overdue) for text in texts
        }
        self.overdue_at: datetime = overdue_at


def _allowed(template: str, obligations: frozenset[str], evidence: Evidence) -> Decision:
    of: Evidence = (("template", template),) if template else ()
    return Decision(
        allowed=True, reason="allowed", policy=_POLICY, obligations=obligations, evidence=of + evidence
    )


@lru_cache(maxsize=256)
def _denied(reason: Reason, *evidence: tuple[str, str | int | float | bool]) -> Decision:
    return Decision(allowed=False, reason=reason, policy=_POLICY, evidence=evidence)


class ContractDecider:
    """Decides by a contract alone: at once, without waiting, the same for the same question.

    Args:
        contract: What is permitted.
        review: What an overdue review means: `warn` says so in each decision's evidence, `refuse` treats the
            contract as expired.
    """

    __slots__ = (
        "_agent",
        "_delegates",
        "_environment",
        "_expired_at",
        "_overdue",
        "_rules",
        "contract",
    )

    def __init__(self, contract: Contract, *, review: Literal["warn", "refuse"] = "warn") -> None:
        if review not in ("warn", "refuse"):
            raise ValueError(f'review is "warn" or "refuse", not {review!r}')
        agent = contract.agent
        self.contract: Contract = contract
        self._agent = agent.id
        self._environment = agent.environment
        self._overdue: Evidence = (("review_overdue", str(agent.review_by)),)
        overdue_at = agent.overdue_at or _NEVER
        self._expired_at = agent.expired_at or _NEVER
        if review == "refuse":
            self._expired_at = min(self._expired_at, overdue_at)
        self._rules = {
            name: _Rule(action, self._overdue, overdue_at) for name, action in contract.actions.items()
        }
        self._delegates = {name: frozenset(d.actions) for name, d in contract.delegates.items()}

    def decide(self, question: Question, held: frozenset[str]) -> Decision:
        """Answer, with the first reason against it.

        Args:
            question: What is to be done.
            held: The actions that the task holds.

        Raises:
            TypeError: The question's moment has no time zone; the call is denied.
        """
        ruling = self.ruling(
            question.action,
            held,
            agent=question.agent,
            environment=question.environment,
            tenant=question.tenant,
            params=question.params,
        )
        return ruling.decide(question.resource, question.classification, question.at)

    def ruling(
        self,
        action: str,
        held: frozenset[str],
        *,
        agent: SpiffeId,
        environment: str,
        tenant: str,
        params: Mapping[str, str],
    ) -> Ruling:
        """Decide what is the same for all calls of an action as long as a task lives.

        Args:
            action: What is to be done, and the rest of a `Question` that does not change.
            held: The actions that the task holds.
            agent: Who asks.
            environment: Where it runs.
            tenant: Whose task it is.
            params: The task's parameters.
        """
        expired_at, denied = self._expired_at, None
        rule = self._rules.get(action)
        if environment != self._environment:  # first of all, whatever has expired
            expired_at, denied = _NEVER, _denied("wrong_environment", ("environment", self._environment))
        elif rule is None or action not in held:
            denied = _denied("missing_scope", ("in_contract", rule is not None))
        elif not self._speaks_for(agent, action):
            denied = _denied("missing_scope", ("delegated", False))
        if rule is None or denied is not None:
            return Ruling(self, expired_at, denied, None, ())
        filled = tuple(
            (one, tuple(tenant if name == "tenant" else params.get(name) for name in one.names))
            for one in rule.templates
        )
        return Ruling(self, expired_at, None, rule, filled)

    def expired(self, at: datetime) -> Decision:
        """Return the denial of a contract that is past its end, or past its review where that counts."""
        agent = self.contract.agent
        if agent.expired_at is not None and at >= agent.expired_at:
            return _denied("contract_expired", ("expires", str(agent.expires)))
        return _denied("contract_expired", *self._overdue)

    def _speaks_for(self, agent: SpiffeId, action: str) -> bool:
        return agent == self._agent or action in self._delegates.get(str(agent), _NOTHING)


class Ruling:
    """What a contract says of one action of one task: all that is left to compare is the call.

    Args:
        decider: Whose contract it is.
        expired_at: From when on nothing is permitted.
        denied: Why all calls of it are denied; None if they are not.
        rule: What the contract says of the action; None if all calls are denied.
        filled: Each of its templates, with what must stand in it.
    """

    __slots__ = ("_decider", "_denied", "_expired_at", "_filled", "_rule")

    def __init__(
        self,
        decider: ContractDecider,
        expired_at: datetime,
        denied: Decision | None,
        rule: _Rule | None,
        filled: tuple[tuple[_Template, tuple[str | None, ...]], ...],
    ) -> None:
        self._decider = decider
        self._expired_at = expired_at
        self._denied = denied
        self._rule = rule
        self._filled = filled

    def decide(self, resource: str, classification: str, at: datetime) -> Decision:
        """Answer, with the first reason against it.

        Args:
            resource: What a call is about.
            classification: How confidential that is.
            at: When.

        Raises:
            TypeError: The moment has no time zone; the call is denied.
        """
        if at >= self._expired_at:
            return self._decider.expired(at)
        rule = self._rule
        if rule is None:
            return cast("Decision", self._denied)
        template = self._template_for(resource)
        if template is None:
            return _denied(self._why_not(resource))
        if rule.hours is not None and not rule.hours.open_at(at):
            return _denied("outside_window", ("zone", rule.hours.zone))
        if _RANK.get(classification, _UNRANKED) > rule.ceiling:
            return _denied("classification", ("ceiling", CLASSIFICATIONS[rule.ceiling]))
        return (rule.overdue_answers if at >= rule.overdue_at else rule.answers)[template]

    def _template_for(self, resource: str) -> str | None:
        """Return the template that a resource is one of; empty for no resource where none is taken."""
        if len(resource) > MAX_RESOURCE:
            return None
        for template, values in self._filled:
            found = template.match(resource)
            if found is not None and found.groups() == values:
                return template.text
        return None if resource or self._filled else ""

    def _why_not(self, resource: str) -> Reason:
        """Tell another tenant's from what is nobody's business: the former is worth an alarm."""
        if len(resource) > MAX_RESOURCE:
            return "outside_purpose"
        for template, values in self._filled:
            found = template.match(resource)
            if found is None:
                continue
            pairs = zip(template.names, found.groups(), values, strict=True)
            if all(name == "tenant" or there == meant for name, there, meant in pairs):
                return "tenant_boundary"
        return "outside_purpose"
