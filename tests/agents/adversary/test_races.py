"""Attacks on the moment of the end: a task ends at every step of a call, and no step lets anything through.

After each of them: the caller has heard of it, nothing of the call is left, every token that was issued is
forgotten and revoked, and the audit has the attempt, once.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import cycle, groupby
from types import FrameType
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.support.agent_pair import READ, Pair
from tests.support.agent_world import AUDITOR
from tests.support.waiting_agent import Scene, scene_of_waiting

import spiffe_client.agents as agents
from spiffe_client.agents import Call, Task
from spiffe_client.errors import TaskEndedError

pytestmark = pytest.mark.anyio

ORDER = "tenants/acme/orders/7"
_OURS = agents.__path__[0]
#: Steps of one call, at most: where a test does not see its end by then, it sees nothing.
_MOST = 5000
TOLD = ("call.denied", "call.finished")


class AtStep:
    """Does something, once, before a step of the code of `agents` that runs inside; counts these steps.

    A step is a line; with `fine`, an instruction of the interpreter, between two of which another thread
    may come.
    """

    def __init__(self, step: int, act: Callable[[], object], *, fine: bool = False) -> None:
        self._act, self._step, self._fine = act, step, fine
        self.steps = 0

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = self._fine, not self._fine
        elif event in ("line", "opcode"):
            self.steps += 1
            if self.steps == self._step:
                self._act()
        return self._trace

    def __enter__(self) -> AtStep:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


def by_another_thread(task: Task) -> Callable[[], None]:
    """End a task, from a thread that has done so when this returns."""

    def act() -> None:
        thread = threading.Thread(target=task.end, args=("stopped", "enough"))
        thread.start()
        thread.join()

    return act


def names(tokens: list[Any]) -> list[str]:
    return sorted(token.token.reveal() for token in tokens)


def nothing_at_hand(scene: Scene, task: Task) -> None:
    """See that nothing could be used by whoever comes next, though the task is not left yet."""
    assert task.ended is None or {} == scene.broker.tokens
    assert task.ended is None or not any(authority.peek() for authority in task.authorities.values())


def check(scene: Scene, task: Task, call: Call) -> str:
    """See that nothing is left after the end of a call and its task; return what the audit has of it."""
    assert ([], {}, {}) == (scene.left(task), task.calls, scene.broker.tokens)
    assert names(scene.broker.issued) == names(scene.broker.revoking.asked)
    assert all(None is authority.peek() for authority in task.authorities.values())
    with pytest.raises(TaskEndedError):
        call.refuse()
    (outcome,) = [str(event.attributes["outcome"]) for event in scene.world.audit if event.name in TOLD]
    return outcome


async def at_each_step(scene: Scene, one: Callable[[int], Awaitable[tuple[int, str]]]) -> set[tuple[str, object]]:
    """Do it with the end at the first step, at the second and so on until it comes after all of them.

    Return why calls were denied, how tasks ended that calls were cancelled with, and why nobody got anything later.
    """
    told: list[str] = []
    codes: set[tuple[str, object]] = set()
    steps = 1
    await one(_MOST)  # from Python 3.12 on, instructions are seen from the second time on
    scene.forget()
    while len(told) < steps:
        assert len(told) < _MOST
        steps, outcome = await one(len(told) + 1)
        told.append(outcome)
        for name in ("reason", "ended"):
            codes |= {(e.name, e.attributes[name]) for e in scene.world.audit if name in e.attributes}
        scene.forget()
    # Denied until it is let in, cancelled until it has finished: the end is never seen late.
    assert ["denied", "cancelled", "ok"] == [outcome for outcome, _ in groupby(told)]
    return codes


@pytest.fixture
async def scene(anyio_backend: str) -> AsyncIterator[Scene]:
    async with scene_of_waiting() as scene:
        yield scene


@pytest.mark.parametrize("action", ["read", "refund"], ids=["with the task's token", "approved, with its own token"])
class TestEachStep:
    """One thread is at each line of a call, in one test at each of the interpreter's instructions, when another ends its task."""

    async def test_of_a_call_on_the_event_loop(self, scene: Scene, action: str) -> None:
        """End the task from another thread at each single line of a call's way, from before it begins until
        after its end.

        Denied until it is let in, cancelled until it has finished; no token survives, and the audit has it
        once.
        """

        async def one(step: int) -> tuple[int, str]:
            with pytest.raises(TaskEndedError):
                async with scene.task() as task:
                    call = task.call(action, ORDER, arguments={"n": 1})
                    end = by_another_thread(task)
                    with AtStep(step, end) as at:
                        with suppress(TaskEndedError):
                            async with call:
                                await anyio.lowlevel.checkpoint()
                    nothing_at_hand(scene, task)
                    end()
                    await anyio.sleep_forever()
            return at.steps, check(scene, task, call)

        told = await at_each_step(scene, one)
        assert {("call.denied", "task_ended")} == {it for it in told if it[0] == "call.denied"}
        assert {("credential.withheld", "task_ended")} == {it for it in told if it[0] == "credential.withheld"}
        assert {("ended", "stopped")} == {("ended", how) for name, how in told if name == "call.finished"}

    async def test_of_a_call_in_a_thread(self, scene: Scene, action: str) -> None:
        """The same for code that blocks, also at each single instruction of the interpreter.

        The same; what its body brings back after the end is nobody's.
        """

        def block(call: Call, at: AtStep) -> None:
            with at, suppress(TaskEndedError), call:
                pass
            nothing_at_hand(scene, call.task)

        async def one(step: int) -> tuple[int, str]:
            with pytest.raises(TaskEndedError):
                async with scene.task() as task:
                    call = task.call(action, ORDER, arguments={"n": 1})
                    at = AtStep(step, lambda: task.end("stopped", "enough"), fine=action == "read")
                    await anyio.to_thread.run_sync(block, call, at)
                    task.end("stopped", "enough")
                    await anyio.sleep_forever()
            return at.steps, check(scene, task, call)

        told = await at_each_step(scene, one)
        assert {("call.denied", "task_ended")} == {it for it in told if it[0] == "call.denied"}
        assert {("credential.withheld", "task_ended")} == {it for it in told if it[0] == "credential.withheld"}
        assert {("ended", "stopped")} == {("ended", how) for name, how in told if name == "call.finished"}


