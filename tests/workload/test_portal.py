"""The portal gives blocking callers an event loop, and never outlives or outsmarts its owner."""

import gc
import os
import signal
import threading
from concurrent.futures import Future

import anyio
import pytest

from spiffe_client import SourceClosedError
from spiffe_client._portal import Portal, _Call


@pytest.fixture(params=["asyncio", "trio"])
def portal(request):
    portal = Portal(backend=request.param)
    yield portal
    portal.close()


async def double(number: int) -> int:
    await anyio.sleep(0)
    return 2 * number


class TestCall:
    def test_returns_what_the_coroutine_returns(self, portal) -> None:
        """A call blocks until the coroutine has its result."""
        portal.start()

        assert 42 == portal.call(double, 21)

    def test_raises_what_the_coroutine_raises(self, portal) -> None:
        """The caller gets the coroutine's own exception, not a wrapper or a group."""
        portal.start()

        async def fail() -> None:
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            portal.call(fail)

    def test_deadline_cancels_the_coroutine(self, portal) -> None:
        """When the time is up the coroutine has ended before the caller gets the TimeoutError."""
        portal.start()
        ended = []

        async def hang() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(True)

        with pytest.raises(TimeoutError):
            portal.call(hang, timeout=0)
        assert [True] == ended

    def test_interrupted_caller_cancels_the_coroutine(self, portal) -> None:
        """Ctrl-C in a blocking call reaches the caller, and the coroutine does not run on."""
        portal.start()
        cancelled = threading.Event()

        async def hang() -> None:
            try:
                await anyio.sleep(0)
                os.kill(os.getpid(), signal.SIGINT)
                await anyio.sleep_forever()
            finally:
                cancelled.set()

        with pytest.raises(KeyboardInterrupt):
            portal.call(hang)
        assert cancelled.wait(10)

    def test_interrupted_while_handing_over(self, portal, monkeypatch) -> None:
        """Ctrl-C may also come while the loop is taking the coroutine up: it is cancelled, too."""
        portal.start()
        cancelled = threading.Event()
        start = portal._portal.start_task_soon

        def interrupted(run):
            monkeypatch.undo()
            start(run)
            raise KeyboardInterrupt

        async def hang() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.set()

        monkeypatch.setattr(portal._portal, "start_task_soon", interrupted)
        with pytest.raises(KeyboardInterrupt):
            portal.call(hang)
        assert cancelled.wait(10)

    def test_interrupted_while_waiting(self, portal, monkeypatch) -> None:
        """Or while the caller waits for the answer, which is where it is nearly always."""
        portal.start()
        entered, cancelled = threading.Event(), threading.Event()

        def interrupted(future, timeout=None):
            monkeypatch.undo()
            assert entered.wait(10)
            raise KeyboardInterrupt

        async def hang() -> None:
            entered.set()
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.set()

        monkeypatch.setattr(Future, "result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            portal.call(hang)
        assert cancelled.wait(10)

    @pytest.mark.anyio
    async def test_given_up_before_it_began(self, portal, anyio_backend) -> None:
        """An interrupt may come before the loop has taken the coroutine up: then it ends at once."""
        call = _Call(anyio.sleep_forever, (), None)
        call._cancel()  # nothing to cancel yet
        call._abandoned = True
        await call.run()

    def test_before_start_is_refused(self, portal) -> None:
        """A call on a portal without a loop says to open it."""
        with pytest.raises(SourceClosedError, match="open it first"):
            portal.call(double, 1)

    def test_on_its_own_loop_is_refused(self, portal) -> None:
        """Blocking the loop on itself would hang for ever, so it is an error."""
        portal.start()

        async def inside() -> None:
            portal.call(double, 1)

        with pytest.raises(SourceClosedError, match="background loop"):
            portal.call(inside)


class TestLife:
    def test_a_backend_that_is_not_there(self) -> None:
        """A loop that cannot be started is the caller's error, and no thread hangs."""
        portal = Portal(backend="no-such-backend")
        with pytest.raises(LookupError):
            portal.start()
        portal.close()

    def test_start_and_close_are_idempotent(self, portal) -> None:
        """Starting twice gives one thread; closing twice is harmless; no thread is left."""
        before = set(threading.enumerate())  # others' may end meanwhile
        portal.start()
        portal.start()
        assert ["spiffe-client"] == [t.name for t in threading.enumerate() if t not in before]

        portal.close()
        portal.close()
        assert [] == [t.name for t in threading.enumerate() if t not in before]

    def test_closed_is_for_good(self, portal) -> None:
        """A closed portal cannot be started again or called."""
        portal.start()
        portal.close()

        with pytest.raises(SourceClosedError, match="closed"):
            portal.start()
        with pytest.raises(SourceClosedError, match="closed"):
            portal.call(double, 1)

    def test_close_ends_a_running_call(self, portal) -> None:
        """A thread waiting in a call when another one closes is let go with an error."""
        portal.start()
        entered = threading.Event()
        seen = []

        async def hang() -> None:
            entered.set()
            await anyio.sleep_forever()

        def caller() -> None:
            try:
                portal.call(hang)
            except SourceClosedError as error:
                seen.append(str(error))

        thread = threading.Thread(target=caller)
        thread.start()
        assert entered.wait(10)
        portal.close()
        thread.join(10)

        assert ["this was closed while the call was running"] == seen

    def test_unclosed_portal_warns(self) -> None:
        """A portal that is forgotten says so."""
        portal = Portal()
        portal.start()
        thread, inner = portal._thread, portal._portal

        with pytest.warns(ResourceWarning, match="was not closed"):
            del portal
            gc.collect()
        inner.call(inner.stop)
        thread.join(20)

    def test_forked_child_is_refused(self, portal, monkeypatch) -> None:
        """A child process has no thread behind the portal: it is told to open its own."""
        portal.start()
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            with pytest.raises(SourceClosedError, match="forked"):
                portal.call(double, 1)
            with pytest.raises(SourceClosedError, match="forked"):
                portal.start()
            portal.close()  # harmless: the thread belongs to the parent

        assert 2 == portal.call(double, 1)
