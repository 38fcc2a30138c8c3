"""Our client against our server, over real sockets."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import anyio
import pytest

from spiffe_client._grpc import Call, Server, Status, StatusError, server_stream, unary
from spiffe_client.errors import UnavailableError
from tests.support.grpc_scripts import Connect, Listening

pytestmark = pytest.mark.anyio


class Service:
    """Handlers, and what they have seen."""

    def __init__(self) -> None:
        self.sent = 0
        self.closed = anyio.Event()
        self.push = anyio.Event()

    async def hello(self, call: Call[str]) -> AsyncIterator[bytes]:
        yield b"hello " + call.request

    async def large(self, call: Call[str]) -> AsyncIterator[bytes]:
        for i in range(20):
            yield bytes([i]) * 500_000

    async def endless(self, call: Call[str]) -> AsyncIterator[bytes]:
        try:
            while True:
                self.sent += 1
                yield bytes(100_000)
        finally:
            self.closed.set()

    async def late(self, call: Call[str]) -> AsyncIterator[bytes]:
        yield b"first"
        await self.push.wait()
        yield b"late"

    async def denied(self, call: Call[str]) -> AsyncIterator[bytes]:
        raise StatusError(Status.PERMISSION_DENIED, "no identity issued: 100% nö")
        yield b""


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def serving(service: Service, listening: Listening) -> AbstractAsyncContextManager[Connect]:
    names = ("hello", "large", "endless", "late", "denied")
    server = Server({f"/S/{name.title()}": getattr(service, name) for name in names})
    return listening(lambda stream: server.serve_connection(stream, "peer"))


Serving = AbstractAsyncContextManager[Connect]


async def test_unary(serving: Serving) -> None:
    """One message there, one back."""
    async with serving as connect:
        assert b"hello bob" == await unary(connect, "/S/Hello", b"bob", timeout=5)


async def test_many_callers(serving: Serving) -> None:
    """Each call has a connection of its own."""
    answers: dict[int, bytes] = {}

    async def call(i: int) -> None:
        answers[i] = await unary(connect, "/S/Hello", b"%d" % i, timeout=20)

    async with serving as connect, anyio.create_task_group() as tasks:
        for i in range(50):
            tasks.start_soon(call, i)

    assert {i: b"hello %d" % i for i in range(50)} == answers


async def test_stream_of_large_messages(serving: Serving) -> None:
    """Messages arrive whole and in order, each larger than a window."""
    async with serving as connect, server_stream(connect, "/S/Large", b"") as messages:
        assert [bytes([i]) * 500_000 for i in range(20)] == [m async for m in messages]


@pytest.mark.parametrize(
    ("path", "status", "details"),
    [
        ("/S/Denied", Status.PERMISSION_DENIED, "no identity issued: 100% nö"),
        ("/S/Nothing", Status.UNIMPLEMENTED, "unknown method /S/Nothing"),
    ],
)
async def test_status(serving: Serving, path: str, status: Status, details: str) -> None:
    """A status other than OK is an error with that status and those words."""
    async with serving as connect:
        with pytest.raises(StatusError) as e:
            await unary(connect, path, b"", timeout=5)

        assert (status, details) == (e.value.status, e.value.details)


async def test_slow_consumer(serving: Serving, service: Service) -> None:
    """A consumer that does not read holds the server back: memory stays bounded."""
    async with serving as connect, server_stream(connect, "/S/Endless", b"") as messages:
        await anext(messages)
        before = -1
        while before != service.sent:
            before = service.sent
            await anyio.wait_all_tasks_blocked()

        assert service.sent < 60  # sockets and one window
        for _ in range(100):
            await anext(messages)
        assert service.sent > 99


async def test_closing_in_the_middle(serving: Serving, service: Service) -> None:
    """At once, and the handler is closed; nothing is left open."""
    async with serving as connect:
        with anyio.fail_after(20):
            async with server_stream(connect, "/S/Endless", b"") as messages:
                await anext(messages)
            await service.closed.wait()
    gc.collect()


async def test_server_stops(listening: Listening, service: Service) -> None:
    """A call under way ends as unavailable."""
    server = Server({"/S/Late": service.late})
    scope = anyio.CancelScope()

    async def serve(stream: anyio.abc.ByteStream) -> None:
        with scope:
            await server.serve_connection(stream, "peer")

    async with listening(serve) as connect, server_stream(connect, "/S/Late", b"") as messages:
        assert b"first" == await anext(messages)
        scope.cancel()
        with pytest.raises(UnavailableError) as e:
            await anext(messages)
        assert "broken_off" == e.value.cause_kind


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_given_up_with_asyncio_itself(serving: Serving, service: Service) -> None:
    """`asyncio.wait_for` cancels differently; the stream can be read on."""
    async with serving as connect, server_stream(connect, "/S/Late", b"") as messages:
        assert b"first" == await anext(messages)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(messages), 0.01)
        service.push.set()

        assert b"late" == await anext(messages)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_task_cancelled_with_asyncio_itself(serving: Serving, service: Service) -> None:
    """The handler is closed, the task ends as cancelled."""

    async def read() -> None:
        async with server_stream(connect, "/S/Endless", b"") as messages:
            async for _ in messages:
                pass

    async with serving as connect:
        task = asyncio.create_task(read())
        while not service.sent:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await service.closed.wait()
