"""A contract as people read it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime

from spiffe_client.cli._lines import Line, Style, line, pair
from spiffe_client.policy import Action, Contract

__all__ = ["contract_lines", "lifetime", "seconds"]


def seconds(number: int) -> str:
    """Return a length of time, exactly and short: `90 s`, `15 min`, `2 h`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if number % size == 0:
            return f"{number // size} {unit}"
    return f"{number} s"


def lifetime(day: date | None, ended_at: datetime | None, at: datetime, *, ended: str) -> tuple[str, Style]:
    """Return a last day, and how far away that is or that it has passed.

    Args:
        day: The day; None for none.
        ended_at: When it has passed.
        at: As of when.
        ended: What is so then, such as `expired`.
    """
    if day is None or ended_at is None:
        return "never", "strong"
    if at >= ended_at:
        return f"{day} ({ended})", "bad"
    days = (ended_at - at).days
    return f"{day} ({'today' if days == 0 else f'in {days} d'})", "plain"


def contract_lines(contract: Contract, at: datetime) -> Iterator[Line]:
    """Yield the lines of a contract.

    Args:
        contract: Which.
        at: As of when.
    """
    agent = contract.agent
    yield line((str(agent.id), "name"))
    yield pair("purpose", agent.purpose)
    yield pair("owner", agent.owner or "nobody", "plain" if agent.owner else "strong")
    yield pair("runs in", f"{agent.environment}, trust domain {agent.trust_domain}")
    yield pair("reviewed", str(agent.reviewed or "never"))
    yield pair("review by", *lifetime(agent.review_by, agent.overdue_at, at, ended="overdue"))
    yield pair("expires", *lifetime(agent.expires, agent.expired_at, at, ended="expired"))
    limits = contract.limits
    yield pair(
        "a task",
        f"{seconds(limits.task_seconds)}, {limits.calls_per_task} calls; {limits.parallel_tasks} at once",
    )
    yield pair("calls", f"{limits.calls_per_minute} a minute")
    depth = limits.delegation_depth
    yield pair("hands on", f"{depth} deep" if depth else "nothing")
    yield pair("digest", contract.digest)
    for name, action in contract.actions.items():
        yield line((name, "strong"))
        yield from _action_lines(action)
    yield from _order_lines(contract)
    for delegate, given in contract.delegates.items():
        yield line("may delegate to ", (delegate, "name"))
        yield pair("actions", ", ".join(given.actions))


def _action_lines(action: Action) -> Iterator[Line]:
    for text in action.resources:
        yield pair("on", text)
    if action.window is not None:
        yield pair("when", str(action.window))
    yield pair("up to", action.classification)
    if action.approval:
        yield pair("approval", "by a human, for each call")
    if action.needs_token:
        yield pair("token for", ", ".join((*action.audience, *action.resource_uris)))
        details = [detail["type"] for detail in action.authorization_details]
        yield pair("permits", ", ".join((*action.scopes, *(f"details of type {kind}" for kind in details))))
        bound = ", bound to the call itself" if action.sensitive else ""
        yield pair("lasts", f"{seconds(action.token_seconds)}{bound}")
    else:
        yield pair("token", "none")
    if action.peer is not None:
        yield pair("peer", str(action.peer), "name")


def _order_lines(contract: Contract) -> Iterator[Line]:
    workflow = contract.workflow
    if workflow is None:
        yield line(("in any order", "strong"))
        return
    yield line(("in this order", "strong"))
    yield pair("first", ", ".join(workflow.start))
    for name, following in workflow.follows.items():
        yield line(
            "  ", ("after ", "faint"), name, (" → ", "faint"), ", ".join(following) or "nothing", hang=16
        )
