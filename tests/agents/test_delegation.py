"""Work that is handed on: in one process and to another, and always less than there was."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from tests.support.agent_world import AGENT, AUDITOR, AgentWorld, contract

from spiffe_client import Workload
from spiffe_client.agents import TICKET_HEADER, AgentHost, Task, Ticket, current_task
from spiffe_client.audit import Event
from spiffe_client.dev import DevTokenBroker, DevTrustDomain, ProtectedService
from spiffe_client.dev.token_broker import Client
from spiffe_client.errors import AttenuationError, DeniedError, TaskEndedError, TaskError, TicketError, TokenError
from spiffe_client.policy import Contract

pytestmark = pytest.mark.anyio

READ, REFUND = "invoices:read", "orders:refund"
INVOICE = "tenants/acme/invoices/7"


def task_of(world: AgentWorld) -> Task:
    return world.host.task("close the March books", [READ, REFUND, "summarize"], tenant="acme", ttl=600)


async def denied(task: Task, action: str, resource: str = "") -> DeniedError:
    with pytest.raises(DeniedError) as caught:
        async with task.call(action, resource):
            raise AssertionError("it was let in")
    return caught.value


class TestInProcess:
    async def test_it_is_the_present_task(self, world: AgentWorld) -> None:
        """For another agent, in the same trace, and told on both sides."""
        async with task_of(world) as task:
            async with task.delegate(AUDITOR, [READ], purpose="look at one", ttl=60, calls=5) as child:
                assert child is current_task()
                async with child.call(READ, INVOICE):
                    pass
            assert task is current_task()
        (granted,) = world.told("delegation.granted")
        assert (AUDITOR, READ, child.id, 60.0, 5) == tuple(
            granted[name] for name in ("to", "actions", "child", "seconds", "calls")
        )
        (made,) = world.told("call.finished")
        assert (AUDITOR, task.id, task.trace_id) == (made["agent"], made["parents"], made["trace_id"])

    @pytest.mark.parametrize(
        ("agent", "actions", "terms", "says"),
        [
            (AUDITOR, [REFUND], {}, "lets it have invoices:read"),
            (AUDITOR, [READ, "summarize"], {}, "cannot be given invoices:read summarize"),
            (AUDITOR, [], {}, "cannot be given no action"),
            ("spiffe://prod.example/agent/other", [READ], {}, "lets it have nothing"),
            ("nobody", [READ], {}, "handed on to an agent"),
            (AUDITOR, [READ], {"ttl": 601}, "601 seconds were asked for, and there are 600"),
            (AUDITOR, [READ], {"ttl": 0}, "0 seconds"),
            (AUDITOR, [READ], {"calls": 201}, "201 calls were asked for, and there are 200"),
            (AUDITOR, [READ], {"calls": -1}, "-1 calls"),
            (AUDITOR, [READ], {"resources": ["tenants/globex/invoices/7"]}, "no part of this task's resources"),
            (AUDITOR, [READ], {"resources": ["tenants/acme/**"]}, "no part of"),
            (AUDITOR, [READ], {"resources": ["tenants/{other}/invoices/7"]}, "'other' is not given"),
            (AUDITOR, [READ], {"resources": ["../x"]}, "not a resource template"),
        ],
    )
    async def test_never_more(
        self, world: AgentWorld, agent: str, actions: list[str], terms: dict[str, Any], says: str
    ) -> None:
        """Of actions, time, calls or resources; the error says what there is."""
        async with task_of(world) as task:
            with pytest.raises(AttenuationError, match=says):
                task.delegate(agent, actions, **terms)

    async def test_some_of_the_resources(self, world: AgentWorld) -> None:
        """A call about another one is denied, though the contract has it; so is handing that on."""
        async with task_of(world) as task:
            async with task.delegate(AUDITOR, READ, resources=INVOICE) as child:
                async with child.call(READ, INVOICE):
                    pass
                error = await denied(child, READ, "tenants/acme/invoices/8")
                assert ("outside_purpose", "delegation") == (error.reason, error.decision.policy)
                async with child.delegate(AUDITOR, READ) as grandchild:
                    assert "outside_purpose" == (await denied(grandchild, READ, "tenants/acme/invoices/8")).reason
                with pytest.raises(AttenuationError, match="no part of this task's resources: tenants/acme/invoices/7"):
                    child.delegate(AUDITOR, READ, resources=["tenants/acme/invoices/*"])
        assert INVOICE == world.told("delegation.granted")[0]["resources"]

    async def test_so_deep(self, world: AgentWorld) -> None:
        """The contract says how often; then no further."""
        async with task_of(world) as task:
            async with task.delegate(AUDITOR, [READ]) as one, one.delegate(AUDITOR, [READ]) as two:
                assert (one.id, task.id) == two.parents
                with pytest.raises(AttenuationError, match="not be handed on any further"):
                    two.delegate(AUDITOR, [READ])

    async def test_its_calls_are_the_parents_calls(self) -> None:
        """Children together have no more than their parent."""
        async with AgentWorld(contract(limits={"calls_per_task": 3})).running() as world:
            async with task_of(world) as task:
                for _ in range(2):
                    async with task.delegate(AUDITOR, [READ]) as child:
                        async with child.call(READ, INVOICE):
                            pass
                async with task.delegate(AUDITOR, [READ], calls=1) as child:
                    async with task.call("summarize"):
                        pass
                    assert "budget_spent" == (await denied(child, READ, INVOICE)).reason

    async def test_it_ends_with_its_parent(self, world: AgentWorld) -> None:
        """Wherever it runs; nothing of it goes on."""
        begun = anyio.Event()
        said: list[str] = []

        async def work(child: Task) -> None:
            try:
                async with child:
                    begun.set()
                    await anyio.sleep_forever()
            except TaskEndedError as error:
                said.append(str(error))

        async with anyio.create_task_group() as group:
            async with task_of(world) as task:
                child = task.delegate(AUDITOR, [READ])
                group.start_soon(work, child)
                await begun.wait()
            assert "task_ended" == (await denied(child, READ, INVOICE)).reason
        assert ["not permitted: the task that this one was part of has ended"] == said
        with pytest.raises(TaskEndedError):
            task.delegate(AUDITOR, [READ])

    async def test_it_does_not_begin_after_its_parent(self, world: AgentWorld) -> None:
        """A delegation that is kept is of no use later."""
        async with task_of(world) as task:
            child = task.delegate(AUDITOR, [READ])
        with pytest.raises(TaskEndedError):
            async with child:
                pass


@dataclass
class Pair:
    """A closer and an auditor, each a workload of its own with a key of its own, and what they work with."""

    closer: Workload
    auditor: Workload
    broker: DevTokenBroker
    service: ProtectedService
    audit: list[Event] = field(default_factory=list)

    def task(self):
        return self.closer.task("close the books", ["orders:read", "orders:refund"], tenant="acme", ttl=300)

    def told(self, name: str) -> list[dict]:
        return [dict(event.attributes) for event in self.audit if event.name == name]


def agent_contract(service: ProtectedService, spiffe_id: str, **changes: Any) -> Contract:
    to = {"audience": [service.url], "resources": ["tenants/{tenant}/orders/*"]}
    whole = {
        "agent": {"id": spiffe_id, "purpose": "x", "environment": "prod", "trust_domain": "prod.example"},
        "limits": {"delegation_depth": 2, "task_seconds": 600},
        "actions": {
            "orders:read": {**to, "scopes": ["orders:read"]},
            "orders:refund": {**to, "scopes": ["orders:refund"], "sensitive": True},
        },
        "delegates": {AUDITOR: {"actions": ["orders:read", "orders:refund"]}} if spiffe_id == AGENT else {},
        **changes,
    }
    return Contract.parse(json.dumps(whole).encode(), "json")


RULES = [
    Client.of(
        AGENT,
        audiences=["*"],
        scopes="orders:read orders:refund",
        details=["agent_call", "agent_ticket"],
        may_delegate_to=[AUDITOR],
    ),
    Client.of(AUDITOR, audiences=["*"], scopes="", details=["agent_call", "agent_ticket"]),
]


@asynccontextmanager
async def opened(**changes: Any) -> AsyncIterator[Pair]:
    audit: list[Event] = []
    async with DevTrustDomain("prod.example") as dev:
        dev.register(AGENT, any=True, ttl=3600, hint="closer")
        dev.register(AUDITOR, any=True, ttl=3600, hint="auditor")
        async with DevTokenBroker(dev, rules=RULES) as broker, ProtectedService(broker) as service:

            def workload(hint: str, spiffe_id: str, **more: Any) -> Workload:
                return Workload(
                    dev.endpoint,
                    token_broker=broker.issuer,
                    hint=hint,
                    contract=agent_contract(service, spiffe_id, **more),
                    environment="prod",
                    on_event=audit.append,
                )

            async with workload("closer", AGENT) as closer, workload("auditor", AUDITOR, **changes) as auditor:
                yield Pair(closer, auditor, broker, service, audit)


@pytest.fixture
async def pair(anyio_backend: str) -> AsyncIterator[Pair]:
    async with opened() as pair:
        yield pair


class TestChildTokens:
    async def test_made_from_the_parents(self, pair: Pair) -> None:
        """The child's token is an exchange of its parent's: it is taken back with it."""
        async with pair.task() as task:
            async with task.delegate(AUDITOR, ["orders:read"]) as child:
                async with child.call("orders:read", "tenants/acme/orders/7") as call:
                    assert 200 == (await call.http.get(f"{pair.service.url}/v1/orders")).status_code
                    assert call.token.request.subject is task.authorities["orders:read"].peek()
        assert 2 == pair.broker.requests["token"]

    async def test_for_one_call_too(self, pair: Pair) -> None:
        """A sensitive call's token is made from one of the parent's for the same call, and both end with it."""
        async with pair.task() as task:
            async with task.delegate(AUDITOR, ["orders:refund"]) as child:
                async with child.call("orders:refund", "tenants/acme/orders/7", arguments={"n": 1}) as call:
                    reply = (await call.http.post(f"{pair.service.url}/any", json={"n": 1})).json()
                    assert child.id == reply["authorization_details"][0]["task"]
                assert {} == child.authorities == task.authorities


class TestTickets:
    async def test_redeemed_with_ones_own_key(self, pair: Pair) -> None:
        """The other agent works for the task, with tokens of its own that say for whom it acts."""
        async with pair.task() as task:
            ticket = await task.ticket(AUDITOR, ["orders:read"], calls=3, ttl=60)
            assert "…" in repr(ticket)
            assert 197 == task.budget.left
            header = {TICKET_HEADER: ticket.reveal()}  # as it would travel
            async with pair.auditor.agent.redeem(header[TICKET_HEADER]) as work:
                assert (task.id, task.trace_id, "acme", 3) == (
                    work.parents[0],
                    work.trace_id,
                    work.tenant,
                    work.budget.left,
                )
                async with work.call("orders:read", "tenants/acme/orders/7") as call:
                    said = (await call.http.get(f"{pair.service.url}/v1/orders")).json()
        assert (AGENT, {"sub": AUDITOR}) == (said["sub"], said["act"])
        assert ["ticket"] == [facts["by"] for facts in pair.told("delegation.granted")]
        assert [task.id] == [facts["parents"] for facts in pair.told("delegation.redeemed")]

    async def test_a_call_of_its_own(self, pair: Pair) -> None:
        """A sensitive call has a token bound to it there, too."""
        async with pair.task() as task:
            ticket = await task.ticket(AUDITOR, ["orders:refund"], calls=3)
            async with pair.auditor.agent.redeem(ticket) as work:
                async with work.call("orders:refund", "tenants/acme/orders/7", arguments={"n": 1}) as call:
                    said = (await call.http.post(f"{pair.service.url}/any", json={"n": 1})).json()
        assert call.digest == said["authorization_details"][0]["digest"]

    async def test_for_code_that_blocks(self, pair: Pair) -> None:
        """The same in threads: issued, redeemed once, ended."""

        def work() -> None:
            with pair.task() as task:
                ticket = task.ticket_blocking(AUDITOR, ["orders:read"], calls=3, ttl=60)
                with pair.auditor.agent.redeem(ticket.reveal()) as work:
                    assert (work, task.id, 3) == (current_task(), work.parents[0], work.budget.left)
                    with work.call("orders:read", "tenants/acme/orders/7") as call:
                        said.update(call.http_sync.get(f"{pair.service.url}/v1/orders").json())
                assert task is current_task()
                with pytest.raises(TicketError, match="not taken"), pair.auditor.agent.redeem(ticket):
                    pass

        said: dict[str, Any] = {}
        await anyio.to_thread.run_sync(work)
        assert (AGENT, {"sub": AUDITOR}) == (said["sub"], said["act"])
        assert ["finished"] * 2 == [facts["outcome"] for facts in pair.told("task.ended")]

    @pytest.mark.parametrize("blocking", [False, True])
    async def test_a_task_that_cannot_begin(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch, blocking: bool
    ) -> None:
        """What the ticket was worth is given back."""

        def full(self: AgentHost, task: Task) -> None:
            raise TaskError("full")

        def work() -> None:
            with pair.auditor.agent.redeem(ticket):
                raise AssertionError("it was let in")

        async with pair.task() as task:
            ticket = await task.ticket(AUDITOR, ["orders:read"], calls=3)
            revoked = pair.broker.requests["revocation"]
            monkeypatch.setattr(AgentHost, "begin", full)
            with pytest.raises(TaskError, match="full"):
                if blocking:
                    await anyio.to_thread.run_sync(work)
                else:
                    async with pair.auditor.agent.redeem(ticket):
                        raise AssertionError("it was let in")
            assert revoked + 1 == pair.broker.requests["revocation"]
        assert [] == pair.told("delegation.redeemed")

    async def test_used_once(self, pair: Pair) -> None:
        """The second time it is of no use."""
        async with pair.task() as task:
            ticket = await task.ticket(AUDITOR, ["orders:read"], calls=3)
            async with pair.auditor.agent.redeem(ticket):
                pass
            with pytest.raises(TicketError, match="not taken.*used before"):
                async with pair.auditor.agent.redeem(ticket):
                    pass

    async def test_somebody_elses(self, pair: Pair) -> None:
        """It is made out to one agent, and the token broker sees to that as well."""
        async with pair.task() as task:
            ticket = await task.ticket(AUDITOR, ["orders:read"], calls=3)
            with pytest.raises(TicketError, match=f"made out to '{AUDITOR}'"):
                async with pair.closer.agent.redeem(ticket):
                    pass

    async def test_after_its_task(self, pair: Pair) -> None:
        """Ending the task takes back the tickets that nobody has used."""
        async with pair.task() as task:
            ticket = await task.ticket(AUDITOR, ["orders:read"], calls=3)
        with pytest.raises(TicketError, match="not taken"):
            async with pair.auditor.agent.redeem(ticket):
                pass

    async def test_what_it_became_ends_with_its_task(self, pair: Pair) -> None:
        """Across processes: the token broker takes back what was made from the ticket."""
        ready, ended = anyio.Event(), anyio.Event()
        answers: list[int] = []

        async def work(ticket: Ticket) -> None:
            async with pair.auditor.agent.redeem(ticket) as work:
                async with work.call("orders:read", "tenants/acme/orders/7") as call:
                    answers.append((await call.http.get(f"{pair.service.url}/v1/orders")).status_code)
                    ready.set()
                    await ended.wait()
                    with pytest.raises(TokenError, match="revoked|invalid_grant|invalid_request"):
                        await call.http.get(f"{pair.service.url}/v1/orders")

        async with anyio.create_task_group() as group:
            async with pair.task() as task:
                group.start_soon(work, await task.ticket(AUDITOR, ["orders:read"], calls=3))
                await ready.wait()
            ended.set()
        assert [200] == answers

    async def test_beyond_ones_own_contract(self) -> None:
        """Nobody can be given what is not in their own contract; the ticket is not even used."""
        only = {"actions": {"summarize": {}}, "delegates": {}}
        async with opened(**only) as pair:
            async with pair.task() as task:
                ticket = await task.ticket(AUDITOR, ["orders:read"], calls=3)
                with pytest.raises(AttenuationError, match="'orders:read', which the contract of"):
                    async with pair.auditor.agent.redeem(ticket):
                        pass

    @pytest.mark.parametrize("seconds", [0, 61])
    async def test_a_minute_at_most(self, pair: Pair, seconds: float) -> None:
        """Tickets are for now."""
        async with pair.task() as task:
            with pytest.raises(TicketError, match="within 60 s"):
                await task.ticket(AUDITOR, ["orders:read"], calls=3, redeem_within=seconds)

    @pytest.mark.parametrize("text", ["", "x", "a.b.c", "é.b.c", "a.b." + "c" * 20000, 7], ids=range(6))
    async def test_no_ticket(self, pair: Pair, text: Any) -> None:
        """What is none is refused before anybody is asked."""
        with pytest.raises(TicketError, match="this is no ticket"):
            async with pair.auditor.agent.redeem(text):
                pass
        assert 0 == pair.broker.requests["token"]

    async def test_without_a_token_broker(self, world: AgentWorld) -> None:
        """It says so."""
        async with task_of(world) as task:
            with pytest.raises(TicketError, match="this agent host has none"):
                await task.ticket(AUDITOR, [READ], calls=1)
        with pytest.raises(TicketError, match="this agent host has none"):
            async with world.host.redeem(Ticket("a.b.c")):
                pass
