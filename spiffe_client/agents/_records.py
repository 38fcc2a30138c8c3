"""What is told of tasks and calls: one event each, with facts under stable names (see `audit`)."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from spiffe_client.audit import Event
from spiffe_client.errors import AttenuationError

if TYPE_CHECKING:
    from spiffe_client.agents._attenuation import Terms
    from spiffe_client.agents._budget import Refusals
    from spiffe_client.agents._call import Call
    from spiffe_client.agents._host import AgentHost
    from spiffe_client.agents._task import Task
    from spiffe_client.errors import SpiffeError
    from spiffe_client.policy import Decision

__all__ = [
    "Outcome",
    "no_task",
    "record_anomaly",
    "record_call",
    "record_denial",
    "record_end",
    "record_granted",
    "record_ignored",
    "record_no_task",
    "record_redeemed",
    "record_refusal",
    "record_start",
    "record_untold",
    "record_withheld",
]

_REFUSED: Final = {
    "delegation.refused": "work was not handed on, or not taken over",
    "task.refused": "a task has not begun",
}

#: What became of a call.
Outcome: TypeAlias = Literal["ok", "error", "cancelled"]
_Facts: TypeAlias = dict[str, str | int | float | bool]


def _of_task(task: Task) -> _Facts:
    """Return the facts of a task; made once for each SVID, and copied."""
    who, known = task.host.standing.who, task.facts
    if known is None or known[0] is not who:
        known = task.facts = (who, _facts_of(task, who))
    return known[1].copy()


def _facts_of(task: Task, who: tuple[str, str]) -> _Facts:
    workload, serial = who
    facts: _Facts = {
        "workload": workload,
        "svid_serial": serial,
        "agent": workload if task.agent == task.host.contract.agent.id else str(task.agent),
        "task": task.id,
        "purpose": task.purpose,
        "trace_id": task.trace_id,
    }
    if task.tenant:
        facts["tenant"] = task.tenant
    if task.parents:
        facts["parents"] = " ".join(task.parents)
    return facts


def _of_call(call: Call) -> _Facts:
    facts = _of_task(call.task)
    facts["call"] = call.id
    facts["action"] = call.permit.action
    if call.resource:
        facts["resource"] = call.resource
    if call.digest:
        facts["arguments"] = call.digest
    facts["duration_ms"] = int(call.seconds * 1e6) / 1000  # `round` takes six times as long
    return facts


@lru_cache(maxsize=256)
def _audience(audience: frozenset[str], resource: frozenset[str]) -> str:
    return " ".join(sorted(audience | resource))


def record_start(task: Task) -> None:
    """Tell that a task has begun."""
    facts = _of_task(task)
    facts["actions"] = " ".join(sorted(task.actions))
    facts["seconds"] = round(task.terms.seconds, 3)
    task.host.report(Event("task.started", f"task {task.id[:8]} has begun", facts))


def record_granted(task: Task, terms: Terms, child: str) -> None:
    """Tell that a task hands on some of its work.

    Args:
        task: Which.
        terms: To whom, and what.
        child: The id of the task that it becomes; empty for a ticket, which nobody has redeemed yet.
    """
    facts = _of_task(task)
    facts |= {
        "to": str(terms.agent),
        "actions": " ".join(sorted(terms.actions)),
        "seconds": round(terms.seconds, 3),
        "calls": terms.calls,
        "by": "task" if child else "ticket",
    }
    if child:
        facts["child"] = child
    if terms.within is not None:
        facts["resources"] = " ".join(terms.within)
    message = f"task {task.id[:8]} hands work on to {terms.agent}"
    task.host.report(Event("delegation.granted", message, facts))


def record_refusal(
    host: AgentHost,
    name: Literal["delegation.refused", "task.refused"],
    error: SpiffeError,
    task: Task | None = None,
    *,
    to: str = "",
) -> None:
    """Tell that authority was not given: nothing was handed on, a ticket was not taken, a task has not begun.

    Args:
        host: Where.
        name: Of the event.
        error: What its caller hears.
        task: Which would have handed it on, or has not begun; None where there is none yet.
        to: To whom, as a SPIFFE ID; empty for nobody else.
    """
    facts = _of_host(host) if task is None else _of_task(task)
    outcome = "error" if error.retryable else "denied"
    facts |= {"decision": "deny", "reason": error.code, "outcome": outcome}
    if to:
        facts["to"] = to
    if isinstance(error, AttenuationError):
        facts["held"] = f"{error.held:.200}"
    # What was asked for is not repeated: it was made up by a caller, who may have given a secret in its place.
    event = Event(name, f"{_REFUSED[name]}: {error.code}", facts, logging.WARNING)
    _tell_refusal(host, host.refusals, event)


def _tell_refusal(host: AgentHost, limit: Refusals, event: Event) -> None:
    """Tell of what costs nobody a call, as long as it is no flood."""
    untold = limit.take(host.clock.monotonic())
    if untold is None:
        return
    if untold:
        event = Event(event.name, event.message, {**event.attributes, "untold": untold}, event.level)
    host.report(event)


def no_task(action: str) -> Event:
    """Return what is told of a call that is part of no task: it has a name at most, which a model may have made up."""
    facts = {"decision": "deny", "reason": "no_task", "outcome": "denied"}
    if action:
        facts["action"] = f"{action:.200}"
    what = f"{action!r:.100}" if action else "a tool that is not listed"
    return Event("call.denied", f"{what} was denied: no_task", facts, logging.WARNING)


def record_no_task(host: AgentHost, action: str) -> None:
    """Tell a host of a call that was part of no task, while it was open."""
    event = no_task(action)
    event = Event(event.name, event.message, {**_of_host(host), **event.attributes}, event.level)
    _tell_refusal(host, host.strays, event)  # it may be another agent's, and floods nothing of this one's


def record_untold(host: AgentHost) -> None:
    """Tell, as a host ends, how many refusals the next one would have told of."""
    if untold := host.refusals.rest() + host.strays.rest():
        message = f"{untold} refusals more were not told one by one"
        host.report(Event("refusals.untold", message, _of_host(host) | {"untold": untold}, logging.WARNING))


def _of_host(host: AgentHost) -> _Facts:
    workload, serial = host.standing.who
    return {"workload": workload, "svid_serial": serial, "agent": str(host.contract.agent.id)}


def record_redeemed(task: Task) -> None:
    """Tell that a ticket was redeemed, and is this task now."""
    facts = _of_task(task)
    if task.root is not None:
        facts["token"] = task.root.fingerprint
    task.host.report(Event("delegation.redeemed", f"task {task.id[:8]} begins with a ticket", facts))


def record_end(task: Task) -> None:
    """Tell that a task has ended, in numbers."""
    how, why = task.ended or ("finished", "")
    facts = _of_task(task)
    facts |= {
        "outcome": how,
        "calls": task.budget.spent,
        "denied": task.denied,
        "revoked": task.revoked,
        "not_revoked": task.not_revoked,
        "duration_ms": round(task.seconds * 1000, 3),
    }
    level = logging.INFO if how == "finished" else logging.WARNING
    task.host.report(Event("task.ended", f"task {task.id[:8]}: {why}", facts, level))


def record_call(call: Call, outcome: Outcome, error: BaseException | None) -> None:
    """Tell what came of a call that nobody denied; without a decision, it ended before there was one."""
    facts = _of_call(call)
    decision, token = call.decision, call.token
    if decision is not None:
        facts["decision"] = "allow"
        facts["policy"] = decision.policy
    facts["outcome"] = outcome
    if call.approval:
        facts["approval"] = call.approval
    if token is not None:
        request = token.request
        facts["token"] = token.fingerprint
        facts["audience"] = _audience(request.audience, request.resource)
    if error is not None:
        facts["error"] = type(error).__name__
    if call.redacted:
        facts["redacted"] = call.redacted
    level = logging.INFO
    if outcome != "ok":
        level = logging.WARNING
        if outcome == "cancelled" and call.task.ended is not None:
            facts["ended"] = call.task.ended[0]
    call.task.host.report(Event("call.finished", f"{call.action}: {outcome}", facts, level))


def record_denial(call: Call, decision: Decision, cause: SpiffeError | None) -> None:
    """Tell that a call was not made, and why."""
    call.task.denied += 1
    facts = _of_call(call)
    facts |= {"decision": "deny", "reason": decision.reason, "policy": decision.policy, "outcome": "denied"}
    for name, value in decision.evidence:
        facts.setdefault(f"evidence_{name}", value)
    if cause is not None:
        facts["error"] = cause.code
    message = f"{call.action!r:.100} on {call.resource!r:.200} was denied: {decision.reason}"
    call.task.host.report(Event("call.denied", message, facts, logging.WARNING))


def record_withheld(call: Call, reason: str, origin: str) -> None:
    """Tell that something of a call was asked for in vain, or was not sent.

    Args:
        call: Which.
        reason: Why: `call_ended`, `task_ended`, `copied`, or an error's code.
        origin: Where it was not sent; a model may have made it up.
    """
    facts = _of_call(call)
    del facts["duration_ms"]  # it is not going on
    facts |= {"decision": "deny", "reason": reason, "outcome": "denied"}
    if origin:
        facts["origin"] = f"{origin:.300}"
    message = f"a credential of {call.action!r:.100} was withheld: {reason}"
    host = call.task.host
    _tell_refusal(host, host.refusals, Event("credential.withheld", message, facts, logging.WARNING))


def record_ignored(
    call: Call, reason: Literal["answer_used", "answer_of_another_task", "answer_not_recorded"]
) -> None:
    """Tell that a person's answer was not taken for a call, before anybody has decided about that."""
    facts = _of_call(call)
    del facts["duration_ms"]  # it has not begun
    facts["reason"] = reason
    message = f"an answer about {call.action!r:.100} is not taken: {reason}"
    host = call.task.host
    _tell_refusal(host, host.refusals, Event("approval.ignored", message, facts, logging.WARNING))


def record_anomaly(call: Call, kind: Literal["workflow", "rate", "first_use", "cross_tenant"]) -> None:
    """Tell of what is worth a look, whatever is decided about it."""
    level = logging.INFO if kind == "first_use" else logging.WARNING
    event = Event(f"anomaly.{kind}", f"{call.action!r:.100}: {kind.replace('_', ' ')}", _of_call(call), level)
    call.task.host.report(event)
