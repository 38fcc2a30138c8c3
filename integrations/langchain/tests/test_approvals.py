"""A person's yes is for one call with these arguments, in this pause of this graph, and it is used once."""

from __future__ import annotations

import math
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.to_thread
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.tools import ToolRuntime
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from tests.support.agent_world import AgentWorld
from tests.support.scripted_langchain import Model, agent_of, graph_of, tool_of

from spiffe_client.agents import Requires, ToolGate
from spiffe_client.errors import TaskEndedError
from spiffe_client.policy import Approval, ApprovalRequest
from spiffe_client.testing import ManualClock, ToolCall
from spiffe_client_langchain import TaskCredentials, UsedAnswers, approve

pytestmark = pytest.mark.anyio

GATE = ToolGate({"refund": Requires("orders:refund", "tenants/{tenant}/orders/{order}")})


class Desk:
    """A graph that is asked for refunds, its checkpoints, and what was refunded."""

    def __init__(self, kind: Callable[..., Any], *calls: ToolCall, saver: Any = None, **more: Any) -> None:
        self.ran: list[tuple[str, int]] = []
        self.saver = saver or InMemorySaver()
        calls = calls or (ToolCall("refund", {"order": "7", "amount": 5}, "c1"),)
        play = SimpleNamespace(gate=GATE, turns=[calls], tools={"refund": self.tool()})
        self.graph = kind(play, self.saver, **more)

    def tool(self) -> Any:
        def refund(order: str, amount: int = 1) -> str:
            """Refund an order."""
            self.ran.append((order, amount))
            return f"refunded {amount}"

        return refund

    async def begin(self, thread: str = "1") -> Any:
        return await self.go({"messages": [HumanMessage("go")]}, thread)

    async def go(self, what: Any, thread: str = "1", **more: Any) -> Any:
        return await self.graph.ainvoke(what, {"configurable": {"thread_id": thread, **more}})

    async def checkpoint(self) -> str:
        state = await self.graph.aget_state({"configurable": {"thread_id": "1"}})
        return state.config["configurable"]["checkpoint_id"]


def stored(saver: InMemorySaver, file: Path) -> None:
    """Write down all that a saver has."""
    storage = {thread: {ns: dict(it) for ns, it in spaces.items()} for thread, spaces in saver.storage.items()}
    file.write_bytes(pickle.dumps((storage, dict(saver.writes), dict(saver.blobs))))


def restored(file: Path) -> InMemorySaver:
    """What another process reads of that."""
    saver = InMemorySaver()
    storage, writes, blobs = pickle.loads(file.read_bytes())
    for thread, spaces in storage.items():
        saver.storage[thread].update(spaces)
    saver.writes.update(writes)
    saver.blobs.update(blobs)
    return saver


@asynccontextmanager
async def at_work(tenant: str = "acme", purpose: str = "x", **options: Any) -> AsyncIterator[AgentWorld]:
    """Another host each time, as in another process."""
    async with AgentWorld(**options).running() as world:
        async with world.host.task(purpose, ["orders:refund"], tenant=tenant):
            yield world


def asked(state: Any) -> list[Any]:
    return list(state.get("__interrupt__", ()))


def yes(state: Any, **changed: Any) -> Command:
    (question,) = asked(state)
    return Command(resume={**approve(question.value, by="alice"), **changed})


def told(state: Any) -> dict[str, str]:
    return {it.tool_call_id: str(it.content) for it in state["messages"] if isinstance(it, ToolMessage)}


