"""Attacks on the end: what has ended, or was never let begin, does nothing any more.

Each test is one attack, and ends with the reason code that the audit has for it.
"""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.support.agent_world import AUDITOR, AgentWorld, contract

from spiffe_client.agents import Task
from spiffe_client.errors import DeniedError, TaskEndedError, TaskError

pytestmark = pytest.mark.anyio

READ, INVOICE = "invoices:read", "tenants/acme/invoices/7"


def task_of(world: AgentWorld, **terms: Any) -> Task:
    return world.host.task("close the March books", [READ, "summarize"], **{"tenant": "acme", **terms})


async def denied(task: Task, action: str = READ, resource: str = INVOICE) -> DeniedError:
    with pytest.raises(DeniedError) as caught:
        async with task.call(action, resource):
            raise AssertionError("it was let in")
    return caught.value


async def test_a_task_that_was_not_let_begin() -> None:
    """Make calls in a task that was refused, because the agent has too many already.

    It is no task: its calls are denied.
    """
    async with AgentWorld(contract(limits={"parallel_tasks": 1})).running() as world:
        async with task_of(world):
            extra = task_of(world)
            with pytest.raises(TaskError, match="1 tasks are alive"):
                await extra.__aenter__()
            await denied(extra)
    assert ["task"] == [facts["reason"] for facts in world.told("task.refused")]
    assert ["task_ended"] == world.reasons


async def test_a_child_that_begins_after_its_parent(world: AgentWorld) -> None:
    """Take work that was handed on while the parent lived, and begin it when the parent has ended.

    It does not begin, and calls of it are denied all the same.
    """
    async with task_of(world) as task:
        child = task.delegate(AUDITOR, [READ])
    with pytest.raises(TaskEndedError):
        await child.__aenter__()
    await denied(child)
    assert {} == task.children
    assert ["task_ended"] == [facts["reason"] for facts in world.told("task.refused")]
    assert ["task_ended"] == world.reasons


async def test_a_child_that_begins_while_its_parent_ends(world: AgentWorld) -> None:
    """Begin the child in the very moment in which another thread ends the parent.

    Whatever the order of the two threads is: it is refused, or ended with it.
    """
    real = type(world.host.standing).check
    said: list[BaseException] = []
    with pytest.raises(TaskEndedError, match="now"):
        async with task_of(world) as task:
            child = task.delegate(AUDITOR, [READ])

            def slow(standing: Any) -> None:
                real(standing)
                ending = threading.Thread(target=task.end, args=("stopped", "now"))
                ending.start()
                ending.join()

            world.host.standing.check = slow.__get__(world.host.standing)  # type: ignore[method-assign]
            try:
                await child.__aenter__()
            except TaskEndedError as error:
                said.append(error)
            await anyio.sleep_forever()
    assert 1 == len(said)
    await denied(child)
    assert ["task_ended"] == [facts["reason"] for facts in world.told("task.refused")]
    assert ["task_ended"] == world.reasons


async def test_a_task_that_begins_while_the_agent_is_stopped(world: AgentWorld) -> None:
    """Begin a task between the look at the kill switch and the entry in the list of tasks.

    Another thread stops the agent just there: the task does not begin, and its calls are denied.
    """
    real = type(world.host.standing).check

    def slow(standing: Any) -> None:
        real(standing)
        world.host.stop("now")

    world.host.standing.check = slow.__get__(world.host.standing)  # type: ignore[method-assign]
    task = task_of(world)
    with pytest.raises(TaskError, match="no task begins: now"):
        await task.__aenter__()
    await denied(task)
    assert ["task"] == [facts["reason"] for facts in world.told("task.refused")]
    assert ["task_ended"] == world.reasons