class TestThreads:
    """Threads that are in the middle of anything, for real: they change places every few instructions."""

    @pytest.fixture(autouse=True)
    def at_any_moment(self) -> Iterator[None]:
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        yield
        sys.setswitchinterval(before)

    async def test_that_make_calls_while_their_task_ends(self, scene: Scene) -> None:
        """Make calls from eight threads, switched every few instructions, while their task ends.

        Each thread is told, and each attempt is in the audit.
        """
        for _ in range(20):
            tried, heard = [0] * 8, [0] * 8

            def work(task: Task, number: int) -> None:
                for action in cycle(["read", "refund"]):
                    tried[number] += 1
                    try:
                        with task.call(action, ORDER, arguments={"n": number}) as call:
                            call.refuse()
                    except BaseException as error:
                        heard[number] = tried[number]
                        if isinstance(error, TaskEndedError):
                            return
                        raise  # whoever waits for this thread is cancelled, and so is what the thread waits for

            with anyio.fail_after(20), pytest.raises(TaskEndedError, match="enough"):
                async with scene.task() as task, anyio.create_task_group() as group:
                    for number in range(8):
                        group.start_soon(anyio.to_thread.run_sync, work, task, number)
                    while not all(tried):
                        await anyio.sleep(0)
                    await anyio.to_thread.run_sync(task.end, "stopped", "enough")
            assert tried == heard
            told = [event for event in scene.world.audit if event.name in TOLD]
            assert sum(tried) == len(told)
            assert {"task_ended"} >= set(scene.world.reasons)
            assert {"stopped"} >= {event.attributes["ended"] for event in told if "ended" in event.attributes}
            assert ([], {}, {}) == (scene.left(task), task.calls, scene.broker.tokens)
            assert names(scene.broker.issued) == names(scene.broker.revoking.asked)
            scene.forget()

    async def test_that_end_it_all_at_once(self, scene: Scene) -> None:
        """End the task, its parent and the agent from ten threads at once.

        Each call ends, each token is revoked once.
        """
        calls: list[TaskEndedError] = []

        def work(task: Task) -> None:
            try:
                with task.call("read", ORDER) as call:
                    ready.release()
                    over.wait(20)
                    call.refuse()
            except TaskEndedError as error:
                calls.append(error)

        ready, over = threading.Semaphore(0), threading.Event()
        async with anyio.create_task_group() as group:
            with anyio.fail_after(20), pytest.raises(TaskEndedError):
                async with scene.task() as parent, parent.delegate(AUDITOR, ["read"]) as task:
                    for _ in range(4):
                        group.start_soon(anyio.to_thread.run_sync, work, task)
                        await anyio.to_thread.run_sync(ready.acquire)
                    ends = [partial(one.end, "stopped", "enough") for one in (task, parent) for _ in range(4)]
                    ends += [partial(scene.world.host.stop, "enough")] * 2
                    threads = [threading.Thread(target=end) for end in ends]
                    for thread in threads:
                        thread.start()
                    with anyio.CancelScope(shield=True):
                        for thread in threads:
                            await anyio.to_thread.run_sync(thread.join)
                    over.set()
                    await anyio.sleep_forever()
        assert 4 == len(calls)
        assert ["cancelled"] * 4 == [facts["outcome"] for facts in scene.world.told("call.finished")]
        assert {"stopped", "parent"} >= {facts["ended"] for facts in scene.world.told("call.finished")}
        assert {} == scene.broker.tokens
        assert names(scene.broker.issued) == names(scene.broker.revoking.asked)


async def test_a_thread_that_waits_for_a_token_broker_that_hangs(pair: Pair) -> None:
    """A thread waits for a token broker that hangs when its task ends.

    It hears of the end at once, and the token that is issued later is nobody's.
    """
    pair.broker.fail_next(None, delay=30, times=1)
    asked = pair.broker.requests["token"]
    said: list[str] = []

    def block(call: Call) -> None:
        try:
            with call:
                said.append("let in")
        except TaskEndedError as error:
            said.append(error.reason)

    async with anyio.create_task_group() as group:
        with anyio.fail_after(10), pytest.raises(TaskEndedError, match="enough"):
            async with pair.task() as task:
                call = task.call(READ, ORDER)
                group.start_soon(anyio.to_thread.run_sync, block, call)
                while pair.broker.requests["token"] == asked:
                    await anyio.sleep(0.01)
                task.end("stopped", "enough")
                await anyio.sleep_forever()
    assert (["task_ended"], []) == (said, pair.closer.tokens._open.cache.held())
    assert ["task_ended"] == pair.reasons
    pair.broker.heal()
