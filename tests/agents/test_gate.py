"""What adapters share: tools by name, calls that are made again, people who were asked before."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from tests.support.agent_world import AgentWorld, contract

from spiffe_client.agents import Answer, Requires, Task, ToolGate
from spiffe_client.errors import DeniedError, NoTaskError

pytestmark = pytest.mark.anyio

READ, REFUND = "invoices:read", "orders:refund"
GATE = ToolGate(
    {
        "read_invoice": Requires(READ, "tenants/{tenant}/invoices/{invoice_id}", "confidential"),
        "refund": Requires(REFUND, "tenants/{tenant}/orders/{order}"),
        "summarize": "summarize",
    }
)


def task_of(world: AgentWorld) -> Task:
    return world.host.task("close the March books", [READ, REFUND, "summarize"], tenant="acme")


async def test_a_tool_is_a_call(world: AgentWorld) -> None:
    """By its name and arguments; what comes back is clean."""
    async with task_of(world):
        async with GATE.call("read_invoice", {"invoice_id": 7}) as call:
            assert "a [redacted]" == call.clean("a eyJhbGciOiJub25l.eyJhIjoxfQ.")
        with pytest.raises(DeniedError):
            async with GATE.call("read_invoice", {"invoice_id": "../7"}):
                pass
    assert ("tenants/acme/invoices/7", 1) == tuple(world.told("call.finished")[0][n] for n in ("resource", "redacted"))


async def test_another_tool_is_denied(world: AgentWorld) -> None:
    """Also one with the name of an action; it is told."""
    async with task_of(world):
        for name in ("delete_all", READ):
            with pytest.raises(DeniedError, match="this task may do"):
                GATE.call(name, {})
    assert ["missing_scope"] * 2 == world.reasons


async def test_outside_a_task(world: AgentWorld) -> None:
    """Unless it is said whose call it is."""
    for tool in ("summarize", "no\ntool"):
        with pytest.raises(NoTaskError):
            GATE.call(tool, {})
    assert ["'summarize' was denied", "a tool that is not listed was denied"] == [event.message.split(": ")[0] for event in world.audit]
    assert ["no_task"] * 2 == world.reasons
    async with task_of(world) as task:
        pass
    assert task is GATE.call("summarize", {}, task=task).task


async def test_made_again_it_is_the_same(world: AgentWorld) -> None:
    """Counted once, with one id; with other arguments it is another."""
    async with task_of(world) as task:
        ids = set()
        for _ in range(3):
            async with GATE.call("read_invoice", {"invoice_id": "7"}, call_id="c1") as call:
                ids.add(call.id)
        assert (1, 1) == (len(ids), task.budget.spent)
        async with GATE.call("read_invoice", {"invoice_id": "8"}, call_id="c1") as call:
            assert call.id not in ids
        async with GATE.call("read_invoice", {"invoice_id": "7"}) as call:
            assert call.id not in ids
        assert 3 == task.budget.spent


async def test_made_again_while_it_goes_on(world: AgentWorld) -> None:
    """It is another one: counted, and ended with its task like the first."""
    async with task_of(world) as task:
        first, second = (GATE.call("read_invoice", {"invoice_id": "7"}, call_id="c1") for _ in range(2))
        assert first.id == second.id
        async with first, second:
            assert {first.id: first, second.id: second} == task.calls
            assert 2 == task.budget.spent
    assert {first.id, second.id} == {facts["call"] for facts in world.told("call.finished")}


async def test_what_the_tool_gets(world: AgentWorld) -> None:
    """Is what was decided about, or it is denied and told."""
    async with task_of(world):
        async with GATE.call("read_invoice", {"invoice_id": "7"}) as call:
            GATE.verify(call, "read_invoice", {"invoice_id": 7, "tenant": "acme"})
            for changed in ({"invoice_id": 8}, {"invoice_id": 7, "tenant": "globex"}, {"invoice_id": "*"}):
                with pytest.raises(DeniedError, match="this task may do it on: tenants/acme/invoices"):
                    GATE.verify(call, "read_invoice", changed)
    assert ["outside_purpose"] * 3 == world.reasons


async def test_a_model_that_repeats_itself_is_counted(world: AgentWorld) -> None:
    """The same call again and again, by the same id, is free a few times only."""
    async with task_of(world) as task:
        for _ in range(30):
            async with GATE.call("read_invoice", {"invoice_id": "7"}, call_id="c1"):
                pass
        assert 4 == task.budget.spent


async def test_who_was_asked_before(world: AgentWorld) -> None:
    """A framework pauses, somebody answers, the call is made with the answer."""
    async with task_of(world):
        call = GATE.call("refund", {"order": "9"}, call_id="c1")
        request = GATE.asks(call)
        assert request is not None
        assert (REFUND, "tenants/acme/orders/9", call.digest) == (request.action, request.resource, request.arguments)
        with pytest.raises(DeniedError, match="person's approval"):
            async with GATE.call("refund", {"order": "9"}, call_id="c1", approver=Answer(request.digest, by="")):
                pass
        approver = Answer(request.digest, by="alice", clock=world.clock)
        async with GATE.call("refund", {"order": "9"}, call_id="c1", approver=approver) as made:
            assert call.id == made.id
        with pytest.raises(DeniedError, match="person's approval"):
            async with GATE.call("refund", {"order": "9"}, call_id="c1", approver=approver):
                pass
    assert ["alice"] == [facts["approver"] for facts in world.told("approval.granted")]


@pytest.mark.parametrize("changed", [{"order": "8"}, {"order": "9", "amount": 5}])
async def test_an_answer_to_something_else(world: AgentWorld, changed: dict[str, Any]) -> None:
    """Is a no; and so is one that another task was given."""
    async with task_of(world):
        request = GATE.asks(GATE.call("refund", {"order": "9"}))
        assert request is not None
        with pytest.raises(DeniedError, match="person's approval"):
            async with GATE.call("refund", changed, approver=Answer(request.digest, by="alice", clock=world.clock)):
                pass
    async with task_of(world):
        with pytest.raises(DeniedError, match="person's approval"):
            async with GATE.call("refund", {"order": "9"}, approver=Answer(request.digest, by="alice", clock=world.clock)):
                pass


async def test_arguments_that_are_changed_while_somebody_is_asked(world: AgentWorld) -> None:
    """What was approved is not what would be done: it is denied. What nobody approved is not looked at."""
    arguments = {"order": "9", "amount": 5}
    async with task_of(world):
        request = GATE.asks(GATE.call("refund", arguments))
        assert request is not None
        async with GATE.call("refund", arguments, approver=Answer(request.digest, by="alice", clock=world.clock)) as call:
            assert GATE.recheck(call, arguments)
            arguments["amount"] = 5000
            for now in (arguments, {}):
                with pytest.raises(DeniedError):
                    GATE.recheck(call, now)
        async with GATE.call("summarize", {"a": 1}) as call:
            assert not GATE.recheck(call, {"a": 2})
    assert ["not_approved"] * 2 == world.reasons


async def test_a_tool_in_another_ones_call(world: AgentWorld) -> None:
    """It is denied, though it would touch the same; also one that is not listed."""
    gate = ToolGate({"read": Requires(READ, "tenants/{tenant}/x"), "write": Requires(REFUND, "tenants/{tenant}/x")})
    async with task_of(world) as task:
        call = task.call(READ, "tenants/acme/x")
        gate.verify(call, "read", {})
        for name in ("write", "erase"):
            with pytest.raises(DeniedError):
                gate.verify(call, name, {})


async def test_nobody_is_asked_in_vain(world: AgentWorld) -> None:
    """Not about what needs no approval, and not about what is denied anyhow."""
    async with task_of(world):
        assert None is GATE.asks(GATE.call("summarize", {}))
        assert None is GATE.asks(GATE.call("refund", {"order": "9", "tenant": "globex"}))
    async with AgentWorld(contract(agent={"environment": "test"}), environment="test").running() as other:
        async with task_of(other):
            assert None is not GATE.asks(GATE.call("refund", {"order": "9"}))
    await anyio.lowlevel.checkpoint()
