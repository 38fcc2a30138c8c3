"""Asking a human: a yes is for one call, once; everything else is a no."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from spiffe_client.audit import Event
from spiffe_client.errors import DeniedError, PolicyError
from spiffe_client.ids import SpiffeId
from spiffe_client.policy import Approval, ApprovalRequest, Approvals, CallbackApprover, ask_approval
from tests.support.manual_clock import ManualClock
from tests.support.questions import NOON, ask

pytestmark = pytest.mark.anyio


def request_for(**facts: Any) -> ApprovalRequest:
    return ApprovalRequest.of(ask(**facts), expires_at=NOON + timedelta(seconds=60))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


class Answers:
    """An approver that answers with what a function makes of the request."""

    def __init__(self, answer: Callable[[ApprovalRequest], object]) -> None:
        self._answer = answer

    async def approve(self, request: ApprovalRequest) -> Approval | None:
        return self._answer(request)  # type: ignore[return-value]


class Silent:
    """An approver that never answers, or only when it is told not to."""

    def __init__(self, *, late: object = None) -> None:
        self.asked = anyio.Event()
        self._late = late

    async def approve(self, request: ApprovalRequest) -> Approval | None:
        self.asked.set()
        try:
            await anyio.sleep_forever()
        except BaseException:
            if self._late is None:
                raise
        if isinstance(self._late, Exception):
            raise self._late
        return Approval(request.id, "alice", NOON, request.digest)


def yes(request: ApprovalRequest) -> Approval:
    return Approval(request.id, "alice", NOON, request.digest)


async def refused(approver: Any, request: ApprovalRequest, clock: ManualClock, **options: Any) -> tuple[dict, Event]:
    """Evidence of a refusal, and what was reported of it."""
    events: list[Event] = []
    with pytest.raises(DeniedError) as denied:
        await ask_approval(approver, request, timeout=30, clock=clock, on_event=events.append, **options)
    assert "not_approved" == denied.value.reason
    (event,) = events
    assert ("approval.refused", "deny", "not_approved") == (
        event.name, event.attributes["decision"], event.attributes["reason"],
    )  # fmt: skip
    evidence = dict(denied.value.decision.evidence)
    assert request.id == evidence["approval"] == event.attributes["approval"]
    assert evidence["cause"] == event.attributes["cause"]
    return evidence, event


class TestAsking:
    async def test_yes(self, clock: ManualClock) -> None:
        """Is returned, kept in the ledger, and told to the audit with who it was."""
        events: list[Event] = []
        approvals = Approvals(clock=clock)
        request = request_for()

        approval = await ask_approval(
            Answers(yes), request, timeout=30, approvals=approvals, clock=clock, on_event=events.append
        )

        assert Approval(request.id, "alice", NOON, request.digest) == approval
        assert 1 == len(approvals)
        (event,) = events
        assert "approval.granted" == event.name
        assert {
            "agent": "spiffe://prod.example/agent/closer",
            "task": "task-1",
            "action": "invoices:read",
            "resource": "tenants/acme/invoices/7",
            "tenant": "acme",
            "arguments": ask().arguments,
            "purpose": "close the March books",
            "approval": request.id,
            "approver": "alice",
            "decision": "allow",
        } == dict(event.attributes)

    async def test_yes_without_a_ledger(self, clock: ManualClock) -> None:
        """Is for the caller to use once."""
        request = request_for()

        assert Approval(request.id, "alice", NOON, request.digest) == await ask_approval(
            Answers(yes), request, timeout=30, clock=clock
        )

    async def test_no(self, clock: ManualClock) -> None:
        """Is a denial that a model may read."""
        evidence, _ = await refused(Answers(lambda _: None), request_for(), clock)

        assert "no" == evidence["cause"]
        with pytest.raises(DeniedError, match="^'invoices:read' on 'tenants/acme/invoices/7' needs somebody's approval"):
            await ask_approval(Answers(lambda _: None), request_for(), timeout=30, clock=clock)

    async def test_exception(self, clock: ManualClock) -> None:
        """Is a no, with its kind in the evidence and itself as the cause."""
        wrong = ValueError("the password is hunter2")
        evidence, event = await refused(CallbackApprover(_raiser(wrong)), request_for(), clock)

        assert ("error", "ValueError") == (evidence["cause"], evidence["error"])
        assert "hunter2" not in repr(event)
        with pytest.raises(DeniedError) as denied:
            await ask_approval(CallbackApprover(_raiser(wrong)), request_for(), timeout=30, clock=clock)
        assert wrong is denied.value.__cause__

    async def test_error_of_ours(self, clock: ManualClock) -> None:
        """Is named by its stable code."""
        evidence, _ = await refused(CallbackApprover(_raiser(PolicyError("x"))), request_for(), clock)

        assert "policy" == evidence["error"]

    async def test_silence(self, clock: ManualClock) -> None:
        """Is a no when the time is over."""
        silent = Silent()
        async with anyio.create_task_group() as group:
            evidence: dict = {}

            async def wait() -> None:
                evidence.update((await refused(silent, request_for(), clock))[0])

            group.start_soon(wait)
            await silent.asked.wait()
            await clock.advance(30)

        assert "timeout" == evidence["cause"]

    async def test_no_time_at_all(self, clock: ManualClock) -> None:
        """Nobody is asked what cannot be answered in time."""
        silent = Silent()
        request = replace(request_for(), expires_at=NOON)

        evidence, _ = await refused(silent, request, clock)

        assert "timeout" == evidence["cause"]
        assert not silent.asked.is_set()

    async def test_caller_that_is_cancelled(self, clock: ManualClock) -> None:
        """Is cancelled: that is no answer of the approver's."""
        silent = Silent()
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: ask_approval(silent, request_for(), timeout=30, clock=clock))
            await silent.asked.wait()
            group.cancel_scope.cancel()


