"""Attacks by leaving: of a call that was given up, or whose task has ended, nothing is left but what the audit has.

Each test is one attack on what a call waits for: a decision point, a person, a token broker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.support.agent_world import AUDITOR
from tests.support.manual_clock import settle
from tests.support.protected import access_token
from tests.support.waiting_agent import WAITERS, Scene, scene_of_waiting

from spiffe_client.agents import Call
from spiffe_client.agents._authority import Root
from spiffe_client.errors import TaskEndedError, TaskError
from spiffe_client.tokens import TokenRequest

pytestmark = pytest.mark.anyio

ORDER = "tenants/acme/orders/7"


@pytest.fixture
async def scene(anyio_backend: str) -> AsyncIterator[Scene]:
    async with scene_of_waiting() as scene:
        yield scene


async def enter(call: Call) -> None:
    async with call:
        raise AssertionError("it was let in")


async def enter_in_vain(call: Call) -> None:
    with pytest.raises(TaskEndedError):
        await enter(call)


def blocking(call: Call) -> None:
    with call:
        raise AssertionError("it was let in")


class TestByTheCaller:
    @pytest.mark.parametrize("name", WAITERS)
    async def test_while_it_waits(self, scene: Scene, name: str) -> None:
        """Give a call up while it waits for a decision point, a person or a token broker.

        No authority, no open approval and no place in the workflow is left of it; the attempt is in the audit.
        """
        waits = scene.make_wait(name)
        async with scene.task() as task:
            call = task.call("refund", ORDER, arguments={"n": 1})
            async with anyio.create_task_group() as group:
                group.start_soon(enter, call)
                await settle()
                assert 1 == len(waits.asked)
                group.cancel_scope.cancel()
            assert ([], {}, None) == (scene.left(task), scene.broker.tokens, task.previous)
            waits.answer.set()
            with pytest.raises(TaskError, match="make a new one"):
                await call.__aenter__()
            with pytest.raises(TaskError, match="has ended"):
                _ = call.auth
            (facts,) = scene.world.told("call.finished")
            assert ("cancelled", call.id, ORDER, call.digest) == tuple(
                facts[key] for key in ("outcome", "call", "resource", "arguments")
            )
            assert "decision" not in facts
            async with task.call("refund", ORDER, arguments={"n": 1}):
                assert 2 == task.budget.spent
        assert [] == scene.world.reasons
        assert ["call_ended"] == [facts["reason"] for facts in scene.world.told("credential.withheld")]
        assert ["cancelled", "ok"] == [facts["outcome"] for facts in scene.world.told("call.finished")]

    async def test_while_a_person_thinks_who_says_yes_later(self, scene: Scene) -> None:
        """Give a call up, and collect the yes of a person who answers later.

        The yes comes to nobody: the next call asks again.
        """
        waits = scene.make_wait("person", deaf=True)
        async with scene.task() as task:
            async with anyio.create_task_group() as group:
                group.start_soon(enter, task.call("refund", ORDER, arguments={"n": 1}))
                await settle()
                group.cancel_scope.cancel()
                waits.answer.set()
            assert [] == scene.left(task)
            assert ["cancelled"] == [facts["outcome"] for facts in scene.world.told("call.finished")]
            async with task.call("refund", ORDER, arguments={"n": 1}):
                assert 2 == len(waits.asked)

    async def test_by_an_error_that_is_nobodys_answer(self, scene: Scene) -> None:
        """Break what a call waits for with an error that is no answer.

        The call is not made, nothing is left of it, and the audit has the error.
        """
        scene.broker.error = ZeroDivisionError()
        async with scene.task() as task:
            with pytest.raises(ZeroDivisionError):
                await enter(task.call("read", ORDER))
            with pytest.raises(TaskError, match="must not block the event loop"):
                blocking(task.call("read", ORDER))
            assert [] == scene.left(task)
        told = scene.world.told("call.finished")
        assert [("error", "ZeroDivisionError"), ("error", "TaskError")] == [(it["outcome"], it["error"]) for it in told]


class TestBySecurityEvents:
    """A token that somebody takes back: nobody goes on with it, nor with what was made of it."""

    async def test_of_a_task(self, scene: Scene) -> None:
        """Go on when the token broker has taken a task's token back.

        The task ends, and so does what it handed on; who else works here goes on.
        """
        async with scene.task() as other, other.call("read", ORDER):
            with pytest.raises(TaskEndedError, match="took a token of this task back"):
                async with scene.task() as task, task.delegate(AUDITOR, ["read"]) as child:
                    async with child.call("read", ORDER):
                        scene.take_back(task.authorities["read"].peek())
                        await anyio.sleep_forever()
            assert ["parent", "stopped"] == [facts["outcome"] for facts in scene.world.told("task.ended")]
            assert ["parent"] == [facts["ended"] for facts in scene.world.told("call.finished")]
            assert (None, ("stopped", "parent")) == (other.ended, tuple(it.ended[0] for it in (task, child) if it.ended))

    async def test_of_the_work_that_was_handed_on(self, scene: Scene) -> None:
        """Go on with handed on work whose token was taken back.

        It ends; the task that it came from goes on.
        """
        async with scene.task() as task:
            with pytest.raises(TaskEndedError, match="took a token of this task back"):
                async with task.delegate(AUDITOR, ["read"]) as child, child.call("read", ORDER):
                    scene.take_back(child.authorities["read"].peek())
                    await anyio.sleep_forever()
            async with task.call("read", ORDER):
                pass
        assert ["stopped", "finished"] == [facts["outcome"] for facts in scene.world.told("task.ended")]
        assert ["stopped", None] == [facts.get("ended") for facts in scene.world.told("call.finished")]

    async def test_of_a_call_that_has_begun_with_it(self, scene: Scene) -> None:
        """Take a token back that a call has begun with, and that was replaced since.

        Its task ends all the same.
        """
        with pytest.raises(TaskEndedError, match="took a token of this task back"):
            async with scene.task() as task, task.call("read", ORDER) as call:
                scene.broker.tokens.clear()
                assert call.token is not await task.authorities["read"].fetch()
                scene.take_back(call.token)
                await anyio.sleep_forever()
        assert ["stopped"] == [facts["ended"] for facts in scene.world.told("call.finished")]
        assert ["stopped"] == [facts["outcome"] for facts in scene.world.told("task.ended")]

    async def test_of_calls_to_come(self, scene: Scene) -> None:
        """Take a token back while no call runs, so that the next one might simply get a new one.

        The task ends at once.
        """
        with pytest.raises(TaskEndedError, match="took a token of this task back"):
            async with scene.task() as task:
                async with task.call("read", ORDER) as call:
                    pass
                scene.take_back(call.token)
                with anyio.CancelScope(shield=True):
                    await enter_in_vain(task.call("read", ORDER))
                await anyio.sleep_forever()
        assert ["task_ended"] == scene.world.reasons
        assert ["stopped"] == [facts["outcome"] for facts in scene.world.told("task.ended")]

    async def test_that_a_ticket_was_worth(self, scene: Scene) -> None:
        """Take back what a ticket was worth.

        All that was begun with it ends, and nothing where it is another's.
        """
        root = access_token(TokenRequest.of("read"), "root")
        tokens: Any = scene.broker
        with pytest.raises(TaskEndedError, match="took a token of this task back"):
            async with scene.task() as task:
                task.authorities[""] = Root(tokens, root)
                scene.take_back(access_token(TokenRequest.of("read"), "another"))
                assert None is task.ended
                scene.take_back(root)
                with anyio.CancelScope(shield=True):
                    await enter_in_vain(task.call("read", ORDER))
                await anyio.sleep_forever()
        assert ["task_ended"] == scene.world.reasons
        assert ["stopped"] == [facts["outcome"] for facts in scene.world.told("task.ended")]


class TestByTheEndOfTheTask:
    @pytest.mark.parametrize("name", WAITERS)
    async def test_an_answer_that_comes_after_it(self, scene: Scene, name: str) -> None:
        """Answer a call whose task has ended: a yes, a decision or a token, too late.

        Nobody gets it; who would have been asked next is not asked.
        """
        waits = scene.make_wait(name, deaf=True)
        async with anyio.create_task_group() as group:
            with pytest.raises(TaskEndedError, match="enough"):
                async with scene.task() as task:
                    group.start_soon(enter_in_vain, task.call("refund", ORDER, arguments={"n": 1}))
                    await settle()
                    task.end("stopped", "enough")
                    await anyio.sleep_forever()
            assert 1 == len(waits.asked)
            waits.answer.set()
        assert ([], {}) == (scene.left(task), scene.broker.tokens)
        assert ["task_ended"] == scene.world.reasons
        assert [] == scene.world.told("call.finished")
        later = WAITERS[WAITERS.index(name) + 1 :]
        assert [[]] * len(later) == [getattr(scene, one).asked for one in later]

    @pytest.mark.parametrize("name", WAITERS[:2])
    async def test_while_a_thread_waits(self, scene: Scene, name: str) -> None:
        """End the task while a thread waits for an answer.

        The thread comes back at once, with nothing.
        """
        scene.make_wait(name)
        async with anyio.create_task_group() as group:

            async def in_thread(call: Call) -> None:
                with pytest.raises(TaskEndedError):
                    await anyio.to_thread.run_sync(blocking, call)

            with anyio.fail_after(10), pytest.raises(TaskEndedError, match="enough"):
                async with scene.task() as task:
                    group.start_soon(in_thread, task.call("refund", ORDER, arguments={"n": 1}))
                    while not getattr(scene, name).asked:
                        await anyio.sleep(0.001)
                    task.end("stopped", "enough")
                    await anyio.sleep_forever()
        assert [] == scene.left(task)
        assert ["task_ended"] == scene.world.reasons

    @pytest.mark.parametrize("in_thread", [False, True])
    async def test_a_token_that_lands_in_that_moment(self, scene: Scene, in_thread: bool) -> None:
        """Let the token arrive in the very moment in which the task ends.

        Nobody gets it; it is given back when its call is left, and revoked once.
        """
        with pytest.raises(TaskEndedError, match="enough"):
            async with scene.task() as task:
                scene.broker.landing = lambda: task.end("stopped", "enough")
                call = task.call("refund", ORDER, arguments={"n": 1})
                with anyio.CancelScope(shield=True):
                    if in_thread:
                        with pytest.raises(TaskEndedError):
                            await anyio.to_thread.run_sync(blocking, call)
                    else:
                        await enter_in_vain(call)
                assert ([], {}) == (scene.left(task), scene.broker.tokens)
                assert scene.broker.issued == scene.broker.revoking.asked
                await anyio.sleep_forever()
        assert (1, ["task_ended"]) == (len(scene.broker.revoking.asked), scene.world.reasons)

    async def test_while_the_token_broker_hangs(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        """End the task while the token broker hangs, and neither issues nor revokes.

        The end is there at its deadline, nothing is usable here, and the audit has what could not be revoked.
        That token lives until it expires, bound to its key.
        """
        monkeypatch.setattr("spiffe_client.agents._host.REVOKING", 0.05)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                with pytest.raises(TaskEndedError, match="enough"):
                    async with scene.task() as task:
                        async with task.call("read", ORDER) as call:
                            auth, http = call.auth, call.http
                        scene.make_wait("broker")
                        scene.broker.revoking.hangs = True
                        group.start_soon(enter_in_vain, task.call("refund", ORDER, arguments={"n": 1}))
                        await settle()
                        task.end("stopped", "enough")
                        assert {} == scene.broker.tokens
                        await anyio.sleep_forever()
        with pytest.raises(TaskEndedError):
            await http.get("https://x.example/", auth=auth)
        with pytest.raises(TaskEndedError):
            await task.authorities["read"].fetch()
        assert [] == scene.left(task)
        assert ["task_ended"] == scene.world.reasons
        assert ["task_ended"] == [facts["reason"] for facts in scene.world.told("credential.withheld")]
        (ended,) = scene.world.told("task.ended")
        assert 0 == ended["revoked"]
        assert 1 == ended["not_revoked"]
