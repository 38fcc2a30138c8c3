"""What is legal in a contract and still worth a second look: facts, never guesses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

from spiffe_client._values import dataclass
from spiffe_client.ids import SpiffeId
from spiffe_client.policy._contract import Contract
from spiffe_client.policy._contract_parts import Action, Workflow
from spiffe_client.policy._contract_rules import key
from spiffe_client.policy._diff import diff_actions
from spiffe_client.policy._templates import ResourceTemplate

__all__ = ["Finding", "Severity", "lint", "lint_delegations"]

#: `error`: it permits nothing any more. `warning`: somebody should look at it.
Severity: TypeAlias = Literal["error", "warning"]

#: A contract that lasts longer than this is as good as one without an end.
LONGEST: Final = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something worth a second look.

    Attributes:
        path: The key, such as `actions."invoices:read".resources[0]`.
        severity: How bad it is.
        message: What is so, and why it matters.
    """

    path: str
    severity: Severity
    message: str


def _warn(path: str, message: str) -> Finding:
    return Finding(path, "warning", message)


def lint(contract: Contract, *, at: datetime) -> list[Finding]:
    """Return what is worth a second look in a contract, in the order of its keys.

    Args:
        contract: Which.
        at: As of when.
    """
    return [
        *_agent(contract, at),
        *_limits(contract),
        *_actions(contract),
        *_workflow(contract),
        *_delegates(contract),
    ]


def _agent(contract: Contract, at: datetime) -> Iterator[Finding]:
    agent, today = contract.agent, at.astimezone(UTC).date()
    if not agent.owner:
        yield _warn("agent.owner", "there is none: nobody answers for this agent")
    if agent.reviewed is not None and agent.reviewed > today:
        yield _warn("agent.reviewed", f"{agent.reviewed} is in the future")
    if agent.review_by is None or agent.overdue_at is None:
        yield _warn("agent.review_by", "there is none: nobody has to look at this again")
    elif at >= agent.overdue_at:
        yield _warn("agent.review_by", f"a review is overdue since {agent.review_by}")
    if agent.expires is None or agent.expired_at is None:
        yield _warn("agent.expires", "there is none: it permits this for ever")
    elif at >= agent.expired_at:
        yield Finding("agent.expires", "error", f"it has expired on {agent.expires}: nothing is permitted")
    elif agent.expired_at - at > LONGEST:
        yield _warn("agent.expires", f"{agent.expires} is more than {LONGEST.days} days away")


def _limits(contract: Contract) -> Iterator[Finding]:
    depth, delegates = contract.limits.delegation_depth, contract.delegates
    if delegates and not depth:
        yield _warn("limits.delegation_depth", "it is 0: nothing of what [delegates] lists can be handed on")
    if depth and not delegates:
        yield _warn("limits.delegation_depth", f"it is {depth}, and there is nobody in [delegates]")


def _actions(contract: Contract) -> Iterator[Finding]:
    if not contract.actions:
        yield _warn("actions", "there are none: nothing is permitted")
    tenants = any(
        "tenant" in ResourceTemplate(t).parameters for a in contract.actions.values() for t in a.resources
    )
    for name, action in contract.actions.items():
        path = f"actions.{key(name)}"
        yield from _templates(action, f"{path}.resources", tenants=tenants)
        if action.sensitive and not action.needs_token:
            yield _warn(f"{path}.sensitive", "there is no token to bind to the call: it has no audience")
        if action.needs_token and action.token_seconds > contract.limits.task_seconds:
            yield _warn(
                f"{path}.token_seconds",
                f"{action.token_seconds} s outlive the task, which ends after {contract.limits.task_seconds} s "
                "(limits.task_seconds)",
            )


def _templates(action: Action, path: str, *, tenants: bool) -> Iterator[Finding]:
    templates = [ResourceTemplate(text) for text in action.resources]
    for number, template in enumerate(templates):
        where, segments = f"{path}[{number}]", template.segments
        wild = [s for s in segments if s in ("*", "**")]
        if len(wild) == len(segments):
            yield _warn(
                where, f"{template} has neither a name nor a parameter in it: it is everything of its length"
            )
        elif segments[0] in ("*", "**"):
            yield _warn(where, f"{template} begins with a wildcard: it is in everything there is")
        if tenants and wild and "tenant" not in template.parameters:
            yield _warn(
                where, f"{template} is not bound to {{tenant}}, as others are: it is in every tenant's"
            )
        wider = [t for n, t in enumerate(templates) if n != number and t.covers(template)]
        if wider:
            yield _warn(where, f"{template} adds nothing: {wider[0]} has all of it")


def _workflow(contract: Contract) -> Iterator[Finding]:
    if contract.workflow is None:
        return
    reached = _reachable(contract.workflow, contract.actions)
    for name in contract.actions:
        if name not in reached:
            yield _warn(f"actions.{key(name)}", "the workflow never leads to it")


def _reachable(workflow: Workflow, among: Iterable[str]) -> set[str]:
    """Return the actions that a task with these alone can come to."""
    held = frozenset(among)
    queue = [name for name in workflow.start if name in held]
    reached = set(queue)
    while queue:
        following = [n for n in workflow.follows.get(queue.pop(), ()) if n in held and n not in reached]
        reached.update(following)
        queue += following
    return reached


def _delegates(contract: Contract) -> Iterator[Finding]:
    for name, delegate in contract.delegates.items():
        path = f"delegates.{key(name)}"
        if SpiffeId.parse(name).trust_domain != contract.agent.trust_domain:
            yield _warn(path, f"it is of another trust domain than {contract.agent.trust_domain}")
        if contract.workflow is None:
            continue
        reached = _reachable(contract.workflow, delegate.actions)
        for number, action in enumerate(delegate.actions):
            if action not in reached:
                yield _warn(
                    f"{path}.actions[{number}]",
                    f"the workflow never leads to {action!r} with what this delegate has",
                )


def lint_delegations(contracts: Mapping[str, Contract]) -> dict[str, list[Finding]]:
    """Return what does not fit between contracts: what is delegated, and what the delegate's own one says.

    Args:
        contracts: By any name, such as their files'. Delegates without a contract among them are not looked at.

    Returns:
        Findings by the same names, about the delegating contract.
    """
    by_id = {str(c.agent.id): c for c in contracts.values()}
    return {name: list(_between(contract, by_id)) for name, contract in contracts.items()}


def _between(contract: Contract, by_id: Mapping[str, Contract]) -> Iterator[Finding]:
    for name, delegate in contract.delegates.items():
        own = by_id.get(name)
        for number, action in enumerate(delegate.actions if own is not None else ()):
            path = f"delegates.{key(name)}.actions[{number}]"
            there = own.actions.get(action) if own is not None else None
            if there is None:
                yield _warn(path, f"{name}'s own contract has no action {action!r}")
                continue
            for change in diff_actions(contract.actions[action], there, path):
                if change.widens:
                    of = change.path.removeprefix(f"{path}.")
                    yield _warn(
                        path, f"{name}'s own contract permits more of {action!r}: {of}: {change.message}"
                    )
