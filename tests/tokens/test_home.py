"""The event loop that the tokens live on, and how others reach it."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable

import anyio
import pytest
from tests.support.manual_clock import settle

from spiffe_client._service import Service
from spiffe_client.errors import TokenBrokerClosedError, TokenBrokerUnavailableError, TokenError
from spiffe_client.tokens._home import Home

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(anyio_backend: str) -> AsyncIterator[Home]:
    home = Home("this test")

    async def body() -> None:
        await home.run(anyio.sleep_forever)

    service = Service(body, name="home", crashed=lambda error: None)
    yield home
    await service.stop()


async def in_thread(call: Callable[[], object]) -> object:
    """Run in a thread that knows nothing of the loop, and return its result or its error."""
    out: list[object] = []

    def work() -> None:
        try:
            out.append(call())
        except Exception as error:  # handed to the test
            out.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        await anyio.sleep(0.002)
    return out[0]


async def where() -> int:
    return threading.get_ident()


async def test_blocking_from_a_thread(home: Home) -> None:
    """The coroutine runs on the loop, the thread gets its result."""
    assert threading.get_ident() == await in_thread(lambda: home.block(where, timeout=5))


async def test_errors_arrive_where_the_call_came_from(home: Home) -> None:
    """As they were raised."""

    async def fail() -> None:
        raise TokenError("no")

    assert "no" == str(await in_thread(lambda: home.block(fail, timeout=5)))


async def test_the_loops_own_thread_must_not_be_blocked(home: Home) -> None:
    """It would wait for itself: the error says what to do."""
    with pytest.raises(TokenError, match="await fetch"):
        home.block(where, timeout=5)


async def test_a_loop_that_does_not_answer(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocked thread has a deadline, too; the call is given up."""
    monkeypatch.setattr("spiffe_client.tokens._home._GRACE", 0.0)
    cancelled = []

    async def hang() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    assert isinstance(await in_thread(lambda: home.block(hang, timeout=1)), TokenBrokerUnavailableError)
    await settle()
    assert [True] == cancelled


async def test_an_interrupted_thread_gives_its_call_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it blocks: the coroutine is cancelled, the interrupt goes on."""
    began, cancelled = threading.Event(), anyio.Event()

    async def hang() -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    def interrupted(self: object, timeout: float) -> None:
        began.wait(5)
        raise InterruptedError("as if by a signal handler")

    monkeypatch.setattr("spiffe_client.tokens._home.Future.result", interrupted)
    assert isinstance(await in_thread(lambda: home.block(hang, timeout=5)), InterruptedError)
    with anyio.fail_after(20):
        await cancelled.wait()


async def test_given_up_before_it_began(home: Home) -> None:
    """Nothing happens then."""
    began = []

    async def begin() -> None:
        began.append(True)

    call = home._send(begin, ())
    call.abandon()
    await settle()
    assert (TokenBrokerClosedError, []) == (type(call.future.exception()), began)


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_another_event_loop(home: Home, other: str) -> None:
    """Of either kind, in another thread: carried over and back."""
    assert threading.get_ident() == await in_thread(lambda: anyio.run(home.carry, where, backend=other))


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_a_cancelled_caller_on_another_loop(home: Home, other: str) -> None:
    """Its call ends with it."""
    begun, ended = threading.Event(), anyio.Event()

    async def hang() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async def give_up() -> str:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(home.carry, hang)
            await anyio.to_thread.run_sync(begun.wait, 5)
            tasks.cancel_scope.cancel()
        return "gave up"

    assert "gave up" == await in_thread(lambda: anyio.run(give_up, backend=other))
    with anyio.fail_after(20):
        await ended.wait()


async def test_at_home_nothing_is_carried(home: Home) -> None:
    """A plain await, and a plain call."""
    called = []
    assert home.here and threading.get_ident() == await home.carry(where)
    home.call(lambda: called.append(threading.get_ident()))
    assert [threading.get_ident()] == called


async def test_called_from_a_thread(home: Home) -> None:
    """On the loop, soon."""
    called = []
    await in_thread(lambda: home.call(lambda: called.append(threading.get_ident())))
    await settle()
    assert [threading.get_ident()] == called
    assert False is await in_thread(lambda: home.here)


async def test_spawned_before_it_runs(anyio_backend: str) -> None:
    """Waits for the task group."""
    home, ran = Home("this test"), anyio.Event()

    async def task() -> None:
        ran.set()

    home.spawn(task)
    service = Service(lambda: home.run(anyio.sleep_forever), name="home", crashed=lambda error: None)
    with anyio.fail_after(20):
        await ran.wait()
    await service.stop()


async def test_after_its_end(anyio_backend: str) -> None:
    """Nothing starts any more; who waits from elsewhere hears it."""
    home = Home("this test")
    service = Service(lambda: home.run(anyio.sleep_forever), name="home", crashed=lambda error: None)
    await settle()
    calls: list[object] = []
    async with anyio.create_task_group() as tasks:

        async def call() -> None:
            calls.append(await in_thread(lambda: home.block(anyio.sleep_forever, timeout=30)))

        tasks.start_soon(call)
        await anyio.sleep(0.02)
        await service.stop()
    calls.append(await in_thread(lambda: home.block(where, timeout=5)))
    assert [TokenBrokerClosedError] * 2 == [type(error) for error in calls]
    with pytest.raises(TokenBrokerClosedError):
        home.spawn(where)


def test_after_the_end_of_its_loop() -> None:
    """The same, and calls that want nothing back are nobody's."""
    homes: list[Home] = []

    async def main() -> None:
        homes.append(Home("this test"))

    for backend in ("asyncio", "trio"):
        anyio.run(main, backend=backend)
        with pytest.raises(TokenBrokerClosedError, match="this test was closed"):
            homes[-1].block(where, timeout=5)
        homes[-1].call(lambda: pytest.fail("called"))
        assert not homes[-1].here


async def test_a_forked_child_has_no_loop(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is there, the loop is the parent's."""
    monkeypatch.setattr(os, "getpid", lambda: home.pid + 1)
    error = await in_thread(lambda: home.block(where, timeout=5))
    assert isinstance(error, TokenBrokerClosedError) and "forked" in str(error)
    await in_thread(lambda: home.call(lambda: pytest.fail("called")))
