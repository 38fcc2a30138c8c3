"""Our client against our server, over a unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from spiffe_client._grpc import Call, Connector, Server, Status, StatusError, server_stream, unary

pytestmark = pytest.mark.anyio


async def hello(call: Call[str]) -> AsyncIterator[bytes]:
    yield b"hello " + call.request


async def many(call: Call[str]) -> AsyncIterator[bytes]:
    for i in range(100):
        yield bytes([i]) * 10_000


async def denied(call: Call[str]) -> AsyncIterator[bytes]:
    raise StatusError(Status.PERMISSION_DENIED, "no identity issued")
    yield b""


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Connector]:
    server = Server({"/S/Hello": hello, "/S/Many": many, "/S/Denied": denied})
    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, lambda stream: server.serve_connection(stream, "peer"))
        yield lambda: anyio.connect_unix(path)
        tasks.cancel_scope.cancel()


async def test_unary(tmp_path: Path) -> None:
    """One message there, one back."""
    async with serving(tmp_path / "s") as connect:
        assert b"hello bob" == await unary(connect, "/S/Hello", b"bob", timeout=5)


async def test_server_stream(tmp_path: Path) -> None:
    """Messages arrive whole and in order, more of them than a window holds."""
    async with serving(tmp_path / "s") as connect, server_stream(connect, "/S/Many", b"") as messages:
        assert [bytes([i]) * 10_000 for i in range(100)] == [m async for m in messages]


@pytest.mark.parametrize(
    ("path", "status"), [("/S/Denied", Status.PERMISSION_DENIED), ("/S/Nothing", Status.UNIMPLEMENTED)]
)
async def test_status(tmp_path: Path, path: str, status: Status) -> None:
    """A status other than OK is an error with that status."""
    async with serving(tmp_path / "s") as connect:
        with pytest.raises(StatusError) as e:
            await unary(connect, path, b"", timeout=5)

        assert status == e.value.status
