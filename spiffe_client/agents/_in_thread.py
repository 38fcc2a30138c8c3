"""A task for code that blocks: it lives on the host's event loop, while a thread works for it."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, cast

import anyio

from spiffe_client._service import Service
from spiffe_client.agents._context import TASK
from spiffe_client.errors import TaskEndedError, TaskError

if TYPE_CHECKING:
    from spiffe_client.agents._task import Task
    from spiffe_client.agents._ticket import Ticket
    from spiffe_client.ids import SpiffeId

__all__ = ["QUIET", "InThread"]

#: Ends of a task that whoever works for it knows of.
QUIET: Final = frozenset({"finished", "failed", "cancelled"})


class _Stay:
    """A task's time on the event loop: from when a thread begins to work for it until that has left.

    Args:
        task: Which.
        outside: The thread's task before.
    """

    def __init__(self, task: Task, outside: Task | None) -> None:
        self.task = task
        self.outside = outside
        #: Done when the task has ended, with why where its thread has to hear it.
        self.gone: Future[None] = Future()
        self._left = False
        self._begun: anyio.Event
        self._over: anyio.Event
        self._service: Service | None = None

    async def begin(self) -> None:
        """Begin the task; on the event loop."""
        self._begun, self._over = anyio.Event(), anyio.Event()
        name = f"spiffe-client task {self.task.id[:8]}"
        self._service = Service(self._live, name=name, crashed=self.gone.set_exception)
        await self._begun.wait()
        if self.gone.done():
            self.gone.result()

    def leave(self) -> None:
        """Let the task end; from any thread, and also before it has begun."""
        self._left = True
        if self._service is not None:
            self._service.soon(self._over.set)

    async def _live(self) -> None:
        try:
            async with self.task:
                self._begun.set()
                if not self._left:
                    await self._over.wait()
        except anyio.get_cancelled_exc_class():  # the event loop ends
            self.gone.set_exception(self.task.ending())
            raise
        else:
            self.gone.set_result(None)
        finally:
            self._begun.set()


class InThread:
    """`with task:` in a thread, for what `async with task:` does on the event loop.

    All in it that waits is done on the host's event loop. When the task ends early, guarded calls are
    refused from then on, and who leaves it hears of it; a thread cannot be cancelled.
    """

    _stay: _Stay | None = None

    def __enter__(self) -> Self:
        task = cast("Task", self)
        if self._stay is not None:
            raise TaskError("this task was begun before; make a new one")
        self._stay = stay = _Stay(task, TASK.get())
        try:
            task.host.loop.wait_for(stay.begin)
        except BaseException:  # a signal handler's, too
            stay.leave()
            raise
        TASK.set(task)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stay = self._stay
        assert stay is not None
        TASK.set(stay.outside)
        if kind is not None:
            stay.task.end("failed" if issubclass(kind, Exception) else "cancelled")
        stay.leave()
        try:
            with suppress(RuntimeError):  # the loop has ended, and the task with it
                stay.task.host.loop.refuse_blocked()
        except TaskError:
            stay.task.end("finished")  # its authority ends now, the rest when the loop comes to it
            if error is None:
                raise
            return
        try:
            stay.gone.result()
        except TaskEndedError:
            if error is None:
                raise

    def ticket_blocking(
        self,
        agent: SpiffeId | str,
        actions: Collection[str],
        *,
        calls: int,
        purpose: str = "",
        resources: Collection[str] | None = None,
        ttl: float | None = None,
        redeem_within: float = 30.0,
    ) -> Ticket:
        """As `Task.ticket`, from a thread that is not the host's event loop."""
        task = cast("Task", self)
        issue = partial(
            task.ticket,
            purpose=purpose,
            resources=resources,
            ttl=ttl,
            redeem_within=redeem_within,
            calls=calls,
        )
        return task.host.loop.wait_for(issue, agent, actions)
