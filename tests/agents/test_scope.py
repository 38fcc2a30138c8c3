"""What cancels a call: its task's cancel scope where nothing is between, else one of its own."""

from __future__ import annotations

import threading
from contextlib import AsyncExitStack

import anyio
import anyio.to_thread
import pytest
from tests.support.agent_world import AUDITOR, AgentWorld
from tests.support.manual_clock import settle

from spiffe_client._door import Door
from spiffe_client.agents import Call, Task, bind, current_call, guard
from spiffe_client.agents._scope import Scope
from spiffe_client.errors import TaskEndedError, TaskError

pytestmark = pytest.mark.anyio

READ, INVOICE = "invoices:read", "tenants/acme/invoices/7"
#: Calls: in the task's own place, and with a scope of their own.
PLACES = pytest.mark.parametrize("in_place", [True, False])


def call_of(task: Task, in_place: bool) -> Call:
    return Call(task, READ, INVOICE, arguments={}, in_place=in_place)


def task_of(world: AgentWorld) -> Task:
    return world.host.task("close the March books", [READ], tenant="acme")


async def going_on(call: Call, begun: anyio.Event) -> None:
    async with call:
        begun.set()
        await anyio.sleep_forever()


class TestShields:
    @PLACES
    async def test_between_task_and_call(self, world: AgentWorld, in_place: bool) -> None:
        """The kill switch is for guarded calls: who shields the code around one does not keep it going."""
        begun = anyio.Event()

        async def work() -> None:
            with pytest.raises(TaskEndedError, match="enough"):
                async with task_of(world) as task:
                    with anyio.fail_after(20, shield=True):
                        with pytest.raises(TaskEndedError, match="enough"):
                            await going_on(call_of(task, in_place), begun)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await begun.wait()
                world.host.stop("enough")
        assert ["cancelled"] == [facts["outcome"] for facts in world.told("call.finished")]

    @PLACES
    async def test_around_the_task(self, world: AgentWorld, in_place: bool) -> None:
        """It is from what is outside of it."""
        begun = anyio.Event()

        async def work() -> None:
            with anyio.fail_after(20, shield=True), pytest.raises(TaskEndedError, match="enough"):
                async with task_of(world) as task:
                    await going_on(call_of(task, in_place), begun)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await begun.wait()
                world.host.stop("enough")


class TestEnds:
    @pytest.mark.parametrize("how", ["finished", "failed", "cancelled", "stopped"])
    @pytest.mark.parametrize("in_thread", [False, True])
    @PLACES
    async def test_from_elsewhere(self, world: AgentWorld, how: str, in_thread: bool, in_place: bool) -> None:
        """However a task ends, and whoever ends it, a call that runs in its own place is cancelled."""
        begun = anyio.Event()
        tasks: list[Task] = []

        async def work() -> None:
            with pytest.raises(TaskEndedError):
                async with task_of(world) as task:
                    tasks.append(task)
                    await going_on(call_of(task, in_place), begun)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await begun.wait()
                if in_thread:
                    await anyio.to_thread.run_sync(tasks[0].end, how)
                else:
                    tasks[0].end(how)  # type: ignore[arg-type]
        assert ["cancelled"] == [facts["outcome"] for facts in world.told("call.finished")]

    @PLACES
    async def test_while_a_tool_does_not_listen(self, world: AgentWorld, in_place: bool) -> None:
        """It is told again and again, as cancel scopes do, and not once."""
        begun, told = anyio.Event(), []

        async def work() -> None:
            with pytest.raises(TaskEndedError, match="enough"):
                async with task_of(world) as task, call_of(task, in_place):
                    begun.set()
                    for _ in range(3):
                        try:
                            await anyio.sleep_forever()
                        except anyio.get_cancelled_exc_class():
                            told.append("no")

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await begun.wait()
                world.host.stop("enough")
                await settle()
        assert ["no"] * 3 == told

    @PLACES
    async def test_cancelled_by_the_caller(self, world: AgentWorld, in_place: bool) -> None:
        """That is no end of the task's: the cancellation passes, and nothing is made of it."""
        begun = anyio.Event()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:

                async def work() -> None:
                    async with task_of(world) as task:
                        await going_on(call_of(task, in_place), begun)

                group.start_soon(work)
                await begun.wait()
                group.cancel_scope.cancel()
        assert ["cancelled"] == [facts["outcome"] for facts in world.told("task.ended")]


