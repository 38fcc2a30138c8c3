"""May this call be made? Asked in this order, of whoever can say no fastest; the first no counts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import anyio.lowlevel

from spiffe_client.agents._arguments import arguments_digest
from spiffe_client.agents._denials import denial, refusal
from spiffe_client.agents._records import record_anomaly, record_call, record_denial
from spiffe_client.agents._spans import spanned
from spiffe_client.errors import DeniedError, SpiffeError, TaskError
from spiffe_client.policy import ApprovalRequest, Decision, Question, Reason, ask_approval

if TYPE_CHECKING:
    from spiffe_client.agents._call import Call
    from spiffe_client.agents._task import Task

__all__ = [
    "admit",
    "consult",
    "is_bound",
    "question_of",
    "recheck",
    "refused",
    "request_of",
    "same_call",
    "take_turn",
]

#: What can be done so that a call is allowed; whoever asks for anything else has denied it.
_KNOWN: Final = frozenset({"approve"})
#: How often a call is made again without being counted again: as often as people are asked about a run
#: at a time, and not so often that a model which repeats itself is never counted.
_REPLAYS: Final = 8
#: Characters of a framework's id of a call; of a longer one nobody remembers that it was there before.
_LONGEST_ID: Final = 256


def _deny(
    call: Call, reason: Reason, policy: str, *evidence: tuple[str, str | int | float | bool]
) -> DeniedError:
    return denial(call.task, call.action, call.resource, call.id, refusal(reason, policy, *evidence))


def admit(call: Call) -> Decision:
    """Decide at once, from what is known here: task, budget, rate, workflow, identity, contract.

    Raises:
        DeniedError: It may not be made.
    """
    task = call.task
    host = task.host
    now = host.clock.monotonic()
    task.refuse(now)
    if not host.recordable:
        raise _deny(call, "audit_unavailable", "audit")
    _count(call, now)
    if call.permit.ordered and not _in_order(call):
        raise _out_of_order(call)
    decision = _decide(call)
    if call.action not in host.used:
        host.used.add(call.action)
        record_anomaly(call, "first_use")
    return decision


def _decide(call: Call) -> Decision:
    task = call.task
    host = task.host
    if trouble := host.standing.trouble():
        raise _deny(call, "wrong_environment", "identity", ("trouble", trouble))
    decision = call.permit.ruling.decide(call.resource, call.classification, host.clock.now())
    if not decision.allowed:
        if decision.reason == "tenant_boundary":
            record_anomaly(call, "cross_tenant")
        raise denial(task, call.action, call.resource, call.id, decision)
    if not task.terms.covers(call.resource):
        raise _deny(call, "outside_purpose", "delegation", ("within", " ".join(task.terms.within or ())))
    return decision


def _in_order(call: Call) -> bool:
    workflow = call.task.host.contract.workflow
    return workflow is None or workflow.permits(call.action, previous=call.task.previous)


def _out_of_order(call: Call) -> DeniedError:
    record_anomaly(call, "workflow")
    return _deny(call, "workflow", "contract", ("previous", call.task.previous or ""))


def take_turn(call: Call) -> None:
    """Make a call what its task did last, if it may come after what was done while it waited.

    Raises:
        DeniedError: It may not any more.
    """
    with call.task.budget.lock:  # of two at once, one is the first
        if in_order := _in_order(call):
            call.task.previous = call.action
    if not in_order:
        raise _out_of_order(call)


def same_call(task: Task, what: tuple[str, str, str, str | None], new: str) -> tuple[str, bool]:
    """Return the id of the call that this is made again, or else a new one, and whether it is known from now on.

    A model can invent ids without end: no more are known than the task has calls, and each call with an
    id that is not known is another one, which is counted.

    Args:
        task: Whose call it is.
        what: The framework's id, the action, the resource, and the digest of the arguments.
        new: The id if it is a new one.
    """
    known = task.replays = {} if task.replays is None else task.replays
    if what not in known and (len(known) >= task.budget.calls or len(what[0]) > _LONGEST_ID):
        return new, False
    return known.setdefault(what, new), True


def _count(call: Call, now: float) -> None:
    task = call.task
    if task.counted is not None:
        again = task.counted.get(call.id)
        if again is not None and again < _REPLAYS:
            task.counted[call.id] = again + 1  # made again after a pause, it was counted
            return
    rate = task.host.rate
    if not task.budget.spend():
        raise _deny(call, "budget_spent", "contract", ("calls", task.budget.calls))
    if not rate.take(now):
        record_anomaly(call, "rate")
        raise _deny(call, "rate", "contract", ("per_minute", rate.per_minute))
    if call.replayable:
        task.counted = {} if task.counted is None else task.counted
        task.counted[call.id] = 0


def question_of(call: Call) -> Question:
    """Return what deciders are asked about a call."""
    task = call.task
    host = task.host
    return Question(
        task.agent,
        task.id,
        call.action,
        call.resource,
        task.tenant,
        task.purpose,
        host.environment,
        task.params,
        call.digest or "",
        call.classification,
        host.clock.now(),
        len(task.parents),
        task.parents,
    )


async def consult(call: Call, decision: Decision) -> Decision:
    """Ask those who take their time: decision points first, then a person where one must approve.

    Args:
        call: What is to be done.
        decision: What the contract says.

    Raises:
        DeniedError: Somebody said no, or nothing.
    """
    host = call.task.host
    question = question_of(call)
    obligations, policy, evidence = decision.obligations, decision.policy, decision.evidence
    if host.points is not None:
        with spanned("decide", **{"spiffe.action": call.action}):
            answer = await host.points.decide(question)
        if not answer.allowed:
            raise denial(call.task, call.action, call.resource, call.id, answer)
        obligations |= answer.obligations
        policy = f"{policy}, {answer.policy}" if answer.policy else policy
        evidence += answer.evidence
    if unknown := sorted(obligations - _KNOWN):
        raise _deny(call, "decision_point_denied", policy, ("obligation", f"{unknown[0]:.100}"))
    if "approve" in obligations:
        call.task.refuse(host.clock.monotonic())  # nobody is asked about what has ended meanwhile
        call.approval = await _approved(call, question)
    # What was so when it was asked need not be so when it is answered.
    await anyio.lowlevel.checkpoint_if_cancelled()  # whoever was asked may not have heard of it
    if not host.recordable:
        raise _deny(call, "audit_unavailable", "audit")
    _decide(call)
    return Decision(allowed=True, reason="allowed", policy=policy, evidence=evidence)


async def _approved(call: Call, question: Question) -> str:
    host = call.task.host
    approver = call.approver or host.approver
    if approver is None:
        raise _deny(call, "not_approved", "approval", ("cause", "no_approver"))
    if call.digest is None:
        raise _deny(call, "not_approved", "approval", ("cause", "arguments_are_not_json"))
    request = request_of(call, question)
    try:
        approval = await ask_approval(
            approver,
            request,
            timeout=host.approval_timeout,
            approvals=host.approvals,
            clock=host.clock,
            on_event=host.report,
        )
        host.approvals.take(approval, question)
    except DeniedError as error:
        raise denial(call.task, call.action, call.resource, call.id, error.decision) from error
    return approval.request


def request_of(call: Call, question: Question) -> ApprovalRequest:
    """Return what a person is asked about a call.

    Raises:
        DeniedError: Its arguments are others by now than those that it is about.
    """
    host = call.task.host
    expires_at = host.clock.now() + timedelta(seconds=host.approval_timeout)
    if (shown := call.shown()) is None:
        raise _deny(call, "not_approved", "arguments", ("cause", "arguments_were_changed"))
    return ApprovalRequest.of(question, expires_at=expires_at, shown=shown)


def is_bound(call: Call) -> bool:
    """Say whether somebody approved the arguments of a call, or its token is bound to them."""
    return bool(call.approval) or call.permit.sensitive


def recheck(call: Call, arguments: Mapping[str, object]) -> None:
    """Return if these are still the arguments that were decided about.

    Raises:
        DeniedError: They were changed.
    """
    if (arguments_digest(arguments) if arguments else "") != call.digest:
        denied = _deny(call, "not_approved", "arguments", ("cause", "arguments_were_changed"))
        record_denial(call, denied.decision, None)
        raise denied


def refused(call: Call, error: BaseException) -> BaseException:
    """Return the error of a call that is not made, and tell of it: a denial, or that it was given up.

    Args:
        call: What was to be done.
        error: What came in between: of tokens, it is a denial, too.
    """
    if not isinstance(error, SpiffeError) or (
        isinstance(error, TaskError) and not isinstance(error, DeniedError)
    ):
        if isinstance(error, Exception):
            record_call(call, "error", error)
        elif call.task.ended is None:
            record_call(call, "cancelled", error)
        else:  # cancelled by the end of its task
            record_denial(call, call.task.ending().decision, None)
        return error
    denied = _denial_of(call, error)
    record_denial(call, denied.decision, None if denied is error else error)
    if denied is not error:
        denied.__cause__ = error
    return denied


def _denial_of(call: Call, error: SpiffeError) -> DeniedError:
    if isinstance(error, DeniedError):
        return error
    reason: Reason = "token_unavailable" if error.retryable else "token_refused"
    return _deny(call, reason, "token broker", ("error", error.code))