class TestAttacksOnTheAnswer:
    @pytest.mark.parametrize(
        "answer",
        [
            lambda r: r.approve(by=""),
            lambda r: r.approve(by="alice\x1b[2K\rbob"),
            lambda r: r.approve(by="a" * 201),
            lambda r: r.approve(by=True),  # type: ignore[arg-type]
            lambda r: True,
            lambda r: r.id,
        ],
        ids=["nobody", "control characters", "long name", "name of a type", "true", "the id"],
    )
    async def test_answer_that_is_none(self, clock: ManualClock, answer: Callable[[ApprovalRequest], object]) -> None:
        """An answer by nobody, or of another type, is a no."""
        evidence, _ = await refused(Answers(answer), request_for(), clock)

        assert "wrong_answer" == evidence["cause"]

    @pytest.mark.parametrize(
        "other",
        [
            {}, {"agent": SpiffeId.parse("spiffe://prod.example/agent/auditor")}, {"task": "task-2"}, {"tenant": "globex"},
            {"action": "orders:refund"}, {"resource": "tenants/acme/invoices/8"}, {"arguments": "of-others"},
        ],
        ids=lambda other: next(iter(other), "the same again"),
    )  # fmt: skip
    async def test_answer_to_another_request(self, clock: ManualClock, other: dict[str, Any]) -> None:
        """With its own id, and with the id of what it is put under: what was shown counts."""
        asked, request = request_for(**other), request_for()
        for answer in (asked.approve(by="alice"), replace(asked.approve(by="alice"), request=request.id)):
            if answer.request == request.id and not other:
                continue  # that is the answer to it
            evidence, _ = await refused(CallbackApprover(lambda _, answer=answer: answer), request, clock)
            assert "another_request" == evidence["cause"]

    def test_what_an_answer_repeats(self) -> None:
        """Is the same when it is asked again, and can be worked out elsewhere."""
        one, again = request_for(), request_for(at=NOON + timedelta(seconds=5))
        facts = '["spiffe://prod.example/agent/closer","task-1","acme","invoices:read","tenants/acme/invoices/7","%s"]'
        whole = hashlib.sha256((facts % one.arguments).encode()).digest()

        assert one.id != again.id
        assert base64.urlsafe_b64encode(whole).rstrip(b"=").decode() == one.digest == again.digest

    @pytest.mark.parametrize("late", ["yes", RuntimeError("interrupted")], ids=["yes", "error"])
    async def test_answer_after_the_deadline(self, clock: ManualClock, late: object) -> None:
        """An approver that goes on in spite of being cancelled has not answered in time."""
        stubborn = Silent(late=late)
        evidence: dict = {}
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                evidence.update((await refused(stubborn, request_for(), clock))[0])

            group.start_soon(wait)
            await stubborn.asked.wait()
            await clock.advance(30)

        assert "timeout" == evidence["cause"]

    async def test_answer_after_the_request_expired(self, clock: ManualClock) -> None:
        """Also where nobody's timer saw it: the wall clock was set meanwhile."""

        def set_clock(request: ApprovalRequest) -> Approval:
            clock.skew = timedelta(minutes=5)
            return yes(request)

        evidence, _ = await refused(Answers(set_clock), request_for(), clock)

        assert "expired" == evidence["cause"]

    async def test_answered_twice(self, clock: ManualClock) -> None:
        """One request is one approval: the second yes is refused, and told."""
        approvals, request = Approvals(clock=clock), request_for()
        await ask_approval(Answers(yes), request, timeout=30, approvals=approvals, clock=clock)

        evidence, _ = await refused(Answers(yes), request, clock, approvals=approvals)

        assert "answered_before" == evidence["cause"]


