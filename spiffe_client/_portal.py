"""One event loop in one thread, for callers that block."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Generic, TypeVar, TypeVarTuple

from spiffe_client.errors import SourceClosedError

if TYPE_CHECKING:
    from anyio import CancelScope
    from anyio.from_thread import BlockingPortal

__all__ = ["Portal"]

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


class _Call(Generic[_T]):
    """One call, which the calling thread can give up even before the loop has begun it."""

    def __init__(
        self, function: Callable[..., Awaitable[_T]], args: tuple[object, ...], timeout: float | None
    ) -> None:
        self._function = function
        self._args = args
        self._timeout = timeout
        self._scope: CancelScope | None = None
        self._abandoned = False

    async def run(self) -> _T:
        import anyio  # with the loop, not with the module

        with anyio.fail_after(self._timeout) as self._scope:
            if self._abandoned:
                self._scope.cancel()
            return await self._function(*self._args)

    def abandon(self, portal: BlockingPortal) -> None:
        self._abandoned = True
        portal.start_task_soon(self._cancel)

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()


def _run_loop(backend: str, started: Future[BlockingPortal]) -> None:
    import anyio
    from anyio.from_thread import BlockingPortal

    async def main() -> None:
        async with BlockingPortal() as portal:
            started.set_result(portal)
            await portal.sleep_until_stopped()

    try:
        anyio.run(main, backend=backend)
    except Exception as error:  # noqa: BLE001 - no such backend: whoever waits for the start has to hear it
        started.set_exception(error)


class Portal:
    """Runs coroutines for blocking code on an event loop of its own.

    Made without a thread; `start` starts it, `close` ends it, both as often as you like, from any
    thread but the portal's own. Once closed it stays closed. A forked child has the object and not
    the thread, so there every call is refused.

    Args:
        backend: `asyncio` or `trio`.
        owner: What its user knows it as, for messages.
    """

    def __init__(self, *, backend: str = "asyncio", owner: str = "this") -> None:
        self._backend = backend
        self._owner = owner
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._portal: BlockingPortal | None = None
        self._closed = False
        # Of the process that started it: one made before a fork may be started in each child.
        self._pid: int | None = None

    def start(self) -> None:
        """Start the thread if it is not running yet.

        Raises:
            SourceClosedError: The portal was closed, or this process was forked from its owner's.
        """
        self._refuse_fork()
        with self._lock:
            if self._closed:
                raise SourceClosedError(f"{self._owner} was closed; open a new one")
            if self._portal is None:
                self._pid = os.getpid()
                started: Future[BlockingPortal] = Future()
                # A daemon, so that a script that forgets to close still ends. Not anyio's
                # start_blocking_portal: an interpreter that shuts down would wait for ever in it.
                self._thread = threading.Thread(
                    target=_run_loop, args=(self._backend, started), name="spiffe-client", daemon=True
                )
                self._thread.start()
                self._portal = started.result()

    @property
    def running(self) -> bool:
        """Whether calls are possible: started, not closed, and not in a forked child."""
        return self._portal is not None and not self._forked

    @property
    def _forked(self) -> bool:
        return self._pid is not None and self._pid != os.getpid()

    def call(
        self,
        function: Callable[[*_Args], Awaitable[_T]],
        *args: *_Args,
        timeout: float | None = None,
    ) -> _T:
        """Run a coroutine function on the loop and return what it returns.

        If a signal handler interrupts the caller (Ctrl-C), the coroutine is cancelled.

        Args:
            function: Called on the loop with `args`.
            args: Its positional arguments.
            timeout: Seconds to wait, or None for ever.

        Raises:
            TimeoutError: `timeout` passed; the coroutine was cancelled and has ended.
            SourceClosedError: The portal is not running, was closed meanwhile, or belongs to the
                process this one was forked from.
        """
        self._refuse_fork()
        portal = self._portal
        if portal is None:
            raise SourceClosedError(
                f"{self._owner} is not open: open it first (`with`), or a new one if it was closed"
            )

        call = _Call(function, args, timeout)
        try:
            future = portal.start_task_soon(call.run)
        except RuntimeError as error:  # closed between the two lines, or called on its own loop
            raise SourceClosedError(f"cannot call into the background loop: {error}") from error
        except BaseException:  # a signal handler's, Ctrl-C for one
            call.abandon(portal)
            raise
        try:
            return future.result()
        except CancelledError:
            raise SourceClosedError(f"{self._owner} was closed while the call was running") from None
        except BaseException:
            if not future.done():  # it is not the coroutine's own, but a signal handler's
                call.abandon(portal)
            raise

    def close(self) -> None:
        """Cancel what still runs, stop the loop, and wait for the thread to end."""
        if self._forked:
            return  # the thread is the parent's
        with self._lock:
            self._closed = True
            thread, portal = self._thread, self._portal
            self._thread = self._portal = None
        if thread is not None and portal is not None:
            portal.call(portal.stop, True)
            thread.join()

    def _refuse_fork(self) -> None:
        if self._forked:
            raise SourceClosedError(
                f"{self._owner} was opened before the process was forked and its background thread stayed "
                "with the parent; open a new one in the child"
            )

    def __del__(self) -> None:
        if self.running:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
