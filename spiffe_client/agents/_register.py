"""The list of tasks that are alive: who is on it is found by whoever ends tasks, from whatever thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spiffe_client.agents._records import record_granted
from spiffe_client.errors import TaskError

if TYPE_CHECKING:
    from spiffe_client.agents._host import AgentHost
    from spiffe_client.agents._task import Task

__all__ = ["enrol", "strike"]


def enrol(host: AgentHost, task: Task) -> None:
    """Put a task on the list, and see then whether it may be there.

    In this order, for whoever ends all tasks, or its parent, does so in the other: they say that it has
    ended first, and then look who is on the list. So none begins unseen in between. One that may not be
    there has to be taken off.

    Raises:
        TaskError: The host was stopped, or there are too many.
        TaskEndedError: Its parent has ended.
    """
    host.tasks[task.id] = task
    if task.parent is not None:
        task.parent.children[task.id] = task
    _check(host, task)
    if task.parent is not None:
        record_granted(task.parent, task.terms, task.id)


def _check(host: AgentHost, task: Task) -> None:
    if len(host.tasks) > host.contract.limits.parallel_tasks:
        alive = len(host.tasks) - 1
        raise TaskError(f"{alive} tasks are alive, which is all that the contract permits")
    if task.parent is not None:
        task.parent.refuse(host.clock.monotonic())
    if host.stopped is not None:
        raise TaskError(f"no task begins: {host.stopped}")


def strike(host: AgentHost, task: Task) -> None:
    """Take a task off the list."""
    host.tasks.pop(task.id, None)
    if task.parent is not None:
        task.parent.children.pop(task.id, None)