async def advance(clock: ManualClock, seconds: float) -> None:
    """Let time pass while a thread works, which keeps a loop from being idle."""
    while not clock.sleepers:
        await anyio.lowlevel.checkpoint()
    await clock.advance(seconds)


def _raiser(error: Exception) -> Callable[[ApprovalRequest], bool]:
    def ask(request: ApprovalRequest) -> bool:
        raise error

    return ask


class TestCallback:
    @pytest.mark.parametrize(("answer", "name"), [(True, "ops"), ("alice", "alice")])
    async def test_yes(self, clock: ManualClock, answer: bool | str, name: str) -> None:
        """True is a yes of whoever the callback stands for, a name is that person's."""

        async def later(request: ApprovalRequest) -> bool | str:
            return answer

        request = request_for()
        for function in (lambda request: answer, later, lambda request: later(request)):
            approval = await CallbackApprover(function, name="ops", clock=clock).approve(request)
            assert Approval(request.id, name, NOON, request.digest) == approval

    @pytest.mark.parametrize("answer", [False, None])
    async def test_no(self, answer: bool | None) -> None:
        """False and None are a no."""
        assert None is await CallbackApprover(lambda request: answer).approve(request_for())

    @pytest.mark.parametrize("answer", [1, "", 0, ["alice"], b"alice"], ids=repr)
    async def test_attack_answer_that_looks_like_yes(self, clock: ManualClock, answer: object) -> None:
        """Nothing is taken for true that is not."""
        approver = CallbackApprover(lambda request: answer)  # type: ignore[arg-type,return-value]

        evidence, _ = await refused(approver, request_for(), clock)

        assert "TypeError" == evidence["error"]

    async def test_attack_function_that_blocks(self, clock: ManualClock) -> None:
        """It blocks a thread and nothing else, and what it says after the deadline does not count."""
        asked, go_on, ended = threading.Event(), threading.Event(), threading.Event()

        def block(request: ApprovalRequest) -> bool:
            asked.set()
            go_on.wait(20)
            ended.set()
            return True

        evidence: dict = {}
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                evidence.update((await refused(CallbackApprover(block), request_for(), clock))[0])

            group.start_soon(wait)
            await anyio.to_thread.run_sync(asked.wait, 20)
            await advance(clock, 30)
        go_on.set()

        assert "timeout" == evidence["cause"]
        assert await anyio.to_thread.run_sync(ended.wait, 20)

    async def test_object_with_a_coroutine(self) -> None:
        """Any callable will do, also one that has to be waited for."""

        class Asks:
            async def __call__(self, request: ApprovalRequest) -> bool:
                return True

        assert await CallbackApprover(Asks()).approve(request_for())


