"""Asking an approver: with a deadline, checked, told to the audit."""

from __future__ import annotations

import logging
from typing import Final

import anyio

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.audit import Event, EventSink, safe_sink
from spiffe_client.errors import DeniedError, SpiffeError
from spiffe_client.policy._approval import Approval, ApprovalRequest, Approvals, Approver, not_approved

__all__ = ["ask_approval"]

#: Characters of who approved.
_LONGEST_NAME: Final = 200


async def ask_approval(
    approver: Approver,
    request: ApprovalRequest,
    *,
    timeout: float,  # noqa: ASYNC109 - kept with the clock
    approvals: Approvals | None = None,
    clock: Clock = SYSTEM_CLOCK,
    on_event: EventSink | None = None,
) -> Approval:
    """Ask whether a call may be made, and wait for the answer.

    No answer in time is a no, and so are an exception, an answer to something else and an answer
    after the request has expired. Either way `approval.granted` or `approval.refused` is reported.

    Args:
        approver: Whom to ask.
        request: What.
        timeout: Seconds to wait at most; never longer than until the request expires.
        approvals: The ledger to keep the approval in, for `Approvals.take`.
        clock: Keeps the deadline.
        on_event: Told the answer; None for the log.

    Raises:
        DeniedError: Nobody approved; `decision.evidence` has the cause: `no`, `timeout`, `expired`,
            `error` (with the error's code or type), `wrong_answer`, `another_request`, or what
            `Approvals.add` says.
    """
    report = safe_sink(on_event)
    try:
        approval = _checked(await _answer(approver, request, timeout, clock), request, clock)
        if approvals is not None:
            approvals.add(request, approval)
    except DeniedError as denied:
        evidence = dict(denied.decision.evidence)
        attributes = {**_facts(request), **evidence, "decision": "deny", "reason": denied.reason}
        message = f"{request.agent} may not do {request.action!r:.100}: {evidence['cause']}"
        report(Event("approval.refused", message, attributes, logging.WARNING))
        raise
    attributes = {
        **_facts(request),
        "approval": request.id,
        "approver": approval.approver,
        "decision": "allow",
    }
    message = f"{approval.approver} lets {request.agent} do {request.action!r:.100}"
    report(Event("approval.granted", message, attributes))
    return approval


async def _answer(approver: Approver, request: ApprovalRequest, seconds: float, clock: Clock) -> object:
    """Return what the approver returned, whatever that is."""
    left = min(seconds, (request.expires_at - clock.now()).total_seconds())
    if left <= 0:
        raise _refusal(request, "timeout")
    answer: object = None
    failure: Exception | None = None
    late = False
    async with anyio.create_task_group() as group:

        async def expire() -> None:
            nonlocal late
            await clock.sleep(left)
            late = True
            group.cancel_scope.cancel()

        group.start_soon(expire)
        try:
            answer = await approver.approve(request)
        except Exception as error:  # noqa: BLE001 - the border to approvers of users: whoever raises says no
            failure = error
        group.cancel_scope.cancel()
    if late:  # also if there is an answer, in spite of having been cancelled
        raise _refusal(request, "timeout")
    if failure is not None:
        raise _refusal(request, "error", **_named(failure)) from failure
    return answer


def _named(failure: Exception) -> dict[str, str]:
    """Return what an error is, without its text, which may say anything."""
    if not isinstance(failure, SpiffeError):
        return {"error": type(failure).__name__}
    cause = dict(failure.decision.evidence).get("cause") if isinstance(failure, DeniedError) else None
    return {"error": failure.code, **({"detail": str(cause)} if cause else {})}


def _checked(answer: object, request: ApprovalRequest, clock: Clock) -> Approval:
    if answer is None:
        raise _refusal(request, "no")
    if not isinstance(answer, Approval) or not _is_name(answer.approver):
        raise _refusal(request, "wrong_answer")
    if not request.is_answered_by(answer):
        raise _refusal(request, "another_request")
    if clock.now() >= request.expires_at:
        raise _refusal(request, "expired")
    return answer


def _refusal(request: ApprovalRequest, cause: str, **evidence: str) -> DeniedError:
    return not_approved(request.action, request.resource, approval=request.id, cause=cause, **evidence)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable()


def _facts(request: ApprovalRequest) -> dict[str, str]:
    return {
        "agent": str(request.agent),
        "task": request.task,
        "action": request.action,
        "resource": request.resource,
        "tenant": request.tenant,
        "arguments": request.arguments,
        "purpose": request.purpose,
    }
