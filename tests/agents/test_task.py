"""A task holds what it was given, for as long as it lives, and ends with all that it began."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.to_thread
import pytest
from tests.support.agent_world import AUDITOR, AgentWorld, Identity, contract
from tests.support.manual_clock import settle

from spiffe_client import agents
from spiffe_client.agents import AgentHost, Task, bind, current_call, current_task
from spiffe_client.errors import ContractError, NoTaskError, StaleError, TaskEndedError, TaskError

pytestmark = pytest.mark.anyio

READ = "invoices:read"


def task_of(world: AgentWorld, *actions: str, **terms) -> Task:
    return world.host.task("close the March books", actions or [READ], **{"tenant": "acme", **terms})


class TestBegin:
    async def test_it_is_found_inside(self, world: AgentWorld) -> None:
        """By whoever is called in there, and by nobody else."""
        async with task_of(world) as task:
            assert task is current_task()
            assert "alive" in repr(task)
        with pytest.raises(NoTaskError) as caught:
            current_task()
        assert "no_task" == caught.value.reason
        assert None is current_call()

    async def test_it_is_told(self, world: AgentWorld) -> None:
        """When it begins and when it ends, with who, what for, and in numbers."""
        async with task_of(world) as task:
            world.clock._elapsed += 2
        (begun,), (ended,) = world.told("task.started"), world.told("task.ended")
        assert ("close the March books", "acme", READ) == (begun["purpose"], begun["tenant"], begun["actions"])
        assert begun["svid_serial"] == f"{world.identity.x509_svid.serial_number:x}"
        assert (task.id, "finished", 0, 2000.0) == (
            ended["task"],
            ended["outcome"],
            ended["calls"],
            ended["duration_ms"],
        )

    async def test_nothing_beyond_the_contract(self, world: AgentWorld) -> None:
        """Actions, time, and the number of tasks are bounded."""
        for actions, terms, why in [
            (["payroll:read"], {}, "no action payroll:read"),
            ([], {}, "without actions"),
            ([READ], {"ttl": 901}, "900 s at most"),
            ([READ], {"ttl": 0}, "not 0 s"),
        ]:
            with pytest.raises(TaskError, match=why):
                world.host.task("x", actions, **terms)

    async def test_so_many_at_once(self) -> None:
        """One that ends makes room for another."""
        async with AgentWorld(contract(limits={"parallel_tasks": 1})).running() as world:
            async with task_of(world):
                with pytest.raises(TaskError, match="1 tasks are alive"):
                    async with task_of(world):
                        pass
            async with task_of(world, READ):
                pass

    async def test_entered_once(self, world: AgentWorld) -> None:
        """What has ended does not begin again."""
        task = task_of(world)
        with pytest.raises(TaskError, match="has not begun"):
            async with task.call(READ):
                pass
        async with task:
            pass
        with pytest.raises(TaskError, match="begun before"):
            await task.__aenter__()

    async def test_one_name_is_one_action(self, world: AgentWorld) -> None:
        """Not one for each of its letters."""
        assert frozenset([READ]) == world.host.task("x", READ).actions


class TestHost:
    @pytest.mark.parametrize(
        ("options", "path"),
        [({"environment": "test"}, "agent.environment"), ({"identity": AUDITOR}, "agent.id")],
        ids=["environment", "identity"],
    )
    async def test_another_ones_contract(self, options: dict, path: str) -> None:
        """It must be about this agent, and about where it runs."""
        world = AgentWorld(**{k: v for k, v in options.items() if k != "identity"})
        if "identity" in options:
            world.host.standing._identity = Identity(options["identity"])
        with pytest.raises(ContractError) as caught:
            await world.host.open()
        assert path == caught.value.path

    async def test_an_expired_contract(self) -> None:
        """Nothing begins; what runs when it expires is stopped."""
        world = AgentWorld(contract(agent={"expires": "2025-12-31"}))
        with pytest.raises(ContractError, match="expired on 2025-12-31"):
            await world.host.open()
        world = AgentWorld(contract(agent={"expires": "2026-01-01"}))
        world.clock._elapsed = 24 * 3600 - 10
        async with world.running():
            with pytest.raises(TaskEndedError, match="contract has expired"):
                async with task_of(world):
                    await world.clock.advance(11)
                    await anyio.sleep_forever()
            with pytest.raises(TaskError, match="its contract has expired"):
                async with task_of(world):
                    pass

    async def test_not_open(self) -> None:
        """Whose deadlines nobody would keep, takes no tasks."""
        world = AgentWorld()
        with pytest.raises(TaskError, match="is not open"):
            async with task_of(world):
                pass
        assert "0 tasks" in repr(world.host)

    async def test_opened_twice_and_closed(self, world: AgentWorld) -> None:
        """The same host; closing ends what runs."""
        assert world.host is await world.host.open()
        with pytest.raises(TaskEndedError, match="agent was closed"):
            async with task_of(world):
                await world.host.aclose()
                await anyio.sleep_forever()
        with pytest.raises(TaskError, match="it was closed"):
            async with task_of(world):
                pass

    async def test_a_bug_ends_all(self, world: AgentWorld) -> None:
        """It fails closed."""
        with pytest.raises(TaskEndedError, match="stopped by a bug"):
            async with task_of(world):
                world.host._crashed(ZeroDivisionError())
                await anyio.sleep_forever()


class TestEnd:
    async def test_a_failure_passes_as_it_is(self, world: AgentWorld) -> None:
        """A KeyError of the body arrives as a KeyError."""
        with pytest.raises(KeyError):
            async with task_of(world) as task:
                raise KeyError("x")
        assert "failed" in repr(task)
        assert "failed" == world.told("task.ended")[0]["outcome"]

    async def test_cancelled_from_outside(self, world: AgentWorld) -> None:
        """It stays a cancellation, and is told."""
        with anyio.CancelScope() as scope:
            async with task_of(world):
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert ["cancelled"] == [facts["outcome"] for facts in world.told("task.ended")]

    async def test_its_time_is_up(self, world: AgentWorld) -> None:
        """What runs is cancelled, and the task says why."""
        with pytest.raises(TaskEndedError, match="time is up") as caught:
            async with task_of(world, ttl=30):
                await world.clock.advance(31)
                await anyio.sleep_forever()
        assert "task_ended" == caught.value.reason

    async def test_late_even_without_the_timer(self, world: AgentWorld) -> None:
        """A call looks at the clock itself."""
        with pytest.raises(TaskEndedError, match="time is up"):
            async with task_of(world, ttl=30) as task:
                world.clock._elapsed += 31
                async with task.call("summarize"):
                    pass

    async def test_stopped(self, world: AgentWorld) -> None:
        """For good, from any thread; the first reason counts."""
        with pytest.raises(TaskEndedError, match="agent was stopped: leak in the log"):
            async with task_of(world):
                await anyio.to_thread.run_sync(world.host.stop, "leak in the log")
                await anyio.sleep_forever()
        world.host.withdraw("second thoughts")
        with pytest.raises(TaskError, match="leak in the log"):
            async with task_of(world):
                pass

    async def test_stopped_before_it_was_open(self) -> None:
        """There is nothing to end, and nothing begins."""
        world = AgentWorld()
        world.host.withdraw("not reviewed")
        await world.host.open()
        with pytest.raises(TaskError, match="contract was withdrawn: not reviewed"):
            async with task_of(world):
                pass
        await world.host.aclose()

    async def test_a_call_after_the_stop_before_the_loop_knows(self, world: AgentWorld) -> None:
        """A signal handler's stop is seen at once."""
        with pytest.raises(TaskEndedError, match="agent was stopped: now"):
            async with task_of(world, "summarize") as task:
                world.host.stop("now")
                async with task.call("summarize"):
                    pass

    async def test_the_identity_is_taken_back(self, world: AgentWorld) -> None:
        """Running work ends; who it was for is known from before."""
        with pytest.raises(TaskEndedError, match="no identity any more: the issuer took it back"):
            async with task_of(world):
                world.identity.lose()
                await anyio.sleep_forever()
        with pytest.raises(StaleError):
            async with task_of(world):
                pass

    async def test_the_identity_becomes_another(self, world: AgentWorld) -> None:
        """A rotation is fine, another SPIFFE ID is not."""
        with pytest.raises(TaskEndedError, match=f"this is {AUDITOR}"):
            async with task_of(world, "summarize") as task:
                world.identity.become(str(world.host.contract.agent.id))
                async with task.call("summarize"):
                    pass
                world.identity.become(AUDITOR)
                await anyio.sleep_forever()


