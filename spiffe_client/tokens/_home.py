"""The event loop that an object lives on, for those who come from other threads and other loops."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar, TypeVarTuple, cast

import anyio
from anyio.abc import TaskGroup

from spiffe_client._door import Door
from spiffe_client.errors import SpiffeError, TokenBrokerClosedError, TokenBrokerUnavailableError, TokenError

__all__ = ["Home"]

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")

#: Seconds beyond its deadline that a blocked thread waits for a loop that does not answer.
_GRACE = 1.0


class _Carried(Generic[_T]):
    """One call from elsewhere, which its caller can give up even before it has begun."""

    def __init__(
        self, function: Callable[..., Coroutine[Any, Any, _T]], args: tuple[object, ...], closed: SpiffeError
    ) -> None:
        self._function = function
        self._args = args
        self._closed = closed
        self._scope: anyio.CancelScope | None = None
        self._abandoned = False
        self.future: Future[_T] = Future()

    async def run(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                if not self._abandoned:
                    self.future.set_result(await self._function(*self._args))
        except Exception as error:  # noqa: BLE001 - the border to another thread: whatever it is, it arrives there
            self.future.set_exception(error)
        finally:
            if not self.future.done():
                self.future.set_exception(self._closed)

    def abandon(self) -> None:
        self._abandoned = True
        if self._scope is not None:
            self._scope.cancel()


class Home:
    """The running event loop, and a task group of ours on it.

    Args:
        owner: What its user knows the object as, for messages.

    Attributes:
        pid: Of the process it runs in. A forked child has the object and not the loop.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._door = Door()
        self.pid = os.getpid()
        self._tasks: TaskGroup | None = None
        self._early: list[tuple[Callable[..., Coroutine[Any, Any, object]], tuple[Any, ...]]] = []
        self._ended = False

    async def run(self, body: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run `body` and all that is spawned, until cancelled."""
        try:
            async with anyio.create_task_group() as self._tasks:
                for function, args in self._early:
                    self._tasks.start_soon(function, *args)
                await body()
        finally:
            self._ended = True

    @property
    def here(self) -> bool:
        """Whether this code runs on that loop."""
        return self._door.here

    @property
    def forked(self) -> bool:
        """Whether this process is a child of the loop's."""
        return self.pid != os.getpid()

    def spawn(self, function: Callable[[*_Args], Coroutine[Any, Any, object]], *args: *_Args) -> None:
        """Start a task that belongs to nobody else; on this loop only.

        Raises:
            TokenBrokerClosedError: The task group has ended.
        """
        if self._ended:
            raise self.closed()
        if self._tasks is None:
            self._early.append((cast("Callable[..., Coroutine[Any, Any, object]]", function), args))
        else:
            self._tasks.start_soon(function, *args)

    def call(self, function: Callable[[], object]) -> None:
        """Run a function on the loop: at once if this is it, else soon; nothing if the loop has ended."""
        if self.here:
            function()
        else:
            self.soon(function)

    def soon(self, function: Callable[[], object]) -> None:
        """As `call`, and never at once: a signal handler interrupts the loop in the middle of anything."""
        if not self.forked:
            with suppress(RuntimeError):
                self._door.soon(function)

    def block(
        self, function: Callable[[*_Args], Coroutine[Any, Any, _T]], *args: *_Args, timeout: float
    ) -> _T:
        """Run a coroutine function on the loop and block this thread until it returns.

        If a signal handler interrupts the thread (Ctrl-C), the call is given up.

        Raises:
            TokenError: This thread is the loop's own.
            TokenBrokerUnavailableError: The loop did not answer in time.
            TokenBrokerClosedError: The loop has ended, or is a parent process's.
        """
        if self.here:
            raise TokenError(
                f"{self._owner} lives on the event loop of this thread, which must not be blocked: "
                "await fetch(), or use httpx.AsyncClient here, or spiffe_client.sync"
            )
        call = self._send(function, args)
        try:
            return call.future.result(timeout + _GRACE)
        except BaseException as error:
            if call.future.done():
                raise  # the call's own
            self.call(call.abandon)
            if isinstance(error, TimeoutError):
                raise TokenBrokerUnavailableError(
                    f"the event loop that {self._owner} lives on did not answer within {timeout:g} s"
                ) from None
            raise

    async def carry(self, function: Callable[[*_Args], Coroutine[Any, Any, _T]], *args: *_Args) -> _T:
        """Run a coroutine function on the loop and await it from any loop.

        Raises:
            TokenBrokerClosedError: The loop has ended, or is a parent process's.
        """
        if self.here:
            return await function(*args)
        call = self._send(function, args)
        done = anyio.Event()
        caller = Door()

        def tell(_: object) -> None:
            with suppress(RuntimeError):  # the caller's loop has ended, and with it who waited
                caller.soon(done.set)

        call.future.add_done_callback(tell)
        try:
            await done.wait()
        finally:
            if not call.future.done():
                self.call(call.abandon)
        return call.future.result()

    def closed(self) -> TokenBrokerClosedError:
        """Make the error for calls that come too late, or from the wrong process."""
        if self.forked:
            return TokenBrokerClosedError(
                f"{self._owner} was opened before this process was forked, and its event loop stayed "
                "with the parent; open a new one in the child"
            )
        return TokenBrokerClosedError(
            f"{self._owner} was closed, or its event loop has ended; open a new one"
        )

    def _send(self, function: Callable[..., Coroutine[Any, Any, _T]], args: tuple[Any, ...]) -> _Carried[_T]:
        if self.forked:
            raise self.closed()
        call = _Carried(function, args, self.closed())

        def start() -> None:
            try:
                self.spawn(call.run)
            except TokenBrokerClosedError as error:
                call.future.set_exception(error)

        try:
            self._door.soon(start)
        except RuntimeError:
            raise self.closed() from None
        return call