class TestLedger:
    def granted(self, clock: ManualClock, **facts: Any) -> tuple[Approvals, Approval, ApprovalRequest]:
        approvals, request = Approvals(clock=clock), request_for(**facts)
        approvals.add(request, yes(request))
        return approvals, yes(request), request

    def test_it_is_taken_for_its_call(self, clock: ManualClock) -> None:
        """Whatever else has changed about the question: time, purpose, parents."""
        approvals, approval, _ = self.granted(clock)

        assert approval == approvals.take(approval, ask(at=NOON + timedelta(seconds=9), depth=1))
        assert 0 == len(approvals)

    def test_attack_approval_used_twice(self, clock: ManualClock) -> None:
        """The second use is refused."""
        approvals, approval, _ = self.granted(clock)
        approvals.take(approval, ask())

        with pytest.raises(DeniedError) as denied:
            approvals.take(approval, ask())

        assert ("cause", "unknown_or_used") in denied.value.decision.evidence

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("arguments", "another-digest"),
            ("arguments", ""),
            ("resource", "tenants/acme/invoices/8"),
            ("action", "invoices:delete"),
            ("tenant", "umbrella"),
            ("task", "task-2"),
            ("agent", SpiffeId.parse("spiffe://prod.example/agent/other")),
        ],
        ids=lambda value: str(value) or "none",
    )
    def test_attack_approval_reused_for_something_else(self, clock: ManualClock, name: str, value: object) -> None:
        """It is refused, and stays good for the call it was given for."""
        approvals, approval, _ = self.granted(clock)

        with pytest.raises(DeniedError) as denied:
            approvals.take(approval, ask(**{name: value}))

        assert ("cause", f"other_{name}") in denied.value.decision.evidence
        assert approval == approvals.take(approval, ask())

    def test_attack_approval_used_late(self, clock: ManualClock) -> None:
        """After its request has expired it is refused and forgotten."""
        approvals, approval, _ = self.granted(clock)
        clock.skew = timedelta(seconds=60)

        with pytest.raises(DeniedError) as denied:
            approvals.take(approval, ask())

        assert ("cause", "expired") in denied.value.decision.evidence
        assert 0 == len(approvals)

    def test_attack_approval_that_nobody_gave(self, clock: ManualClock) -> None:
        """One that was made up, or changed, is refused."""
        approvals, approval, _ = self.granted(clock)

        for forged in (replace(approval, request="guessed"), replace(approval, approver="the boss")):
            with pytest.raises(DeniedError):
                approvals.take(forged, ask())

    def test_attack_two_threads_take_one(self, clock: ManualClock) -> None:
        """Whoever is slower is refused, also if he saw it there."""
        approvals, approval, _ = self.granted(clock)

        class Rival(ManualClock):
            def now(self):  # in the middle of the other's taking
                approvals._clock = clock
                approvals.take(approval, ask())
                return super().now()

        approvals._clock = Rival(NOON)
        with pytest.raises(DeniedError) as denied:
            approvals.take(approval, ask())

        assert ("cause", "unknown_or_used") in denied.value.decision.evidence

    def test_attack_approval_of_another_request(self, clock: ManualClock) -> None:
        """It is not even kept."""
        approvals, one, other = Approvals(clock=clock), request_for(), request_for()

        with pytest.raises(DeniedError) as denied:
            approvals.add(one, yes(other))

        assert ("cause", "another_request") in denied.value.decision.evidence

    def test_it_is_bounded(self, clock: ManualClock) -> None:
        """When it is full, what has expired makes place; if nothing has, no more is kept."""
        approvals = Approvals(clock=clock, capacity=2)
        for _ in range(2):
            request = request_for()
            approvals.add(request, yes(request))
        late = replace(request_for(), expires_at=NOON + timedelta(hours=1))

        with pytest.raises(DeniedError) as denied:
            approvals.add(late, yes(late))
        clock.skew = timedelta(seconds=60)
        approvals.add(late, yes(late))

        assert ("cause", "too_many") in denied.value.decision.evidence
        assert 1 == len(approvals)

    def test_task_that_has_ended(self, clock: ManualClock) -> None:
        """Takes what was approved for it along, and nothing of another's."""
        approvals, approval, _ = self.granted(clock)
        other = request_for(task="task-2")
        approvals.add(other, yes(other))

        approvals.drop("task-1")

        assert 1 == len(approvals)
        with pytest.raises(DeniedError):
            approvals.take(approval, ask())


def test_requests_of_one_question_are_told_apart() -> None:
    """Each has an id that nobody can guess, and says what it is about."""
    one, other = request_for(resource=""), request_for()

    assert one.id != other.id
    assert 22 == len(one.id)
    assert "spiffe://prod.example/agent/closer asks for invoices:read on nothing" == one.text
