"""Whatever a client sends, the server answers, hangs up, or waits: it never fails."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.abc import ByteStream
from hypothesis import given, settings as hypothesis_settings
from hypothesis import strategies as st

from spiffe_client._grpc import Call, Limits, Server
from tests.support.grpc_scripts import (
    PREFACE,
    data,
    frame,
    message,
    ping,
    request,
    reset,
    settings,
    window_update,
)


class Tape(ByteStream):
    """Says its lines and hangs up; takes anything."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = list(lines)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.wait_all_tasks_blocked() if len(self.lines) % 2 else await anyio.lowlevel.checkpoint()
        if not self.lines:
            raise anyio.EndOfStream
        return self.lines.pop(0)

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()


def serve(backend: str, *lines: bytes) -> None:
    crashes: list[Exception] = []

    async def echo(call: Call[None]) -> AsyncIterator[bytes]:
        yield call.request
        yield call.request

    async def forever(call: Call[None]) -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000

    async def run() -> None:
        server = Server(
            {"/S/Echo": echo, "/S/Forever": forever},
            limits=Limits(message=1000, headers=2000, streams=5),
            crashed=lambda call, error: crashes.append(error),
        )
        with anyio.fail_after(20):
            await server.serve_connection(Tape([line for line in lines if line]), None)

    anyio.run(run, backend=backend)
    assert [] == crashes


stream_ids = st.sampled_from([0, 1, 2, 3, 5, 7])
any_frame = st.builds(
    lambda kind, payload, flags, i: frame(kind, payload, flags=flags, stream_id=i),
    st.integers(0, 12),
    st.binary(max_size=40),
    st.integers(0, 255),
    stream_ids,
)
good_frame = st.one_of(
    st.builds(
        lambda path, body, i, end: request(path, body, stream_id=i, end=end),
        st.sampled_from(["/S/Echo", "/S/Forever", "/S/Nope"]),
        st.sampled_from([None, b"", b"hello", b"x" * 1001]),
        stream_ids.filter(bool),
        st.booleans(),
    ),
    st.builds(
        lambda i, end: data(message(b"more"), end=end, stream_id=i), stream_ids.filter(bool), st.booleans()
    ),
    st.builds(lambda code, i: reset(code, stream_id=i), st.sampled_from([0, 7, 8]), stream_ids.filter(bool)),
    st.builds(
        lambda more, i: window_update(more, stream_id=i), st.sampled_from([1, 1000, 2**31 - 1]), stream_ids
    ),
    st.builds(lambda window: settings([(4, window)]), st.sampled_from([0, 10, 65535, 2**31 - 1])),
    st.just(ping()),
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
class TestAnyBytes:
    @given(lines=st.lists(st.binary(max_size=100), max_size=5))
    @hypothesis_settings(max_examples=50, deadline=None)
    def test_rubbish(self, backend: str, lines: list[bytes]) -> None:
        """Bytes."""
        serve(backend, *lines)

    @given(lines=st.lists(any_frame, max_size=10))
    @hypothesis_settings(max_examples=100, deadline=None)
    def test_frames_of_any_kind(self, backend: str, lines: list[bytes]) -> None:
        """Well-formed frames in senseless order."""
        serve(backend, PREFACE + settings(), *lines)

    @given(lines=st.lists(good_frame, max_size=12), joined=st.booleans())
    @hypothesis_settings(max_examples=150, deadline=None)
    def test_calls_in_any_state(self, backend: str, lines: list[bytes], joined: bool) -> None:
        """Frames that make sense, each at any moment in the life of a call, in one packet or many."""
        serve(backend, PREFACE + settings(), *([b"".join(lines)] if joined else lines))

    @given(at=st.integers(0, 10**6), value=st.integers(0, 255))
    @hypothesis_settings(max_examples=100, deadline=None)
    def test_damaged_calls(self, backend: str, at: int, value: int) -> None:
        """A good conversation with a byte changed."""
        said = bytearray(
            PREFACE
            + settings()
            + request("/S/Echo", b"hello")
            + ping()
            + request("/S/Forever", b"", stream_id=3)
        )
        said[at % len(said)] = value
        serve(backend, bytes(said), window_update(100_000))
