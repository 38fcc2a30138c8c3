"""HTTP/2 frames written by hand, for peers that do what no real peer does."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import ByteStream
from hpack import Encoder
from hyperframe.frame import Frame

from spiffe_client._grpc._unix import cancel_safe

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8

OK_HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
OK_TRAILERS = [("grpc-status", "0")]

Peer = Callable[[ByteStream], Awaitable[None]]
Connect = Callable[[], Awaitable[ByteStream]]
Listening = Callable[[Peer], AbstractAsyncContextManager[Connect]]


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream_id: int = 1) -> bytes:
    """Any frame at all."""
    return struct.pack(">L", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">L", stream_id) + payload


def settings(values: Iterable[tuple[int, int]] = (), *, ack: bool = False) -> bytes:
    """SETTINGS, or its acknowledgement."""
    payload = b"".join(struct.pack(">HL", code, value) for code, value in values)
    return frame(SETTINGS, payload, flags=ACK if ack else 0, stream_id=0)


def headers(
    fields: Sequence[tuple[str, str]],
    *,
    end: bool = False,
    stream_id: int = 1,
    pieces: int = 1,
    encoder: Encoder | None = None,
) -> bytes:
    """One header block, in as many frames as asked for."""
    block = (encoder or Encoder()).encode(fields)
    size = -(-len(block) // pieces)
    chunks = [block[i : i + size] for i in range(0, len(block), size)]
    out = b""
    for i, chunk in enumerate(chunks):
        flags = (END_STREAM if end and i == 0 else 0) | (END_HEADERS if i == len(chunks) - 1 else 0)
        out += frame(HEADERS if i == 0 else CONTINUATION, chunk, flags=flags, stream_id=stream_id)
    return out


def message(payload: bytes, *, flag: int = 0) -> bytes:
    """A gRPC message with its prefix."""
    return struct.pack(">BL", flag, len(payload)) + payload


def data(payload: bytes, *, end: bool = False, stream_id: int = 1) -> bytes:
    """DATA frames of the usual size."""
    chunks = [payload[i : i + 16384] for i in range(0, len(payload), 16384)] or [b""]
    return b"".join(
        frame(DATA, chunk, flags=END_STREAM if end and i == len(chunks) - 1 else 0, stream_id=stream_id)
        for i, chunk in enumerate(chunks)
    )


def reset(code: int, *, stream_id: int = 1) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, struct.pack(">L", code), stream_id=stream_id)


def go_away(last_stream_id: int, code: int = 0, debug: bytes = b"") -> bytes:
    """GOAWAY."""
    return frame(GOAWAY, struct.pack(">LL", last_stream_id, code) + debug, stream_id=0)


def ping(payload: bytes = b"12345678", *, ack: bool = False) -> bytes:
    """PING, or its answer."""
    return frame(PING, payload, flags=ACK if ack else 0, stream_id=0)


def window_update(increment: int, *, stream_id: int = 0) -> bytes:
    """WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, struct.pack(">L", increment), stream_id=stream_id)


def reply(*messages: bytes, trailers: Sequence[tuple[str, str]] = OK_TRAILERS) -> bytes:
    """All that a well-behaved server sends on a call's connection."""
    body = data(b"".join(map(message, messages))) if messages else b""
    return settings() + headers(OK_HEADERS) + body + headers(trailers, end=True)


def request(
    path: str = "/S/Echo",
    body: bytes | None = None,
    *,
    stream_id: int = 1,
    end: bool = True,
    extra: Sequence[tuple[str, str]] = (),
) -> bytes:
    """A call as a client sends it."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *extra,
    ]
    out = headers(fields, stream_id=stream_id, end=end and body is None)
    return out if body is None else out + data(message(body), end=end, stream_id=stream_id)


def frames(received: bytes | bytearray) -> list[Frame]:
    """Read back what was sent; an incomplete frame at the end is left out."""
    rest, out = memoryview(bytes(received).removeprefix(PREFACE)), []
    while len(rest) >= 9:
        parsed, length = Frame.parse_frame_header(rest[:9])
        if len(rest) < 9 + length:
            break
        parsed.parse_body(rest[9 : 9 + length])
        out.append(parsed)
        rest = rest[9 + length :]
    return out


class Reader:
    """Reads frames from a stream, one after the other."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.frames: list[Frame] = []
        self._bytes = bytearray()
        self._read = 0

    async def _more(self) -> None:
        self._bytes += await self.stream.receive()
        new = frames(self._bytes)
        self.frames += new
        del self._bytes[: sum(9 + f.body_len for f in new) + len(PREFACE) * self._bytes.startswith(PREFACE)]

    async def until(self, kind: type[Frame]) -> Frame:
        """Wait for the next frame of a kind; skip others."""
        while True:
            for i, found in enumerate(self.frames[self._read :], self._read + 1):
                if type(found) is kind:
                    self._read = i
                    return found
            self._read = len(self.frames)
            await self._more()

    async def until_eof(self) -> list[Frame]:
        """Wait until the other side closes; return all it has sent."""
        try:
            while True:
                await self._more()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return self.frames


def listening_on(kind: str, tmp_path: Path) -> Listening:
    """Make what runs a peer behind a real socket."""

    @asynccontextmanager
    async def listening(peer: Peer) -> AsyncIterator[Connect]:
        async def serve(stream: ByteStream) -> None:
            async with cancel_safe(stream) as safe:
                await peer(safe)

        if kind == "unix":
            path = tmp_path / "socket"
            listener = await anyio.create_unix_listener(path)
            connect: Connect = lambda: anyio.connect_unix(path)
        else:
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            connect = lambda: anyio.connect_tcp("127.0.0.1", port)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            yield connect
            tasks.cancel_scope.cancel()

    return listening
