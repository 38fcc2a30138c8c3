"""Against gRPC's own implementation: our client and its server, its client and our server."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from spiffe_client._grpc import Call, Limits, Server, Status, StatusError, _wire, server_stream, unary
from spiffe_client.errors import ProtocolError, UnavailableError
from tests.support.grpc_scripts import Connect

pytestmark = pytest.mark.anyio

BIG = bytes(range(256)) * 12_000  # 3 MB: many windows
PEER = Path(__file__).parents[1] / "support" / "grpcio_peer.py"


class Lines:
    """A process that answers in lines of JSON."""

    def __init__(self, process: Process) -> None:
        self.process = process
        assert process.stdout is not None
        self.answers = BufferedByteReceiveStream(process.stdout)

    async def read(self) -> Any:
        with anyio.fail_after(20):
            return json.loads(await self.answers.receive_until(b"\n", 10**6))

    async def ask(self, command: str) -> Any:
        assert self.process.stdin is not None
        await self.process.stdin.send(command.encode() + b"\n")
        return await self.read()


@asynccontextmanager
async def peer(*args: str) -> AsyncIterator[Lines]:
    async with await anyio.open_process(
        [sys.executable, str(PEER), *args], stdin=PIPE, stdout=PIPE, stderr=None
    ) as process:
        yield Lines(process)
        assert process.stdin is not None
        await process.stdin.aclose()
        await process.wait()


@asynccontextmanager
async def grpcio_server(path: Path, **options: int) -> AsyncIterator[tuple[Connect, Lines]]:
    named = [(f"grpc.{name}", value) for name, value in options.items()]
    async with peer("serve", str(path), json.dumps(named)) as server:
        assert "ready" == await server.read()
        yield lambda: anyio.connect_unix(path), server


class TestOurClient:
    async def test_unary(self, tmp_path: Path) -> None:
        """Metadata and messages arrive."""
        async with grpcio_server(tmp_path / "s") as (connect, server):
            metadata = [("workload.spiffe.io", "true")]
            for i in range(20):
                assert b"hi %d" % i == await unary(
                    connect, "/S/Echo", b"hi %d" % i, metadata=metadata, timeout=10
                )

            seen = await server.ask("metadata")
        assert ("true", "grpc-python-spiffe-client") == (seen["workload.spiffe.io"], seen["user-agent"])

    async def test_large(self, tmp_path: Path) -> None:
        """Larger than all windows, both ways."""
        async with grpcio_server(tmp_path / "s") as (connect, _):
            assert BIG == await unary(connect, "/S/Echo", BIG, timeout=30)

    async def test_too_large(self, tmp_path: Path) -> None:
        """Our limit on what comes."""
        async with grpcio_server(tmp_path / "s") as (connect, _):
            with pytest.raises(ProtocolError, match="over the limit of 1000"):
                await unary(connect, "/S/Echo", bytes(1001), timeout=10, limits=Limits(message=1000))

    async def test_too_large_for_the_server(self, tmp_path: Path) -> None:
        """It answers before it has read all, and resets."""
        async with grpcio_server(tmp_path / "s", max_receive_message_length=1000) as (connect, _):
            with pytest.raises(StatusError, match="RESOURCE_EXHAUSTED"):
                await unary(connect, "/S/Echo", BIG, timeout=10)

    async def test_status(self, tmp_path: Path) -> None:
        """Code and words."""
        async with grpcio_server(tmp_path / "s") as (connect, _):
            with pytest.raises(StatusError) as e:
                await unary(connect, "/S/Denied", b"", timeout=10)

        assert (Status.PERMISSION_DENIED, "no identity issued: 100% nö ") == (e.value.status, e.value.details)

    async def test_unknown_method(self, tmp_path: Path) -> None:
        """Trailers only."""
        async with grpcio_server(tmp_path / "s") as (connect, _):
            with pytest.raises(StatusError, match="UNIMPLEMENTED"):
                await unary(connect, "/S/Nope", b"", timeout=10)

    async def test_stream(self, tmp_path: Path) -> None:
        """Messages of all sizes, whole and in order."""
        async with grpcio_server(tmp_path / "s") as (connect, _):
            async with server_stream(connect, "/S/Many", b"", timeout_first=10) as stream:
                assert [bytes([i]) * (i * 100) for i in range(200)] + [BIG] == [m async for m in stream]

    async def test_deadline(self, tmp_path: Path) -> None:
        """Ours, and the server's handler learns of it."""
        async with grpcio_server(tmp_path / "s") as (connect, server):
            # Both have a clock and either may be first.
            with pytest.raises((UnavailableError, StatusError)):
                await unary(connect, "/S/Slow", b"", timeout=2)  # and the call has to arrive before
            assert await server.ask("cancelled")

    async def test_cancelling(self, tmp_path: Path) -> None:
        """The server's handler learns of it at once."""
        async with grpcio_server(tmp_path / "s") as (connect, server):
            async with server_stream(connect, "/S/Late", b"") as stream:
                assert b"first" == await anext(stream)
            assert await server.ask("cancelled")

    async def test_server_shuts_down(self, tmp_path: Path) -> None:
        """A graceful stop sends GOAWAY; the long-lived call is given up."""
        async with grpcio_server(tmp_path / "s") as (connect, server):
            async with server_stream(connect, "/S/Late", b"") as stream:
                assert b"first" == await anext(stream)
                await server.ask("stop")
                with pytest.raises(UnavailableError, match="going away"):
                    await anext(stream)

    async def test_keepalive_is_no_abuse(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A silence that is long compared with what the server allows between PINGs ("too_many_pings")."""
        monkeypatch.setattr(_wire, "PING_SPACING", 0.4)  # much more, as one may be held up on the way
        options = {"http2.min_ping_interval_without_data_ms": 100, "http2.max_ping_strikes": 1}
        async with grpcio_server(tmp_path / "s", **options) as (connect, server):
            async with server_stream(connect, "/S/Late", b"", keepalive=0.05) as stream:
                assert b"first" == await anext(stream)
                await server.ask("push later")
                assert b"late" == await anext(stream)

    async def test_keepalive_without_spacing_would_be(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the spacing is for."""
        monkeypatch.setattr(_wire, "PING_SPACING", 0.01)
        options = {"http2.min_ping_interval_without_data_ms": 60_000, "http2.max_ping_strikes": 1}
        async with grpcio_server(tmp_path / "s", **options) as (connect, _):
            async with server_stream(connect, "/S/Late", b"", keepalive=0.01) as stream:
                assert b"first" == await anext(stream)
                with pytest.raises(UnavailableError, match="ENHANCE_YOUR_CALM: too_many_pings"):
                    await anext(stream)


async def echo(call: Call[str]) -> AsyncIterator[bytes]:
    yield call.request


async def headers_seen(call: Call[str]) -> AsyncIterator[bytes]:
    yield repr(sorted(call.metadata.items())).encode()


async def many(call: Call[str]) -> AsyncIterator[bytes]:
    for i in range(2000):
        yield bytes([i % 256]) * (i % 1000)
    yield BIG


async def denied(call: Call[str]) -> AsyncIterator[bytes]:
    raise StatusError(Status.PERMISSION_DENIED, "no identity issued: 100% nö\n")
    yield b""


async def forever(call: Call[str]) -> AsyncIterator[bytes]:
    yield b"first"
    await anyio.sleep_forever()


HANDLERS = {
    "/S/Echo": echo,
    "/S/Headers": headers_seen,
    "/S/Many": many,
    "/S/Denied": denied,
    "/S/Forever": forever,
}


@asynccontextmanager
async def our_server(path: Path) -> AsyncIterator[None]:
    server = Server(HANDLERS)
    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, lambda stream: server.serve_connection(stream, "peer"))
        yield
        tasks.cancel_scope.cancel()