@pytest.fixture(params=[agent_of, graph_of])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestOnce:
    async def test_an_answer_replayed_from_an_earlier_checkpoint(self, kind: Any) -> None:
        """Replay a person's yes from an earlier checkpoint of the graph.

        The call is not made again; who asks for it again gets what came of it.
        """
        desk = Desk(kind)
        async with at_work() as world:
            state = await desk.begin()
            pause, answer = await desk.checkpoint(), yes(state)
            assert {"c1": "refunded 5"} == told(await desk.go(answer))
            await desk.go(answer)
            for _ in range(2):
                assert {"c1": "refunded 5"} == told(await desk.go(answer, checkpoint_id=pause))
            assert [("7", 5)] == desk.ran
            if asked(await desk.go(None, checkpoint_id=pause)):  # not so where a LangGraph remembers the answer, too
                assert {"c1": "refunded 5"} != told(await desk.go(answer)), "another pause is another question"
                assert ["not_approved"] == world.reasons
        assert [("7", 5)] == desk.ran

    async def test_an_answer_whose_call_has_failed(self, kind: Any) -> None:
        """Replay the yes to a call that failed half way.

        Nobody knows what was done: it is not done again.
        """
        desk = Desk(kind)

        class Full(list[Any]):
            def append(self, what: Any) -> None:
                super().append(what)
                raise OSError("full")

        desk.ran = Full()
        async with at_work() as world:
            answer = yes(await desk.begin())
            with pytest.raises(OSError, match="full"):
                await desk.go(answer)
            state = await desk.go(None)
        assert "a person's approval" in told(state)["c1"]
        assert ([("7", 5)], ["not_approved"]) == (list(desk.ran), world.reasons)

    async def test_an_answer_used_by_two_threads_at_once(self, kind: Any) -> None:
        """Resume the graph with one yes from two threads at once.

        One of them makes the call.
        """
        desk = Desk(kind)
        async with at_work() as world:
            answer, at = yes(await desk.begin()), await desk.checkpoint()
            config = {"configurable": {"thread_id": "1", "checkpoint_id": at}}
            async with anyio.create_task_group() as group:
                for _ in range(2):
                    group.start_soon(anyio.to_thread.run_sync, desk.graph.invoke, answer, config)
        assert [("7", 5)] == desk.ran
        assert ["answer_used"] == [facts["reason"] for facts in world.told("approval.ignored")]

    async def test_siblings_that_are_answered_one_by_one(self, kind: Any) -> None:
        """Answer three calls of one message one by one, so that the framework runs them again each time.

        A node that is run again from its beginning makes no call a second time.
        """
        desk = Desk(kind, *(ToolCall("refund", {"order": f"{n}", "amount": n}, f"c{n}") for n in (1, 2, 3)))
        async with at_work() as world:
            (task,) = world.host.tasks.values()
            state = await desk.begin()
            while questions := asked(state):
                while task.calls:  # a pause leaves the calls beside it running
                    await anyio.sleep(0.001)
                first = questions[0]
                state = await desk.go(Command(resume={first.id: approve(first.value, by="alice")}))
        assert {"c1": "refunded 1", "c2": "refunded 2", "c3": "refunded 3"} == told(state)
        assert ([("1", 1), ("2", 2), ("3", 3)], []) == (sorted(desk.ran), world.reasons)
        again = {facts["reason"] for facts in world.told("approval.ignored")}
        assert ({"answer_used"} if kind is graph_of else set()) == again, "approval.ignored"

    async def test_after_its_task(self, kind: Any) -> None:
        """Replay a yes after the task's end.

        The call is not made, and what came of it is not handed out either.
        """
        desk = Desk(kind)
        async with at_work() as world:
            answer, at = yes(await desk.begin()), await desk.checkpoint()
            await desk.go(answer)
            (task,) = world.host.tasks.values()
            task.end("finished")
            with pytest.raises(TaskEndedError):
                await desk.go(answer, checkpoint_id=at)
        assert ["answer_used"] == [facts["reason"] for facts in world.told("approval.ignored")]


