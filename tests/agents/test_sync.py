"""Tasks for code that blocks: the same authority, found by the same context variable, ended as surely."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
import httpx
import pytest
from tests.support.agent_world import AUDITOR, AgentWorld, contract

from spiffe_client import AgentOptions, Contract, SourceClosedError, StoppedError, Task, current_task, guard, sync
from spiffe_client._portal import Portal
from spiffe_client.agents import AgentHost, bind
from spiffe_client.agents._loop import HostLoop
from spiffe_client.audit import Event
from spiffe_client.dev import DevTokenBroker, DevTrustDomain, ProtectedService
from spiffe_client.dev.token_broker import Client
from spiffe_client.errors import AttenuationError, ContractError, DeniedError, NoTaskError, TaskEndedError, TaskError
from spiffe_client.policy import ApprovalRequest, CallbackApprover

AGENT = "spiffe://prod.example/agent/closer"
READ, REFUND, LOCAL = "orders:read", "orders:refund", "summarize"


@dataclass
class Shop:
    """An agent whose code blocks, its token broker, and the service it works with."""

    me: sync.Workload
    broker: DevTokenBroker
    service: ProtectedService
    portal: Portal
    audit: list[Event] = field(default_factory=list)

    def told(self, name: str) -> list[dict]:
        return [dict(event.attributes) for event in self.audit if event.name == name]

    def task(self, *actions: str, **terms) -> Task:
        return self.me.task("close the books", actions or [READ], tenant="acme", **terms)


def agreed(service: ProtectedService) -> Contract:
    tenant = {"audience": [service.url], "resources": ["tenants/{tenant}/orders/*"]}
    return contract(
        actions={
            READ: {**tenant, "scopes": ["orders:read"]},
            REFUND: {**tenant, "scopes": ["orders:refund"], "approval": True},
            LOCAL: {},
        },
        delegates={AUDITOR: {"actions": [READ]}},
    )


def yes(request: ApprovalRequest) -> str:
    assert REFUND == request.action
    return "alice"


@contextmanager
def opened() -> Iterator[Shop]:
    portal, audit = Portal(), []
    portal.start()
    dev = DevTrustDomain("prod.example")
    portal.call(dev.__aenter__)
    dev.register(AGENT, any=True, ttl=3600)
    broker = DevTokenBroker(dev, rules=[Client.of(AGENT, audiences=["*"], scopes="orders:read orders:refund")])
    portal.call(broker.__aenter__)
    service = ProtectedService(broker)
    portal.call(service.__aenter__)
    try:
        what = AgentOptions(agreed(service), approver=CallbackApprover(yes))
        with sync.Workload(
            dev.endpoint, token_broker=broker.issuer, contract=what, environment="prod", on_event=audit.append
        ) as me:
            yield Shop(me, broker, service, portal, audit)
    finally:
        for one in (service, broker, dev):
            portal.call(one.__aexit__, None, None, None)
        portal.close()


@pytest.fixture
def shop() -> Iterator[Shop]:
    with opened() as shop:
        yield shop


def reader(shop: Shop):
    url = shop.service.url

    @guard(requires=READ, resource="tenants/{tenant}/orders/{order}")
    def read_order(order: str, http: httpx.Client, tenant: str = "acme") -> dict:
        return http.get(f"{url}/v1/orders").json()

    return read_order


class TestTasks:
    def test_a_tool(self, shop: Shop) -> None:
        """It finds its task in the caller's thread; another tenant's order is refused, and nothing is left outside."""
        read_order = reader(shop)
        with pytest.raises(NoTaskError):
            read_order("7")
        with shop.task() as task:
            assert task is current_task()
            said = read_order("7")
            assert (AGENT, "orders:read", "close the books") == (said["sub"], said["scope"], said["purpose"])
            with pytest.raises(DeniedError, match="another tenant's"):
                read_order("7", tenant="globex")
        with pytest.raises(NoTaskError):
            current_task()
        (end,) = shop.told("task.ended")
        assert ("finished", 2, 1, 1) == (end["outcome"], end["calls"], end["denied"], end["revoked"])
        with pytest.raises(TaskEndedError), task.call(READ, "tenants/acme/orders/7"):
            pass

    def test_a_person_is_asked(self, shop: Shop) -> None:
        """What has to be waited for is waited for on the background loop."""
        with shop.task(REFUND) as task, task.call(REFUND, "tenants/acme/orders/7", arguments={"chf": 5}) as call:
            assert call.approval
            assert 200 == call.http_sync.get(f"{shop.service.url}/v1/refunds").status_code

    def test_two_side_by_side(self, shop: Shop) -> None:
        """Each thread has its own; a pool's threads have the task that `bind` saw."""
        both = threading.Barrier(2)

        def work(tenant: str) -> str:
            with shop.me.task("x", [LOCAL], tenant=tenant) as task:
                both.wait(20)
                with ThreadPoolExecutor(1) as pool:
                    assert task is pool.submit(bind(current_task)).result(20)
                return current_task().tenant

        with ThreadPoolExecutor(2) as pool:
            assert ["acme", "globex"] == list(pool.map(work, ["acme", "globex"]))

    def test_handed_on(self, shop: Shop) -> None:
        """`with` does it for work that is handed on, too."""
        read_order = reader(shop)
        with shop.task(READ, REFUND) as task:
            with task.delegate(AUDITOR, [READ], ttl=30) as child:
                assert child is current_task()
                with pytest.raises(DeniedError):
                    child.host.loop.wait_for(refund, child)
                assert "orders:read" == read_order("7")["scope"]
            assert task is current_task()
            with pytest.raises(AttenuationError):
                task.delegate(AUDITOR, [REFUND])
        assert [AUDITOR, AGENT] == [end["agent"] for end in shop.told("task.ended")]

    def test_it_is_begun_once(self, shop: Shop) -> None:
        """A task is no door to go in and out of."""
        task = shop.task()
        with task:
            pass
        with pytest.raises(TaskError, match="begun before"), task:
            pass