@pytest.fixture
def came_of(tmp_path: Path) -> Callable[[str], Awaitable[Any]]:
    """Runs a scenario of grpcio's client against our server."""

    async def run(scenario: str) -> Any:
        async with our_server(tmp_path / "s"), peer("call", str(tmp_path / "s"), scenario) as client:
            return await client.read()

    return run


def digest(*messages: bytes) -> list[Any]:
    return [len(messages), hashlib.sha256(b"|".join(messages)).hexdigest()]


CameOf = Callable[[str], Awaitable[Any]]


class TestOurServer:
    async def test_unary(self, came_of: CameOf) -> None:
        """One after the other on one connection."""
        assert digest(*(b"%d" % i for i in range(300))) == await came_of("unary")

    async def test_at_once(self, came_of: CameOf) -> None:
        """Many calls at once on one connection, more than we take at once."""
        assert digest(*(b"%d" % i for i in range(500))) == await came_of("at once")

    async def test_large(self, came_of: CameOf) -> None:
        """Larger than all windows, both ways."""
        assert digest(BIG) == await came_of("large")

    async def test_stream(self, came_of: CameOf) -> None:
        """Thousands of messages; its PINGs that measure the bandwidth are no flood."""
        assert digest(*(bytes([i % 256]) * (i % 1000) for i in range(2000)), BIG) == await came_of("stream")

    async def test_status(self, came_of: CameOf) -> None:
        """Code and words."""
        assert ["PERMISSION_DENIED", "no identity issued: 100% nö\n"] == await came_of("status")

    async def test_unknown_method(self, came_of: CameOf) -> None:
        """Answered before the request has been read."""
        assert ["UNIMPLEMENTED", "unknown method /S/Nope"] == await came_of("unknown method")

    async def test_too_large(self, came_of: CameOf) -> None:
        """Refused before it is read."""
        assert "RESOURCE_EXHAUSTED" == (await came_of("too large"))[0]

    async def test_metadata(self, came_of: CameOf) -> None:
        """As the handler sees it."""
        seen = await came_of("metadata")

        assert "('workload.spiffe.io', 'true')" in seen
        assert "('x-bin', 'AAE" in seen

    async def test_deadline(self, came_of: CameOf) -> None:
        """It ends the call on both sides."""
        assert ["first", "DEADLINE_EXCEEDED"] == (await came_of("deadline"))[:2]

    async def test_cancelling(self, came_of: CameOf) -> None:
        """Many calls, each cancelled, on one connection."""
        assert "alive" == await came_of("cancelling")

    async def test_server_stops(self, tmp_path: Path) -> None:
        """Calls under way end as unavailable."""
        async with our_server(tmp_path / "s"):
            context = peer("call", str(tmp_path / "s"), "waiting")
            client = await context.__aenter__()
            assert "first" == await client.read()
        assert "UNAVAILABLE" == (await client.read())[0]
        await context.__aexit__(None, None, None)