class TestElsewhere:
    @pytest.mark.parametrize(
        "changed",
        [{"arguments": "x"}, {"resource": "tenants/acme/orders/8"}, {"tenant": "globex"}, {"tool_call": "c2"}, {"pause": "x"}],
        ids=str,
    )
    async def test_an_answer_that_was_edited(self, kind: Any, changed: dict[str, str]) -> None:
        """Edit the answer: arguments, resource, tenant, call or pause.

        It is a no.
        """
        desk = Desk(kind)
        async with at_work() as world:
            await desk.go(yes(await desk.begin(), **changed))
        assert ([], ["not_approved"]) == (desk.ran, world.reasons)

    async def test_a_call_that_was_edited_while_it_waited(self, kind: Any) -> None:
        """Edit the call in the checkpoint while it waits for a yes.

        The answer is to what was asked, and that is not what would be done.
        """
        desk = Desk(kind)
        async with at_work() as world:
            answer = yes(await desk.begin())
            config = {"configurable": {"thread_id": "1"}}
            messages = (await desk.graph.aget_state(config)).values["messages"]
            edited = {"name": "refund", "args": {"order": "7", "amount": 5000}, "id": "c1", "type": "tool_call"}
            update = {"messages": [AIMessage("", id=messages[-1].id, tool_calls=[edited])]}
            node = "model" if kind is agent_of else "think"
            await desk.graph.aupdate_state(config, update, as_node=node)
            await desk.go(answer)
        assert ([], ["not_approved"]) == (desk.ran, world.reasons)

    async def test_answers_crosswise(self, kind: Any) -> None:
        """Swap the answers to two questions of one message.

        Neither is one.
        """
        desk = Desk(kind, *(ToolCall("refund", {"order": f"{n}", "amount": n}, f"c{n}") for n in (1, 2)))
        async with at_work() as world:
            state = await desk.begin()
            if len(asked(state)) == 1:  # a plain node asks one after the other
                (question,) = asked(state)
                other = {**approve(question.value, by="alice"), "tool_call": "c2", "resource": "tenants/acme/orders/2"}
                state = await desk.go(Command(resume={question.id: other}))
            else:
                one, two = asked(state)
                crossed = {one.id: approve(two.value, by="alice"), two.id: approve(one.value, by="alice")}
                await desk.go(Command(resume=crossed))
        assert ([], {"not_approved"}) == (desk.ran, set(world.reasons))

    async def test_in_another_thread(self, kind: Any) -> None:
        """Use the yes in another thread of the graph.

        The same call waits there, and has a question of its own.
        """
        desk = Desk(kind)
        async with at_work() as world:
            answer = yes(await desk.begin("1"))
            await desk.begin("2")
            await desk.go(answer, "2")
        assert ([], ["not_approved"]) == (desk.ran, world.reasons)

    async def test_in_another_task(self, kind: Any) -> None:
        """Use the yes that an earlier task got.

        It is asked again, and that answer counts; the one before does not.
        """
        desk = Desk(kind)
        async with at_work():
            before = yes(await desk.begin())
        async with at_work() as world:
            state = await desk.go(before)
            assert (1, []) == (len(asked(state)), desk.ran)
            assert {"c1": "refunded 5"} == told(await desk.go(yes(state)))
        assert [("7", 5)] == desk.ran
        assert {"answer_of_another_task"} == {facts["reason"] for facts in world.told("approval.ignored")}

    @pytest.mark.parametrize("other", [{"tenant": "globex"}, {"purpose": "y"}], ids=str)
    async def test_for_other_work(self, kind: Any, other: dict[str, str]) -> None:
        """Use the yes for another tenant's work, or for another purpose.

        It was not asked about that.
        """
        desk = Desk(kind)
        async with at_work():
            answer = yes(await desk.begin())
        async with at_work(**other) as world:
            await desk.go(answer)
        assert ([], ["not_approved"]) == (desk.ran, world.reasons)


async def test_what_is_injected_is_no_argument(tmp_path: Path) -> None:
    """Nobody is asked about it, and no checkpoint has it because of that, whenever a version of the framework puts it in."""
    desk = Desk(TestBehind().graph({}))
    async with at_work():
        (question,) = asked(await desk.begin())
        assert {"order": "7", "amount": 5} == question.value["args"]
    stored(desk.saver, tmp_path / "checkpoints")