async def refund(task: Task) -> None:
    async with task.call(REFUND, "tenants/acme/orders/7"):
        pass


class TestEnds:
    def test_a_body_that_fails(self, shop: Shop) -> None:
        """Its error comes out as it is; the task has failed."""
        with pytest.raises(KeyError, match="mine"), shop.task():
            raise KeyError("mine")
        with pytest.raises(KeyboardInterrupt), shop.task():
            raise KeyboardInterrupt
        assert ["failed", "cancelled"] == [end["outcome"] for end in shop.told("task.ended")]

    def test_the_kill_switch(self, shop: Shop) -> None:
        """Calls are refused from then on, and who leaves the task hears of it; none begins any more."""
        with pytest.raises(TaskEndedError, match="agent was stopped: leak"), shop.task(LOCAL) as task:
            shop.me.stop("leak")
            with pytest.raises(TaskEndedError), task.call(LOCAL):
                pass
        with pytest.raises(StoppedError, match="leak"), shop.task(LOCAL):
            pass

    def test_an_error_of_the_body_counts_more(self, shop: Shop) -> None:
        """It is not replaced by the news that the task was stopped."""
        with pytest.raises(KeyError), shop.task(LOCAL):
            shop.me.stop("leak")
            raise KeyError("mine")

    def test_closed_under_its_feet(self, shop: Shop) -> None:
        """Another thread closes the workload: nothing hangs."""
        with pytest.raises(TaskEndedError), shop.task(LOCAL):
            closing = threading.Thread(target=shop.me.close)
            closing.start()
            closing.join(20)
            assert not closing.is_alive()

    def test_the_loop_ends_with_a_task_in_it(self, shop: Shop) -> None:
        """Without a word before: the task is over, too."""
        with pytest.raises(TaskEndedError, match="was cancelled"), shop.task(LOCAL) as task:
            assert task._stay is not None and task._stay._service is not None
            task._stay._service.soon(task._stay._service.cancel)  # as a loop does with all that runs when it ends

    def test_too_many(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the host refuses to begin raises where it is entered, and leaves no task behind."""

        def full(self: AgentHost, task: Task) -> None:
            raise TaskError("full")

        monkeypatch.setattr(AgentHost, "begin", full)
        with pytest.raises(TaskError, match="full"), shop.task():
            pass
        with pytest.raises(NoTaskError):
            current_task()

    def test_interrupted_while_it_begins(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ctrl-C between the thread and the loop: the task does not stay alive there."""
        wait_for = HostLoop.wait_for

        def interrupted(self: HostLoop, function, *args):
            wait_for(self, function, *args)
            signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(HostLoop, "wait_for", interrupted)
            task = shop.task(LOCAL)
            with pytest.raises(KeyboardInterrupt), task:
                raise AssertionError("it was let in")
        assert task._stay is not None
        task._stay.gone.result(20)
        assert {} == shop.me.agent.tasks

    def test_interrupted_before_it_begins(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        """The loop comes to it later: it ends as soon as it has begun."""

        def interrupted(self: HostLoop, function, *args):
            raise KeyboardInterrupt

        task = shop.task(LOCAL)
        with monkeypatch.context() as patch:
            patch.setattr(HostLoop, "wait_for", interrupted)
            with pytest.raises(KeyboardInterrupt), task:
                raise AssertionError("it was let in")
        assert task._stay is not None
        shop.me.agent.loop.wait_for(task._stay.begin)
        task._stay.gone.result(20)


class TestNotOpen:
    def test_it_says_so(self, shop: Shop) -> None:
        """As every call on what is not open; and where no contract was given."""
        shut = sync.Workload(shop.portal and "unix:///nowhere.sock", contract=agreed(shop.service), environment="prod")
        with pytest.raises(SourceClosedError, match="was not opened yet: use `with Workload"):
            shut.task("x", [LOCAL])
        bare = sync.Workload("unix:///nowhere.sock")
        with pytest.raises(ContractError, match="there is no contract"):
            _ = bare.agent


@pytest.mark.anyio
class TestInAThreadOfAsyncCode:
    async def test_handed_on_by_a_blocking_tool(self, world: AgentWorld) -> None:
        """On either event loop."""

        def work() -> str:
            with current_task().delegate(AUDITOR, ["invoices:read"]) as child:
                with child.call("invoices:read", "tenants/acme/invoices/7"):
                    return str(current_task().agent)

        async with world.host.task("x", ["invoices:read"], tenant="acme") as task:
            assert AUDITOR == await anyio.to_thread.run_sync(work)
            assert task is current_task()

    async def test_not_on_the_loop_itself(self, world: AgentWorld) -> None:
        """It would wait for itself."""
        with pytest.raises(TaskError, match="must not block the event loop"):
            with world.host.task("x", ["summarize"]):
                pass

    async def test_the_parent_ends(self, world: AgentWorld) -> None:
        """The thread hears of it when it leaves."""

        def work(task: Task) -> None:
            with task.delegate(AUDITOR, ["invoices:read"]):
                task.end("stopped", "enough")

        with pytest.raises(TaskEndedError, match="enough"):
            async with world.host.task("x", ["invoices:read"], tenant="acme") as task:
                with pytest.raises(TaskEndedError, match="was part of has ended"):
                    await anyio.to_thread.run_sync(work, task)
                await anyio.sleep_forever()


@pytest.mark.anyio
class TestABlockedLoop:
    async def test_by_whoever_waits_for_the_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A framework that is run without `await` on the loop itself: the call is not made, and nothing hangs."""
        monkeypatch.setattr("spiffe_client.agents._loop._PATIENCE", 0.05)
        async with AgentWorld(approver=CallbackApprover(lambda request: "alice")).running() as world:

            @guard(requires=REFUND, resource="tenants/acme/orders/9")
            def refund() -> str:
                raise AssertionError("it was let in")

            async with world.host.task("x", [REFUND], tenant="acme"):
                with ThreadPoolExecutor() as pool, pytest.raises(TaskError, match="something blocks it"):
                    pool.submit(bind(refund)).result(20)
        told = world.told("call.finished")
        assert [("error", "TaskError")] == [(facts["outcome"], facts["error"]) for facts in told]

    @pytest.mark.parametrize("error", [None, KeyError("mine")], ids=repr)
    async def test_while_a_thread_leaves_its_task(
        self, world: AgentWorld, monkeypatch: pytest.MonkeyPatch, error: Exception | None
    ) -> None:
        """It does not hang there either, and the task's authority has ended; an error of its own counts more."""
        monkeypatch.setattr("spiffe_client.agents._loop._PATIENCE", 0.05)
        begun = anyio.Event()
        door = world.host.loop.door()

        def work(task: Task) -> None:
            with task:
                door.soon(begun.set)
                blocked.wait(20)
                if error is not None:
                    raise error

        task, blocked = world.host.task("x", ["summarize"]), threading.Event()
        with ThreadPoolExecutor() as pool:
            future = pool.submit(work, task)
            await begun.wait()
            blocked.set()
            with pytest.raises(TaskError if error is None else KeyError, match="something blocks it|mine"):
                future.result(20)
        assert task.ended is not None
        assert task._stay is not None
        await anyio.to_thread.run_sync(task._stay.gone.result, 20)
        assert {} == world.host.tasks
