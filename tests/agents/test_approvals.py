"""What a person sees who is asked about a call."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.agent_world import AgentWorld

from spiffe_client.agents import guard
from spiffe_client.errors import DeniedError
from spiffe_client.policy import Approval, ApprovalRequest

pytestmark = pytest.mark.anyio

REFUND = "orders:refund"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


class Person:
    """Says yes to all that is shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    async def approve(self, request: ApprovalRequest) -> Approval | None:
        assert "shown" not in repr(request)
        self.shown.append(request.shown)
        return request.approve(by="alice")


@guard(requires=REFUND, resource="tenants/{tenant}/orders/{order}")
async def refund(order: str, **more: Any) -> str:
    return "done"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"amount": 5, "why": "because \u202e"}, '{"amount":5,"order":"7","why":"because \u202e"}'),
        ({"note": f"use {JWT}"}, '{"note":"use [redacted]","order":"7"}'),
        ({"note": "x" * 3980 + JWT}, '{"note":"' + "x" * 3980 + "[redacted]\"… (13 more)"),
        ({"note": "x" * 4000}, f'{{"note":"{"x" * 3991}… (23 more)'),
    ],
    ids=["json", "a token", "a token at the end", "long"],
)
async def test_the_arguments(arguments: dict[str, Any], shown: str) -> None:
    """They are what is approved, so they are shown: sorted, without secrets, cut where they are long."""
    person = Person()
    async with AgentWorld(approver=person).running() as world:
        async with world.host.task("x", [REFUND], tenant="acme") as task:
            await refund("7", **arguments)
            async with task.call(REFUND, "tenants/acme/orders/8"):
                pass
    assert [shown, ""] == person.shown


async def test_attack_arguments_that_change_before_they_are_shown() -> None:
    """Nobody is asked about what would not be done."""
    person = Person()
    items = ["a cup"]

    class Slow:
        """A decision point during whose answer the tool's caller changes its mind."""

        async def decide(self, question: Any) -> Any:
            items.append("a car")
            from spiffe_client.policy import Decision

            return Decision(allowed=True, reason="allowed")

    async with AgentWorld(approver=person, deciders=[Slow()]).running() as world:
        async with world.host.task("x", [REFUND], tenant="acme"):
            with pytest.raises(DeniedError):
                await refund("7", items=items)
    assert ([], ["not_approved"]) == (person.shown, world.reasons)


async def test_an_open_call_shows_nothing() -> None:
    """What was decided is not held any longer."""
    async with AgentWorld(approver=Person()).running() as world:
        async with world.host.task("x", [REFUND], tenant="acme") as task:
            async with task.call(REFUND, "tenants/acme/orders/8", arguments={"a": 1}) as call:
                assert call.shown() is None