class TestBehind:
    """What a middleware behind ours makes of a call that somebody has approved."""

    @pytest.mark.parametrize("changed", [{"amount": 5000}, {"more": 1}, {"order": "8"}], ids=str)
    @pytest.mark.parametrize("blocking", [False, True])
    async def test_other_arguments(self, changed: dict[str, Any], blocking: bool) -> None:
        """A middleware behind ours changes the arguments of a call that was approved.

        It does not run: nobody has approved that.
        """
        desk = Desk(self.graph(changed))
        async with at_work() as world:
            answer = yes(await desk.begin())
            config = {"configurable": {"thread_id": "1"}}
            state = (
                await anyio.to_thread.run_sync(desk.graph.invoke, answer, config) if blocking else await desk.go(answer)
            )
        assert "not permitted" in told(state)["c1"]
        assert ([], ["not_approved"]) == (desk.ran, world.reasons)

    async def test_the_same_arguments(self) -> None:
        """Also such as a validator makes of them, and what is injected."""
        desk = Desk(self.graph({}), ToolCall("refund", {"order": "7", "amount": "5"}, "c1"))
        async with at_work():
            assert {"c1": "refunded 5"} == told(await desk.go(yes(await desk.begin())))
        assert [("7", 5)] == desk.ran

    def graph(self, changed: dict[str, Any]) -> Callable[..., Any]:
        class Changes(AgentMiddleware[Any, Any]):
            def changed(self, request: Any) -> Any:
                call = request.tool_call
                return request.override(tool_call={**call, "args": {**call["args"], **changed}})

            def wrap_tool_call(self, request: Any, handler: Any) -> Any:
                return handler(self.changed(request))

            async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
                return await handler(self.changed(request))

        def make(play: Any, saver: Any) -> Any:
            refund = play.tools["refund"]

            @tool("refund")
            def injected(order: str, runtime: ToolRuntime, amount: int = 1) -> str:
                """Refund an order."""
                return refund(order, amount)

            around = [TaskCredentials(play.gate), Changes()]
            return create_agent(Model(turns=play.turns), [injected], middleware=around, checkpointer=saver)

        return make


class TestRestart:
    @asynccontextmanager
    async def process(self, kind: Any, file: Path, **more: Any) -> AsyncIterator[Desk]:
        """A process that reads what the one before has left."""
        desk = Desk(kind, saver=restored(file) if file.exists() else None, **more)
        async with at_work() as self.world:
            yield desk
        stored(desk.saver, file)

    async def test_an_answer_across_a_restart(self, kind: Any, tmp_path: Path) -> None:
        """Restart the process, or put an old checkpoint back, and use the old yes.

        A process that does not know what was used before it asks again; the old answer is of no use.
        """
        file = tmp_path / "checkpoints"
        async with self.process(kind, file) as desk:
            answer = yes(await desk.begin())
        before = file.read_bytes()
        async with self.process(kind, file) as desk:
            state = await desk.go(answer)
            assert (1, []) == (len(asked(state)), desk.ran)
            await desk.go(yes(state))
            assert [("7", 5)] == desk.ran
        file.write_bytes(before)
        async with self.process(kind, file) as desk:
            assert 1 == len(asked(await desk.go(answer)))
            assert [] == desk.ran
        assert ["answer_of_another_task"] == [facts["reason"] for facts in self.world.told("approval.ignored")]

    async def test_an_answer_that_lasts(self, kind: Any, tmp_path: Path) -> None:
        """The same where yeses are to last over a restart.

        With a memory that lasts a yes is good after a restart, once, whatever state is put back.
        """
        file, used = tmp_path / "checkpoints", tmp_path / "used"
        async with self.process(kind, file, used=UsedAnswers(used)) as desk:
            answer = yes(await desk.begin())
        before = file.read_bytes()
        async with self.process(kind, file, used=UsedAnswers(used)) as desk:
            await desk.go(Command(resume={**answer.resume, "arguments": "others"}))
            assert [] == desk.ran
        file.write_bytes(before)
        async with self.process(kind, file, used=UsedAnswers(used)) as desk:
            assert {"c1": "refunded 5"} == told(await desk.go(answer))
            assert [("7", 5)] == desk.ran
        file.write_bytes(before)
        async with self.process(kind, file, used=UsedAnswers(used)) as desk:
            assert "a person's approval" in told(await desk.go(answer))["c1"]
            assert [] == desk.ran
        assert ["not_approved"] == self.world.reasons
        assert ["answer_used"] == [facts["reason"] for facts in self.world.told("approval.ignored")]
        assert 1 == len(list(used.iterdir()))

    async def test_an_answer_that_was_forgotten(self, kind: Any, tmp_path: Path) -> None:
        """The same after so long that the answer is forgotten, also with the clock set back.

        What is old enough to be forgotten is too old; how far that went is written down, and no clock changes it.
        """
        file, used, clock = tmp_path / "checkpoints", tmp_path / "used", ManualClock(datetime.now(UTC))
        async with self.process(kind, file, used=UsedAnswers(used, clock=clock)) as desk:
            answer = yes(await desk.begin())
        before = file.read_bytes()
        async with self.process(kind, file, used=UsedAnswers(used, clock=clock)) as desk:
            await desk.go(answer)
            assert [("7", 5)] == desk.ran
        clocks = [ManualClock(clock.now() + timedelta(days=days)) for days in (89, 91, 91, 1)]
        files = []
        for now in clocks:
            file.write_bytes(before)
            async with self.process(kind, file, used=UsedAnswers(used, clock=now)) as desk:
                assert "a person's approval" in told(await desk.go(answer))["c1"]
                assert [] == desk.ran
            assert ["answer_used"] == [facts["reason"] for facts in self.world.told("approval.ignored")]
            files.append([path.name.partition("-")[0] == "forgotten" for path in used.iterdir()])
        assert [[False], [True], [True]] == files[:3]

    @pytest.mark.parametrize("said", [None, True, "2026-01-01", math.inf, math.nan, 1e300, 0], ids=str)
    async def test_an_answer_of_no_time(self, said: Any, kind: Any, tmp_path: Path) -> None:
        """Give an answer that does not say when it was given, and so would be good for ever.

        Where answers last it is none.
        """
        desk = Desk(kind, used=UsedAnswers(tmp_path))
        async with at_work() as world:
            answer = yes(await desk.begin())
            await desk.go(Command(resume={**answer.resume, "approved_at": said}))
        assert [] == desk.ran
        assert ["not_approved"] == world.reasons

    async def test_a_memory_that_cannot_be_written(self, kind: Any, tmp_path: Path) -> None:
        """Take that memory away.

        Nothing is done.
        """
        used = UsedAnswers(tmp_path / "used")
        (tmp_path / "used").rmdir()
        desk = Desk(kind, used=used)
        async with at_work() as world:
            answer = yes(await desk.begin())
            with pytest.raises(OSError):
                await desk.go(answer)
        assert [] == desk.ran
        assert ["answer_not_recorded"] == [facts["reason"] for facts in world.told("approval.ignored")]