class TestAlone:
    async def test_a_call_that_is_cancelled(self, world: AgentWorld) -> None:
        """It ends, where it is and at once, and its task goes on."""
        async with task_of(world) as task:
            async with anyio.create_task_group() as group:
                call = task.call(READ, INVOICE)

                async def cancel() -> None:
                    await settle()
                    call.cancel()

                group.start_soon(cancel)
                with anyio.fail_after(20):
                    begun = anyio.Event()
                    with pytest.raises(TaskEndedError):
                        await going_on(call, begun)
            async with task.call(READ, INVOICE):
                pass
        assert ["cancelled", "ok"] == [facts["outcome"] for facts in world.told("call.finished")]

    async def test_in_its_tasks_own_place(self, world: AgentWorld) -> None:
        """The same right in the task, with nothing between."""
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:

                async def work() -> None:
                    async with task_of(world) as task:
                        call = task.call(READ, INVOICE)

                        async def cancel() -> None:
                            await settle()
                            call.cancel()

                        group.start_soon(cancel)
                        with pytest.raises(TaskEndedError):
                            await going_on(call, anyio.Event())
                        async with task.call(READ, INVOICE):
                            pass

                group.start_soon(work)
        assert ["cancelled", "ok"] == [facts["outcome"] for facts in world.told("call.finished")]

    @pytest.mark.parametrize("given", [True, False])
    async def test_of_a_guarded_tool(self, world: AgentWorld, given: bool) -> None:
        """Who is given the call can end it alone; who has it in another way ends the task with it, and never nothing."""
        calls: list[Call | None] = []

        @guard(requires="summarize")
        async def with_call(call: Call) -> None:
            calls.append(call)
            await anyio.sleep_forever()

        @guard(requires="summarize")
        async def without() -> None:
            calls.append(current_call())
            await anyio.sleep_forever()

        async def work() -> None:
            with pytest.raises(TaskEndedError):
                async with world.host.task("close the March books", ["summarize"]):
                    await (with_call() if given else without())  # type: ignore[call-arg]

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await settle()
                (call,) = calls
                assert call is not None
                call.cancel()
        assert ["cancelled"] == [facts["outcome"] for facts in world.told("call.finished")]


    async def test_attack_a_call_that_is_begun_again(self, world: AgentWorld) -> None:
        """Who begins a running call anew is refused, and has not taken it out of its task's place: it still ends."""
        running: list[Call | None] = []

        @guard(requires="summarize")
        async def tool() -> None:
            running.append(current_call())
            await anyio.sleep_forever()

        async def work() -> None:
            with pytest.raises(TaskEndedError):
                async with world.host.task("close the March books", ["summarize"]):
                    await tool()

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await settle()
                (call,) = running
                assert call is not None
                with pytest.raises(TaskError, match="made before"):
                    call.__enter__()
                call.cancel()
        assert ["cancelled"] == [facts["outcome"] for facts in world.told("call.finished")]


class TestLeftOpen:
    async def test_a_blocking_tool_that_goes_on_in_its_thread(self, world: AgentWorld) -> None:
        """It is in nobody's place: its task ends as ever, and what it brings back is nobody's."""
        begun, go_on, said = threading.Event(), threading.Event(), []

        @guard(requires="summarize")
        def slow() -> str:
            begun.set()
            go_on.wait(20)
            return "late"

        def work() -> None:
            with pytest.raises(TaskEndedError) as caught:
                slow()
            said.append(caught.value.reason)

        async with world.host.task("close the March books", ["summarize"]) as task:
            thread = threading.Thread(target=bind(work))
            thread.start()
            await anyio.to_thread.run_sync(begun.wait, 20)
        go_on.set()
        await anyio.to_thread.run_sync(thread.join)
        assert (["task_ended"], "finished") == (said, task.ended and task.ended[0])

    @pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio, where each call has a scope, ends the program
    async def test_a_tool_that_leaves_its_task(self, world: AgentWorld) -> None:
        """It says so where it does, and nothing goes on as if it were fine."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(world.host.task("close the March books", ["summarize"]))

            @guard(requires="summarize")
            async def leaving() -> None:
                with pytest.raises(TaskError, match="left inside of one of its calls"):
                    await stack.aclose()
                went_on.append(current_call())

            went_on: list[Call | None] = []
            with pytest.raises(TaskEndedError, match="finished"):
                await leaving()
            (call,) = went_on
            assert call is not None
            with pytest.raises(TaskEndedError):  # and has nothing any more
                call.refuse()
        assert {} == world.host.tasks


class TestPlaces:
    async def test_where_it_is_the_innermost(self, world: AgentWorld, anyio_backend_name: str) -> None:
        """anyio keeps that where it did; should it move, calls have scopes of their own and are slower."""
        known = anyio_backend_name == "asyncio"
        async with task_of(world) as task:
            scope = task._scope
            assert scope is not None
            assert known is scope.innermost
            assert known is (task.inside(in_place=True) is None)
            assert task.inside() is not None
            with anyio.CancelScope():
                assert not scope.innermost
            async with task.delegate(AUDITOR, [READ]) as child:
                assert child._scope is not None
                assert (False, known) == (scope.innermost, child._scope.innermost)
            assert known is scope.innermost
            async with anyio.create_task_group() as group:

                async def elsewhere() -> None:
                    assert not scope.innermost
                    assert task.inside(in_place=True) is not None

                group.start_soon(elsewhere)
            assert not await anyio.to_thread.run_sync(lambda: scope.innermost)

            def on_another_loop() -> None:
                async def look() -> None:
                    assert not scope.innermost
                    other = task.inside(in_place=True)
                    assert other is not None
                    assert other.door is not scope.door

                anyio.run(look)

            await anyio.to_thread.run_sync(on_another_loop)
            assert known is scope.innermost
        assert not scope.innermost

    async def test_where_nobody_knows(
        self, world: AgentWorld, monkeypatch: pytest.MonkeyPatch, in_place: bool = True
    ) -> None:
        """With an anyio that keeps it elsewhere each call has its own, and ends with its task as well."""
        monkeypatch.setattr("spiffe_client.agents._scope._STATES", "nowhere")
        begun = anyio.Event()

        async def work() -> None:
            with pytest.raises(TaskEndedError, match="enough"):
                async with task_of(world) as task:
                    assert task.inside(in_place=True) is not None
                    await going_on(call_of(task, in_place), begun)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(work)
                await begun.wait()
                world.host.stop("enough")

    async def test_noted_elsewhere(self, anyio_backend_name: str) -> None:
        """Only where it was entered: a scope that is not this code's own is never its innermost."""
        with Scope(Door()) as outer, Scope(outer.door):
            outer.note_place()
            assert not outer.innermost
