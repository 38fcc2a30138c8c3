"""Unix sockets whose waits may be cancelled at any moment."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream, UNIXSocketStream

from spiffe_client._grpc._unix import cancel_safe

pytestmark = pytest.mark.anyio

Pair = tuple[ByteStream, socket.socket]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """A safe stream and the bare socket at its other end."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        async with cancel_safe(await anyio.connect_unix(tmp_path / "s")) as stream:
            other, _ = listener.accept()
            with other:
                yield stream, other


async def test_there_and_back(pair: Pair) -> None:
    """Bytes are bytes."""
    stream, other = pair
    await stream.send(b"there")
    other.send(b"back")

    assert (b"there", b"back") == (other.recv(10), await stream.receive())


async def test_receive_waits(pair: Pair) -> None:
    """Until there is something."""
    stream, other = pair
    async with anyio.create_task_group() as tasks:

        async def receive() -> None:
            assert b"late" == await stream.receive()

        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        other.send(b"late")


async def test_send_waits_for_room(pair: Pair) -> None:
    """More than the socket holds is sent as it is read."""
    stream, other = pair
    other.setblocking(False)
    got = bytearray()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.send, b"x" * 2_000_000)
        while len(got) < 2_000_000:
            await anyio.wait_readable(other)
            got += other.recv(65536)

    assert b"x" * 2_000_000 == got


async def test_cancelled_in_the_very_turn_in_which_bytes_come(pair: Pair) -> None:
    """The loop reports nothing (anyio's own stream: `InvalidStateError`), and the bytes are still there."""
    stream, other = pair
    got: list[bytes] = []
    async with anyio.create_task_group() as tasks:

        async def cancel() -> None:
            tasks.cancel_scope.cancel()

        async def receive() -> None:
            got.append(await stream.receive())

        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        # The loop finds the socket readable at the start of the turn in which `cancel` runs.
        other.send(b"x")
        tasks.start_soon(cancel)
    if not got:  # or it was in time
        got.append(await stream.receive())

    assert [b"x"] == got


async def test_cancelled_before(pair: Pair) -> None:
    """Nothing is read on behalf of one who has given up."""
    stream, other = pair
    other.send(b"x")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await stream.receive()
        raise AssertionError

    assert b"x" == await stream.receive()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_cancelled_by_asyncio_itself(pair: Pair) -> None:
    """What was read was given to somebody, or is still there: no byte is lost at any moment."""
    stream, other = pair
    for turns in range(6):
        other.send(b"ab")
        task = asyncio.create_task(stream.receive(1))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        got = await asyncio.gather(task, return_exceptions=True)
        rest = b""
        while len(b"".join(g for g in got if isinstance(g, bytes)) + rest) < 2:
            rest += await stream.receive()


async def test_a_flood_does_not_keep_others_from_running(pair: Pair) -> None:
    """Each read is a checkpoint, also when there is always something to read."""
    stream, other = pair
    ran = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.lowlevel.checkpoint)
        other.send(b"x" * 100)

        async def run() -> None:
            ran.set()

        tasks.start_soon(run)
        for _ in range(100):
            await stream.receive(1)

    assert ran.is_set()


async def test_end(pair: Pair) -> None:
    """The other end closes: end of stream."""
    stream, other = pair
    other.close()

    with pytest.raises(anyio.EndOfStream):
        await stream.receive()
    with pytest.raises(anyio.BrokenResourceError):
        await stream.send(b"x")


async def test_half_close(pair: Pair) -> None:
    """`send_eof` closes one way only."""
    stream, other = pair
    await stream.send_eof()
    assert b"" == other.recv(1)
    other.send(b"still here")

    assert b"still here" == await stream.receive()


@pytest.mark.parametrize("wait", ["receive", "send"])
async def test_closed_while_waiting(pair: Pair, wait: str) -> None:
    """Whoever waits is told at once."""
    stream, _ = pair

    async def waiting() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await (stream.receive() if wait == "receive" else stream.send(bytes(10_000_000)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting)
        await anyio.wait_all_tasks_blocked()
        await stream.aclose()


async def test_used_after_closing(pair: Pair) -> None:
    """Closed is closed, also twice."""
    stream, _ = pair
    await stream.aclose()
    await stream.aclose()

    with pytest.raises(anyio.ClosedResourceError):
        await stream.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await stream.send(b"x")


async def test_only_unix_streams_are_wrapped(pair: Pair) -> None:
    """Others have no such trouble."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        async with await anyio.connect_tcp(
            "127.0.0.1", listener.extra(anyio.abc.SocketAttribute.local_port)
        ) as stream:
            assert cancel_safe(stream) is stream
    assert not isinstance(pair[0], UNIXSocketStream)