class TestWhileSomebodyLooks:
    async def answer(self, change: Callable[[dict[str, Any]], object], handler: Any) -> tuple[Any, AgentWorld]:
        """What comes of a call whose arguments somebody changes while a person looks at them."""
        arguments: dict[str, Any] = {"order": "7", "amount": 5}

        class Person:
            async def approve(self, request: ApprovalRequest) -> Approval | None:
                change(arguments)
                return request.approve(by="alice")

        asked = {"name": "refund", "args": arguments, "id": "c1", "type": "tool_call"}
        request = SimpleNamespace(tool_call=asked, tool=tool_of(Desk(agent_of).tool()), state={}, runtime=None)
        async with at_work(approver=Person()) as world:
            return await TaskCredentials(GATE).awrap_tool_call(request, handler), world  # type: ignore[arg-type]

    @pytest.mark.parametrize("change", [{"amount": 5000}, {"order": "8"}, {"amount": None}, {}], ids=str)
    async def test_arguments_that_are_changed(self, change: dict[str, Any]) -> None:
        """Change the arguments in the framework's message while a person looks at them.

        Behind the back of who approves them, also such as are taken away: it is denied.
        """

        def apply(arguments: dict[str, Any]) -> None:
            left = {**arguments, **change} if change else {}
            arguments.clear()
            arguments.update({name: value for name, value in left.items() if value is not None})

        async def handler(given: Any) -> Any:
            raise AssertionError("it ran")

        message, world = await self.answer(apply, handler)
        assert ("error", ["not_approved"]) == (message.status, world.reasons)

    async def test_arguments_that_are_changed_later(self) -> None:
        """Change the arguments after the yes, while the tool begins.

        The tool has a copy.
        """
        kept: list[dict[str, Any]] = []

        async def handler(given: Any) -> Any:
            kept[0]["amount"] = 5000
            return ToolMessage(str(given.tool_call["args"]), tool_call_id="c1")

        message, _ = await self.answer(kept.append, handler)
        assert "{'order': '7', 'amount': 5}" == message.content
