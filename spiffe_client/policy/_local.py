"""The decision that needs nobody else: what a contract says, looked up and compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from spiffe_client.policy._contract import Contract
from spiffe_client.policy._contract_parts import CLASSIFICATIONS, Action
from spiffe_client.policy._decision import Decision, Evidence, Question, Reason
from spiffe_client.policy._hours import OpenHours
from spiffe_client.policy._templates import MAX_RESOURCE, ResourceTemplate

if TYPE_CHECKING:
    from spiffe_client.ids import SpiffeId

__all__ = ["ContractDecider"]

_POLICY: Final = "contract"
_APPROVE: Final = frozenset({"approve"})
_NOTHING: Final[frozenset[str]] = frozenset()
_RANK: Final[Mapping[str, int]] = {
    "": 0,  # nobody said, and what nobody classified is public
    **{name: rank for rank, name in enumerate(CLASSIFICATIONS)},
}
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class _Template:
    """A template as it is compared with: the shape of its resources, and which values must stand in it."""

    __slots__ = ("match", "names", "only_tenant", "text")

    def __init__(self, text: str) -> None:
        template = ResourceTemplate.parse(text)
        self.text = text
        self.names = template.parameters
        self.only_tenant = self.names == ("tenant",)
        self.match: Callable[[str], re.Match[str] | None] = template.shape().match


class _Rule:
    """An action as it is decided upon. The two answers to a call that is allowed are made beforehand."""

    __slots__ = ("answers", "ceiling", "hours", "overdue_answers", "templates")

    def __init__(self, action: Action, overdue: Evidence) -> None:
        self.templates = tuple(map(_Template, action.resources))
        self.hours = None if action.window is None else OpenHours(action.window)
        self.ceiling = _RANK[action.classification]
        obligations = _APPROVE if action.approval else _NOTHING
        texts = action.resources or ("",)
        self.answers = {text: _allowed(text, obligations, ()) for text in texts}
        self.overdue_answers = {text: _allowed(text, obligations, overdue) for text in texts}


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
        "_overdue_at",
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
        self._overdue_at = agent.overdue_at or _NEVER
        self._expired_at = agent.expired_at or _NEVER
        if review == "refuse":
            self._expired_at = min(self._expired_at, self._overdue_at)
        self._rules = {name: _Rule(action, self._overdue) for name, action in contract.actions.items()}
        self._delegates = {name: frozenset(d.actions) for name, d in contract.delegates.items()}

    def decide(self, question: Question, held: frozenset[str]) -> Decision:  # noqa: PLR0911 - a reason each
        """Answer, with the first reason against it.

        Args:
            question: What is to be done.
            held: The actions that the task holds.

        Raises:
            TypeError: The question's moment has no time zone; the call is denied.
        """
        if question.environment != self._environment:
            return _denied("wrong_environment", ("environment", self._environment))
        if question.at >= self._expired_at:
            return self._expired(question.at)
        rule = self._rules.get(question.action)
        if rule is None or question.action not in held:
            return _denied("missing_scope", ("in_contract", rule is not None))
        if not (question.agent is self._agent or self._speaks_for(question.agent, question.action)):
            return _denied("missing_scope", ("delegated", False))
        template = _template_for(rule.templates, question)
        if template is None:
            return _denied(_why_not(rule.templates, question))
        if rule.hours is not None and not rule.hours.open_at(question.at):
            return _denied("outside_window", ("zone", rule.hours.zone))
        if _RANK.get(question.classification, len(_RANK)) > rule.ceiling:
            return _denied("classification", ("ceiling", CLASSIFICATIONS[rule.ceiling]))
        return (rule.overdue_answers if question.at >= self._overdue_at else rule.answers)[template]

    def _expired(self, at: datetime) -> Decision:
        agent = self.contract.agent
        if agent.expired_at is not None and at >= agent.expired_at:
            return _denied("contract_expired", ("expires", str(agent.expires)))
        return _denied("contract_expired", *self._overdue)

    def _speaks_for(self, agent: SpiffeId, action: str) -> bool:
        return agent == self._agent or action in self._delegates.get(str(agent), _NOTHING)


def _template_for(templates: tuple[_Template, ...], question: Question) -> str | None:
    """Return the template that a question's resource is one of; empty for no resource where none is taken."""
    resource = question.resource
    if not templates:
        return None if resource else ""
    if len(resource) > MAX_RESOURCE:
        return None
    for template in templates:
        found = template.match(resource)
        if found is not None and found.groups() == _values(template, question):
            return template.text
    return None


def _values(template: _Template, question: Question) -> tuple[str | None, ...]:
    if template.only_tenant:
        return (question.tenant,)
    return tuple([question.tenant if n == "tenant" else question.params.get(n) for n in template.names])


def _why_not(templates: tuple[_Template, ...], question: Question) -> Reason:
    """Tell another tenant's from what is nobody's business: the former is worth an alarm."""
    for template in templates if len(question.resource) <= MAX_RESOURCE else ():
        found = template.match(question.resource)
        if found is None:
            continue
        pairs = zip(template.names, found.groups(), _values(template, question), strict=True)
        if all(name == "tenant" or there == meant for name, there, meant in pairs):
            return "tenant_boundary"
    return "outside_purpose"
