"""Attacks on who decides: approvals used again, decision points that are down, slow or lie, contracts swapped.

Each ends with the reason code in the audit; the tool never ran.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.support.agent_world import AGENT, AgentWorld, contract
from tests.support.manual_clock import settle
from tests.support.raw_broker import HANG, RawBroker, json_reply, raw_reply, serve_raw

from spiffe_client.agents import Answer, Call, Requires, Task, ToolGate, guard
from spiffe_client.errors import DeniedError, TaskEndedError
from spiffe_client.policy import (
    Approval,
    ApprovalRequest,
    AuthZenPdp,
    CallbackApprover,
    Contract,
    Decision,
    Question,
)

pytestmark = pytest.mark.anyio

READ, REFUND = "invoices:read", "orders:refund"
INVOICE, ORDER = "tenants/acme/invoices/7", "tenants/acme/orders/9"


def task_of(world: AgentWorld, *actions: str) -> Task:
    return world.host.task("close the March books", actions or [READ, REFUND, "summarize"], tenant="acme")


async def denied(task: Task, action: str, resource: str = "", **terms: Any) -> DeniedError:
    with pytest.raises(DeniedError) as caught:
        async with task.call(action, resource, **terms):
            raise AssertionError("it was let in")
    return caught.value


class Replays:
    """An approver that was taken over: it gives an answer that it got before."""

    def __init__(self) -> None:
        self.answer: Approval | None = None

    async def approve(self, request: ApprovalRequest) -> Approval | None:
        if self.answer is None:
            self.answer = request.approve(by="alice")
        return self.answer


class TestApprovals:
    @pytest.mark.parametrize(
        ("resource", "arguments"),
        [(ORDER, {"amount": 5000}), ("tenants/acme/orders/10", {"amount": 5}), (ORDER, {}), (ORDER, {"amount": 5})],
        ids=["other arguments", "another resource", "none", "the same, twice"],
    )
    async def test_used_again(self, resource: str, arguments: dict[str, object]) -> None:
        """Use a person's yes again: for other arguments, for another resource, or for the very same call a
        second time.

        An answer is for one request, and is used up by it.
        """
        async with AgentWorld(approver=Replays()).running() as world:
            async with task_of(world) as task:
                async with task.call(REFUND, ORDER, arguments={"amount": 5}):
                    pass
                await denied(task, REFUND, resource, arguments=arguments)
        assert ["not_approved"] == world.reasons
        assert ["another_request"] == [facts["cause"] for facts in world.told("approval.refused")]

    @pytest.mark.parametrize(
        ("resource", "arguments"),
        [(ORDER, {"amount": 5000}), ("tenants/acme/orders/10", {"amount": 5}), (ORDER, {"amount": 5})],
        ids=["other arguments", "another resource", "of another task"],
    )
    async def test_that_a_framework_mixes_up(
        self, world: AgentWorld, resource: str, arguments: dict[str, object]
    ) -> None:
        """An agent framework hands a person's yes for one call to another call with the same id.

        That is a no; the call that was approved can still be made.
        """
        gate = ToolGate({"refund": Requires(REFUND, "tenants/{tenant}/orders/{order}")})
        async with task_of(world) as task, task_of(world) as other:
            of_other = (resource, arguments) == (ORDER, {"amount": 5})
            made = gate.call("refund", {"order": "9", "amount": 5}, call_id="c1", task=other if of_other else task)
            shown = gate.asks(made)
            assert shown is not None
            order = resource.rpartition("/")[2]
            answer = Answer(shown.digest, by="alice", clock=world.clock)
            with pytest.raises(DeniedError):
                async with gate.call("refund", {"order": order, **arguments}, call_id="c1", approver=answer, task=task):
                    raise AssertionError("it was let in")
            async with gate.call("refund", {"order": "9", "amount": 5}, call_id="c1", approver=answer, task=made.task):
                pass
        assert ["not_approved"] == world.reasons
        assert ["another_request"] == [facts["cause"] for facts in world.told("approval.refused")]

    async def test_used_by_another_task(self) -> None:
        """Use a yes in another task, which asks for the very same.

        It was not that task's.
        """
        async with AgentWorld(approver=Replays()).running() as world:
            for n in range(2):
                async with task_of(world) as task:
                    if n == 0:
                        async with task.call(REFUND, ORDER):
                            pass
                    else:
                        await denied(task, REFUND, ORDER)
        assert ["not_approved"] == world.reasons

    async def test_taken_out_of_the_ledger(self) -> None:
        """Take a yes out of the ledger for a call of another task, argument, resource, action or tenant.

        What is kept for one call is refused for any other, and good once for its own.
        """
        async with AgentWorld(approver=Replays()).running() as world:
            async with task_of(world) as task, task_of(world) as other:
                ledger, now = world.host.approvals, world.clock.now()

                def question(of: Task, **facts: Any) -> Question:
                    whole = {"resource": ORDER, "action": REFUND, "arguments": "a", "tenant": "acme", **facts}
                    return Question(
                        of.agent, of.id, purpose="x", environment="prod", params={}, classification="", at=now, **whole
                    )

                request = ApprovalRequest.of(question(task), expires_at=now + timedelta(seconds=60))
                approval = request.approve(by="alice", clock=world.clock)
                ledger.add(request, approval)
                causes = []
                for wrong in (
                    question(other),
                    question(task, arguments="b"),
                    question(task, resource="tenants/acme/orders/10"),
                    question(task, action=READ),
                    question(task, tenant="globex"),
                ):
                    with pytest.raises(DeniedError) as caught:
                        ledger.take(approval, wrong)
                    causes.append(dict(caught.value.decision.evidence)["cause"])
                ledger.take(approval, question(task))
                with pytest.raises(DeniedError) as caught:
                    ledger.take(approval, question(task))
                causes.append(dict(caught.value.decision.evidence)["cause"])
                world.host.approver = replays = Replays()
                replays.answer = approval
                await denied(task, REFUND, ORDER)
        assert ["not_approved"] == world.reasons
        assert ["task", "arguments", "resource", "action", "tenant"] == [c.removeprefix("other_") for c in causes[:-1]]
        assert "unknown_or_used" == causes[-1]

    async def test_after_it_has_expired(self) -> None:
        """Say yes five minutes too late.

        The request has expired.
        """

        async def late(request: ApprovalRequest) -> bool:
            world.clock.skew += timedelta(seconds=301)
            return True

        async with AgentWorld(approver=CallbackApprover(late)).running() as world:
            async with task_of(world) as task:
                await denied(task, REFUND, ORDER)
        assert ["not_approved"] == world.reasons
        assert ["expired"] == [facts["cause"] for facts in world.told("approval.refused")]

    @pytest.mark.parametrize("blocking", [False, True])
    async def test_arguments_changed_while_somebody_looks_at_them(self, blocking: bool) -> None:
        """Change the arguments while a person looks at them: a list or a dict stays the caller's.

        What runs is what was approved; the changed call is another one, and denied.
        """
        order: dict[str, Any] = {"amount": 5}
        ran: list[object] = []

        async def sees(request: ApprovalRequest) -> str:
            order["amount"] = 5000
            return "alice"

        def refund(order: dict[str, Any]) -> None:
            ran.append(order)

        async def refund_async(order: dict[str, Any]) -> None:
            ran.append(order)

        tool: Any = guard(refund if blocking else refund_async, requires=REFUND, resource="tenants/{tenant}/orders/9")
        async with AgentWorld(approver=CallbackApprover(sees)).running() as world:
            async with task_of(world):
                with pytest.raises(DeniedError):
                    await anyio.to_thread.run_sync(tool, order) if blocking else await tool(order)
                order["amount"] = 5000
                await anyio.to_thread.run_sync(tool, order) if blocking else await tool(order)
        assert [{"amount": 5000}] == ran
        assert ["not_approved"] == world.reasons

    @pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
    async def test_an_approver_that_breaks(self, error: BaseException) -> None:
        """Break the approver: it raises, or ends the program.

        Nobody has said yes.
        """

        class Broken:
            async def approve(self, request: ApprovalRequest) -> Approval | None:
                raise error

        ran: list[str] = []
        async with AgentWorld(approver=Broken()).running() as world:
            async with task_of(world) as task:
                try:
                    async with task.call(REFUND, ORDER):
                        ran.append("it")
                except BaseException as caught:  # noqa: BLE001
                    ran.append(type(caught).__name__)
                assert {} == task.calls
        assert "it" not in ran
        assert (["not_approved"] if isinstance(error, Exception) else []) == world.reasons
        told = [facts["outcome"] for facts in world.told("call.finished")]
        assert ([] if isinstance(error, Exception) else ["cancelled"]) == told


@pytest.fixture(scope="module")
def server() -> Iterator[RawBroker]:
    with serve_raw(lambda asked: b"") as server:
        yield server


JSON = ("Content-Type", "application/json")
LIES = {
    "a text": json_reply({"decision": "true"}),
    "a number": json_reply({"decision": 1}),
    "null": json_reply({"decision": None}),
    "a list": json_reply([{"decision": True}]),
    "nothing": json_reply({}),
    "another spelling": json_reply({"Decision": True}),
    "said twice": raw_reply(200, b'{"decision": false, "decision": true}', JSON),
    "said twice, the other way": raw_reply(200, b'{"decision": true, "decision": false}', JSON),
    "no JSON": raw_reply(200, b"true", JSON),
    "more after it": raw_reply(200, b'{"decision": true} x', JSON),
    "another type": raw_reply(200, b'{"decision": true}', ("Content-Type", "text/html")),
    "an error": json_reply({"decision": True}, 500),
    "not allowed to ask": json_reply({"decision": True}, 401),
    "elsewhere": raw_reply(302, b"", ("Location", "http://127.0.0.1:1/yes")),
    "cut off": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 99\r\n\r\n{",
    "no HTTP": b"yes\r\n\r\n",
}


class TestDecisionPoints:
    @pytest.mark.parametrize("answer", LIES.values(), ids=LIES)
    async def test_that_lie(self, server: RawBroker, answer: Any) -> None:
        """A decision point answers almost yes: the text "true", the number 1, two answers, another content
        type, an error, a redirect, half a response.

        Anything but status 200 and the JSON value true is a no, and the audit has that nobody could decide.
        """
        server.script = lambda asked: answer
        async with AuthZenPdp(server.url, timeout=0.3) as pdp:
            async with AgentWorld(deciders=[pdp]).running() as world:
                async with task_of(world) as task:
                    await denied(task, READ, INVOICE)
        assert ["decision_point_unavailable"] == world.reasons

    async def test_that_are_slow(self, server: RawBroker) -> None:
        """The decision point takes the question, and does not answer.

        It is not waited for beyond its time: nobody could decide, and the call is denied.
        """
        server.script = lambda asked: HANG
        async with AuthZenPdp(server.url, timeout=0.3) as pdp:
            async with AgentWorld(deciders=[pdp]).running() as world:
                async with task_of(world) as task:
                    await denied(task, READ, INVOICE)
        assert ["decision_point_unavailable"] == world.reasons

    async def test_that_are_down(self) -> None:
        """The decision point is down.

        Nobody could decide: the call is denied.
        """
        async with AuthZenPdp("http://127.0.0.1:1", timeout=0.3) as pdp:
            async with AgentWorld(deciders=[pdp]).running() as world:
                async with task_of(world) as task:
                    await denied(task, READ, INVOICE)
        assert ["decision_point_unavailable"] == world.reasons

    @pytest.mark.parametrize(
        "answer", [True, 1, "allow", None, {"allowed": True}, Decision, RuntimeError("x")], ids=lambda a: type(a).__name__
    )
    async def test_of_ones_own_that_lie(self, answer: Any) -> None:
        """A decider in Python returns something that is no decision: True, 1, "allow", None, a class.

        What is no decision is none.
        """

        class Lies:
            async def decide(self, question: Question) -> Decision:
                if isinstance(answer, Exception):
                    raise answer
                return answer

        async with AgentWorld(deciders=[Lies()]).running() as world:
            async with task_of(world) as task:
                await denied(task, READ, INVOICE)
        assert ["decision_point_unavailable"] == world.reasons

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)], ids=repr)
    async def test_that_end_the_program(self, error: BaseException) -> None:
        """A decider ends the program.

        That passes on, and the call is not made.
        """

        class Ends:
            async def decide(self, question: Question) -> Decision:
                raise error

        async with AgentWorld(deciders=[Ends()]).running() as world:
            async with task_of(world) as task:
                with pytest.raises(type(error)):
                    async with task.call(READ, INVOICE):
                        raise AssertionError("it was let in")
                assert {} == task.calls
        assert ["cancelled"] == [facts["outcome"] for facts in world.told("call.finished")]

    async def test_asked_and_then_cancelled(self) -> None:
        """Give up waiting for a decision point that does not answer.

        There is no call, and nothing of it is left behind.
        """

        class Slow:
            async def decide(self, question: Question) -> Decision:
                await anyio.sleep_forever()
                raise AssertionError

        async with AgentWorld(deciders=[Slow()]).running() as world:
            async with task_of(world) as task:
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as group:
                        group.start_soon(denied, task, READ, INVOICE)
                        await settle()
                        scope.cancel()
                assert ({}, None) == (task.calls, task.previous)
        assert ["cancelled"] == [facts["outcome"] for facts in world.told("call.finished")]


class TestContracts:
    async def test_a_file_that_is_swapped(self, tmp_path: Path) -> None:
        """Swap the contract's file for a wider one while a task works, then delete it.

        What a task may do was said when the agent began; another file has no say in it.
        """
        path, wider = tmp_path / "agent.toml", tmp_path / "wider.toml"
        text = (
            f'[agent]\nid = "{AGENT}"\npurpose = "x"\nenvironment = "prod"\ntrust_domain = "prod.example"\n'
            '[actions."invoices:read"]\nresources = ["tenants/{tenant}/invoices/*"]\n'
        )
        path.write_text(text)
        wider.write_text(text + '[actions."payroll:read"]\n')
        world = AgentWorld(path)  # type: ignore[arg-type]
        async with world.running():
            async with task_of(world, READ) as task:
                shutil.copy(wider, path)
                await denied(task, "payroll:read")
                async with task.call(READ, INVOICE):
                    pass
                path.unlink()
                async with task.call(READ, INVOICE):
                    pass
        assert ["missing_scope"] == world.reasons

    async def test_a_contract_that_is_written_to(self, world: AgentWorld) -> None:
        """Write to the contract in memory: more actions, more calls, other resources.

        It is frozen, and what decides has its own copy.
        """
        what: Contract = world.host.contract
        for change in (
            lambda: setattr(what, "actions", {}),
            lambda: setattr(what.limits, "calls_per_task", 10**9),
            lambda: setattr(what.actions[READ], "resources", ("**",)),
        ):
            with pytest.raises(AttributeError):
                change()
        async with task_of(world) as task:
            await denied(task, READ, "tenants/globex/invoices/7")
        assert ["tenant_boundary"] == world.reasons

    async def test_withdrawn_while_somebody_thinks(self) -> None:
        """Withdraw the contract while a person looks at a call, who then says yes.

        The task has ended, and the yes is of no use.
        """
        asked, answer = anyio.Event(), anyio.Event()

        async def thinks(request: ApprovalRequest) -> bool:
            asked.set()
            with anyio.CancelScope(shield=True):
                await answer.wait()
            return True

        async def enter(call: Call) -> None:
            with pytest.raises(TaskEndedError):
                async with call:
                    raise AssertionError("it was let in")

        async with AgentWorld(contract(), approver=CallbackApprover(thinks)).running() as world:
            async with anyio.create_task_group() as group:
                with pytest.raises(TaskEndedError, match="contract was withdrawn"):
                    async with task_of(world) as task:
                        group.start_soon(enter, task.call(REFUND, ORDER))
                        await asked.wait()
                        world.host.withdraw("not reviewed")
                        await anyio.sleep_forever()
                answer.set()
        assert ["task_ended"] == world.reasons
