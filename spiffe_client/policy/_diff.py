"""What a change of a contract adds to an agent's authority, and what it takes away: for code review."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any, Literal, TypeAlias

from spiffe_client._values import dataclass
from spiffe_client.policy._contract import Contract
from spiffe_client.policy._contract_parts import CLASSIFICATIONS, Action, Window
from spiffe_client.policy._contract_rules import key
from spiffe_client.policy._hours import OpenHours
from spiffe_client.policy._templates import ResourceTemplate

__all__ = ["Change", "ChangeKind", "diff", "diff_actions"]

ChangeKind: TypeAlias = Literal["adds", "removes", "changes"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two contracts.

    Attributes:
        path: The key, such as `actions."invoices:read".resources`.
        kind: What happened to it.
        message: What was there, what is.
        widens: Whether the agent may do more because of it, or may do it elsewhere, or for longer.
    """

    path: str
    kind: ChangeKind
    message: str
    widens: bool


def diff(old: Contract, new: Contract) -> list[Change]:
    """Return what changed between two contracts, in terms of authority; empty if that is nothing.

    What cannot be compared, such as windows of different time zones, counts as wider.
    """
    return [
        *_agents(old, new),
        *_limits(old, new),
        *_actions(old, new),
        *_workflows(old, new),
        *_delegates(old, new),
    ]


def _agents(old: Contract, new: Contract) -> Iterator[Change]:
    for name in ("id", "trust_domain", "environment"):
        yield from _other(f"agent.{name}", getattr(old.agent, name), getattr(new.agent, name), widens=True)
    for name in ("purpose", "owner", "reviewed", "review_by"):
        yield from _other(f"agent.{name}", getattr(old.agent, name), getattr(new.agent, name), widens=False)
    before, after = old.agent.expires, new.agent.expires
    yield from _other("agent.expires", before, after, widens=(after or date.max) > (before or date.max))


def _limits(old: Contract, new: Contract) -> Iterator[Change]:
    for name in old.limits.__struct_fields__:
        yield from _number(f"limits.{name}", getattr(old.limits, name), getattr(new.limits, name))


def _actions(old: Contract, new: Contract) -> Iterator[Change]:
    for name in {**old.actions, **new.actions}:
        path = f"actions.{key(name)}"
        before, after = old.actions.get(name), new.actions.get(name)
        if after is None:
            yield Change(path, "removes", "the action", widens=False)
        elif before is None:
            yield Change(path, "adds", f"the action{_on(after)}", widens=True)
        else:
            yield from diff_actions(before, after, path)


def _on(action: Action) -> str:
    return f", on {', '.join(action.resources)}" if action.resources else ", on nothing that has a name"


def diff_actions(old: Action, new: Action, path: str) -> Iterator[Change]:
    """Yield what changed in one action.

    Args:
        old: As it was.
        new: As it is.
        path: Where it is in the contract.
    """
    for name in ("audience", "resource_uris", "scopes"):
        yield from _names(f"{path}.{name}", getattr(old, name), getattr(new, name))
    details = [map(_canonical, action.authorization_details) for action in (old, new)]
    yield from _names(f"{path}.authorization_details", *details)
    yield from _resources(f"{path}.resources", old.resources, new.resources)
    yield from _windows(f"{path}.window", old.window, new.window)
    before, after = map(CLASSIFICATIONS.index, (old.classification, new.classification))
    yield from _other(f"{path}.classification", old.classification, new.classification, widens=after > before)
    for name in ("approval", "sensitive"):
        was, now = getattr(old, name), getattr(new, name)
        yield from _other(f"{path}.{name}", was, now, widens=was)
    yield from _number(f"{path}.token_seconds", old.token_seconds, new.token_seconds)
    yield from _other(f"{path}.peer", old.peer, new.peer, widens=old.peer is not None)


def _canonical(detail: Mapping[str, Any]) -> str:
    return json.dumps(detail, sort_keys=True)


def _resources(path: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Change]:
    if bool(old) and not new:
        yield Change(path, "changes", "now calls that touch nothing which has a name", widens=True)
    for text in old:
        if text not in new:
            yield Change(path, "removes", f"{text}{_within(text, new)}", widens=False)
    for text in new:
        if text not in old:
            within = _within(text, old)
            yield Change(path, "adds", f"{text}{within}", widens=not within)


def _within(text: str, others: Iterable[str]) -> str:
    template = ResourceTemplate(text)
    wider = [other for other in others if ResourceTemplate(other).covers(template)]
    return f", which is within {wider[0]}" if wider else ""


def _windows(path: str, old: Window | None, new: Window | None) -> Iterator[Change]:
    if old == new:
        return
    if new is None:
        yield Change(path, "removes", "the window: now at any time", widens=True)
    elif old is None:
        yield Change(path, "adds", f"a window: {new}", widens=False)
    else:
        within = old.zone == new.zone and OpenHours(new).minutes() <= OpenHours(old).minutes()
        yield Change(path, "changes", f"{old} → {new}", widens=not within)


def _workflows(old: Contract, new: Contract) -> Iterator[Change]:
    before, after = old.workflow, new.workflow
    if before is None or after is None:
        if after is not None:
            yield Change("workflow", "adds", "an order: before, any was permitted", widens=False)
        elif before is not None:
            yield Change("workflow", "removes", "the order: now any is permitted", widens=True)
        return
    yield from _names("workflow.start", before.start, after.start)
    for name in {**before.follows, **after.follows}:
        yield from _names(
            f"workflow.follows.{key(name)}", before.follows.get(name, ()), after.follows.get(name, ())
        )


def _delegates(old: Contract, new: Contract) -> Iterator[Change]:
    for name in {**old.delegates, **new.delegates}:
        before, after = old.delegates.get(name), new.delegates.get(name)
        path = f"delegates.{key(name)}"
        if after is None:
            yield Change(path, "removes", "the delegate", widens=False)
        elif before is None:
            yield Change(path, "adds", f"the delegate, for {', '.join(after.actions)}", widens=True)
        else:
            yield from _names(f"{path}.actions", before.actions, after.actions)


def _names(path: str, old: Iterable[str], new: Iterable[str]) -> Iterator[Change]:
    before, after = dict.fromkeys(old), dict.fromkeys(new)
    for name in before:
        if name not in after:
            yield Change(path, "removes", name, widens=False)
    for name in after:
        if name not in before:
            yield Change(path, "adds", name, widens=True)


def _number(path: str, old: int, new: int) -> Iterator[Change]:
    yield from _other(path, old, new, widens=new > old)


def _other(path: str, old: object, new: object, *, widens: bool) -> Iterator[Change]:
    if old == new:
        return
    kind: ChangeKind = "adds" if old in (None, "") else "removes" if new in (None, "") else "changes"
    was, now = (str(value).lower() if isinstance(value, bool) else str(value) for value in (old, new))
    message = {"adds": now, "removes": was, "changes": f"{was} → {now}"}[kind]
    yield Change(path, kind, message, widens=widens)