class TestContext:
    async def test_side_by_side(self, world: AgentWorld) -> None:
        """Two tasks never see each other."""
        seen: dict[str, set[str]] = {"one": set(), "two": set()}

        async def work(name: str) -> None:
            async with world.host.task(name, [READ]):
                for _ in range(20):
                    seen[name].add(current_task().purpose)
                    seen[name].add(await anyio.to_thread.run_sync(lambda: current_task().purpose))

        async with anyio.create_task_group() as group:
            group.start_soon(work, "one")
            group.start_soon(work, "two")
        assert {"one": {"one"}, "two": {"two"}} == seen

    async def test_nested_ones(self, world: AgentWorld) -> None:
        """The inner one counts inside, the outer one again after it."""
        async with task_of(world) as outer:
            async with task_of(world) as inner:
                assert inner is current_task()
            assert outer is current_task()

    async def test_threads_of_your_own(self, world: AgentWorld) -> None:
        """Plain threads know no task; bound functions do, also at the same time."""

        def purpose() -> str:
            return current_task().purpose

        async with task_of(world) as task:
            with ThreadPoolExecutor(4) as pool:
                assert isinstance(pool.submit(purpose).exception(), NoTaskError)
                bound = bind(purpose)
                assert [task.purpose] * 20 == list(pool.map(lambda _: bound(), range(20)))
        assert "purpose" == bound.__name__

    async def test_ended_from_another_thread(self, world: AgentWorld) -> None:
        """The body is cancelled on its own loop."""
        with pytest.raises(TaskEndedError, match="enough"):
            async with task_of(world) as task:
                thread = threading.Thread(target=task.end, args=("stopped", "enough"))
                thread.start()
                thread.join()
                await anyio.sleep_forever()

    async def test_on_another_loop(self, world: AgentWorld) -> None:
        """A task may run on another event loop than its host: its deadline is kept there."""
        said = []

        def elsewhere(backend: str) -> None:
            async def work() -> None:
                async with task_of(world, ttl=30):
                    said.append("begun")
                    with anyio.fail_after(10):
                        await anyio.sleep_forever()

            try:
                anyio.run(work, backend=backend)
            except TaskEndedError as error:
                said.append(str(error))

        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, elsewhere, "asyncio")
            while not said:
                await anyio.sleep(0.001)
            await settle()
            while len(said) < 2:
                await world.clock.advance(31)
                await anyio.sleep(0.001)
        assert "time is up" in said[1]


def test_the_room_offers_what_it_names() -> None:
    """Also to those who look around."""
    assert set(agents.__all__) <= set(dir(agents))
    assert AgentHost is agents.AgentHost
