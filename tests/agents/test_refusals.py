"""Authority that is not given is told: to whom, by which code, and nothing that a caller has made up."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support.agent_world import AUDITOR, AgentWorld, contract

from spiffe_client.agents import Task, ToolGate, guard
from spiffe_client.agents._budget import Refusals
from spiffe_client.agents._without_task import opened
from spiffe_client.audit import Event
from spiffe_client.errors import AttenuationError, NoTaskError, TaskError, TicketError

pytestmark = pytest.mark.anyio

READ = "invoices:read"
CANARY = "canary-8f31 canary"


def task_of(world: AgentWorld, **terms: Any) -> Task:
    return world.host.task("close the March books", [READ], **{"tenant": "acme", **terms})


async def test_what_is_told(world: AgentWorld) -> None:
    """Whose work it was, to whom it would have gone, and what there was to give."""
    async with task_of(world) as task:
        with pytest.raises(AttenuationError):
            task.delegate(AUDITOR, [READ], calls=100_000)
        with pytest.raises(TicketError):
            await task.ticket(AUDITOR, [READ], calls=1)  # there is no token broker
    first, second = world.told("delegation.refused")
    assert (task.id, AUDITOR, "deny", "denied", "attenuation") == tuple(
        first[name] for name in ("task", "to", "decision", "outcome", "reason")
    )
    assert "200 calls" == first["held"]
    assert (AUDITOR, "ticket") == (second["to"], second["reason"])


async def test_a_host_that_is_not_open() -> None:
    """Nobody can begin a task there, and that is told as well."""
    world = AgentWorld(contract())
    async with world.running():
        task = task_of(world)
    with pytest.raises(TaskError):
        await task.__aenter__()
    assert ["task"] == [facts["reason"] for facts in world.told("task.refused")]


@pytest.mark.parametrize(
    "attempt",
    [
        lambda task: task.delegate(CANARY, [READ]),
        lambda task: task.delegate(AUDITOR, [CANARY]),
        lambda task: task.delegate(AUDITOR, [f"x\nCRITICAL {CANARY}"]),
        lambda task: task.delegate(AUDITOR, [READ], resources=[CANARY]),
        lambda task: task.delegate(AUDITOR, [READ], purpose=f"x\n{CANARY}"),
        lambda task: task.host.task("x", [CANARY]),
        lambda task: task.host.task("x", [READ], tenant=CANARY),
        lambda task: task.host.task("x", [READ], params={"password": CANARY}),
        lambda task: task.host.redeem(CANARY),
    ],
)
async def test_attack_secrets_and_lines_in_what_is_refused(world: AgentWorld, attempt: Any) -> None:
    """A token in the wrong place, a parameter, a line for the log: the caller's error has it, and no event."""
    async with task_of(world) as task:
        with pytest.raises(TaskError):
            attempt(task)
    (refused,) = [event for event in world.audit if event.name.endswith(".refused")]
    assert "canary" not in repr(refused)
    assert refused.message.isprintable()


async def test_attack_a_flood_of_refusals(world: AgentWorld) -> None:
    """Who guesses does not fill the disk: sixty a minute are told, and of the rest how many there were."""
    async with task_of(world) as task:
        for _ in range(300):
            with pytest.raises(AttenuationError):
                task.delegate(AUDITOR, [])
        assert 60 == len(world.told("delegation.refused"))
        world.clock._elapsed += 61
        with pytest.raises(AttenuationError):
            task.delegate(AUDITOR, [])
    assert [None] * 60 + [240] == [facts.get("untold") for facts in world.told("delegation.refused")]


async def test_attack_a_flood_until_the_end() -> None:
    """Regression: how many were refused after the last that was told had no next one to be told with."""
    world = AgentWorld(contract())
    async with world.running():
        async with task_of(world) as task:
            for _ in range(300):
                with pytest.raises(AttenuationError):
                    task.delegate(AUDITOR, [])
        assert [] == world.told("refusals.untold")
    await world.host.aclose()
    (facts,) = world.told("refusals.untold")
    assert (240, world.host.standing.who) == (facts["untold"], (facts["workload"], facts["svid_serial"]))


@guard(requires=READ)
def read() -> None:
    raise AssertionError("it was let in")


def read_in_vain() -> None:
    with pytest.raises(NoTaskError):
        read()


class TestWithoutTask:
    """A call of nobody's task: whoever is open here hears of it, and of no more than that."""

    async def test_each_that_is_open(self, world: AgentWorld) -> None:
        """Whose tool it is nobody can say."""
        async with AgentWorld().running() as another:
            read_in_vain()
        read_in_vain()
        assert (["no_task"] * 2, ["no_task"]) == (world.reasons, another.reasons)

    async def test_a_sink_that_fails(self, world: AgentWorld, caplog: pytest.LogCaptureFixture) -> None:
        """Others hear of it all the same."""

        def fail(event: Event) -> None:
            raise ZeroDivisionError

        async with AgentWorld(on_event=fail).running(), AgentWorld().running() as another:
            read_in_vain()
        assert (["no_task"], ["no_task"]) == (world.reasons, another.reasons)
        assert ["the event sink failed on call.denied"] == [record.getMessage() for record in caplog.records]

    async def test_none_that_is_open(self, caplog: pytest.LogCaptureFixture) -> None:
        """There is no audit, and the log has it."""
        world = AgentWorld()
        async with world.running():
            pass
        read_in_vain()
        assert [("WARNING", "call.denied: 'invoices:read' was denied: no_task")] == [
            (record.levelname, record.getMessage()) for record in caplog.records
        ]
        assert [] == world.reasons

    async def test_one_that_nobody_has_any_more(self) -> None:
        """It is kept alive by nobody's list."""
        host = AgentWorld().host
        opened(host)
        gone = weakref.ref(host)
        del host
        gc.collect()
        assert gone() is None
        read_in_vain()

    async def test_attack_a_flood(self, world: AgentWorld) -> None:
        """From threads, with names that somebody makes up: none is told, and sixty a minute of the calls are."""
        gate = ToolGate({})

        def call(number: int) -> None:
            with pytest.raises(NoTaskError):
                gate.call(f"{number}\n" + "x" * 10_000, {})

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(call, range(300)))
        told = world.told("call.denied")
        assert 60 == len(told)
        assert not any("action" in facts for facts in told)
        assert all(event.message.isprintable() and len(event.message) < 200 for event in world.audit)

    async def test_attack_calls_of_no_task_hide_what_is_refused(self, world: AgentWorld) -> None:
        """They may be another agent's, and take nothing from what is told of this one."""
        for _ in range(300):
            read_in_vain()
        async with task_of(world) as task:
            with pytest.raises(AttenuationError):
                task.delegate(AUDITOR, [])
        assert 1 == len(world.told("delegation.refused"))

    async def test_in_a_signal_handler(self, world: AgentWorld) -> None:
        """Whatever it interrupts, it is told there and waits for nobody: of this thread, which would be for ever."""
        with world.host.strays._lock, world.host.strays._rate._lock:
            read_in_vain()
        assert ["no_task"] == world.reasons


def test_counted() -> None:
    """None for one that is not told; those are counted by the next that is."""
    refusals = Refusals(2)
    assert [0, 0, None, None] == [refusals.take(now) for now in (0, 1, 2, 3)]
    assert [2, 0, None] == [refusals.take(now) for now in (61, 62, 63)]


