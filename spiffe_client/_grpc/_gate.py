"""What is looked at before h2 sees a frame: sizes, floods, and GOAWAY.

h2 checks a frame's length once all of it is buffered, lets any number of control frames pass, and
treats a GOAWAY as the end although calls that are under way may finish (RFC 9113 §6.8). So each
frame passes here first; from here on frames are whole, small, and no GOAWAY.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from spiffe_client._grpc._status import clean
from spiffe_client.errors import ProtocolError

__all__ = ["PREFACE", "FrameGate", "GoAway", "looks_like"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE = 9
MAX_FRAME = 16384
# Far more than HTTP/2 has settings: h2 remembers each one, also those it does not know.
MAX_SETTINGS = 64 * 6
# Control frames that a peer may send at once, and per second from then on.
BURST = 200
RATE = 50.0

_DATA, _HEADERS, _SETTINGS, _PUSH_PROMISE, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 4, 5, 7, 8, 9
_BLOCK = frozenset({_HEADERS, _PUSH_PROMISE, _CONTINUATION})
# Bound by what we send, and by the limit of a header block. A client's headers are calls to make,
# bound by the limit of calls; a server's are interim replies, of which there might be no end.
_FREE = frozenset({_WINDOW_UPDATE, _CONTINUATION})
_WORK = _FREE | {_HEADERS}
_END_STREAM = 0x1
_TLS = {b"\x15\x03": "a TLS alert", b"\x16\x03": "a TLS handshake"}
_LAST_AND_CODE = struct.Struct(">LL")


class GoAway(NamedTuple):
    """The peer takes no new calls.

    Attributes:
        last_stream_id: The last call that it has taken or may still take.
        error_code: An HTTP/2 error code; 0 is a graceful end.
        debug: Its words, fit for a log.
    """

    last_stream_id: int
    error_code: int
    debug: str


class FrameGate:
    """Cuts bytes into HTTP/2 frames and refuses what no honest peer sends.

    Args:
        headers: Bytes that one header block may have, over all its frames.
        server: Whether we are the server, whose peer begins with the connection preface.
    """

    __slots__ = ("_allowance", "_block", "_buffer", "_headers", "_preface", "_seen_at", "_server", "_started")

    def __init__(self, headers: int, *, server: bool) -> None:
        self._headers = headers
        self._server = server
        self._preface = PREFACE if server else b""
        self._buffer = bytearray()
        self._block = 0
        self._started = False
        self._allowance = float(BURST)
        self._seen_at: float | None = None

    @property
    def start(self) -> bytes | None:
        """What came so far if it is no HTTP/2 yet, for an error message; else None."""
        return None if self._started else bytes(self._buffer)

    def earn(self) -> None:
        """Allow one more control frame: honest peers send some for the work that is done."""
        self._allowance = min(self._allowance + 1, BURST)

    def feed(self, data: bytes, *, now: float) -> Iterator[bytes | GoAway]:
        """Take in bytes and yield each frame that is now complete, header included.

        Args:
            data: Bytes as received, cut anywhere.
            now: Seconds on a clock that does not go back, to know a flood from a long life.

        Raises:
            ProtocolError: It is not HTTP/2, or more than an honest peer would send.
        """
        self._buffer += data
        if self._seen_at is not None:
            self._allowance = min(self._allowance + (now - self._seen_at) * RATE, BURST)
        self._seen_at = now
        if not self._take_preface():
            return
        while len(self._buffer) >= HEADER_SIZE:
            length, kind, flags, stream_id = self._frame_header()
            self._check(length, kind)
            if len(self._buffer) < HEADER_SIZE + length:
                return
            frame = bytes(self._buffer[: HEADER_SIZE + length])
            del self._buffer[: HEADER_SIZE + length]
            self._account(length, kind, flags)
            yield _go_away(frame, stream_id) if kind == _GOAWAY else frame

    def _take_preface(self) -> bool:
        size = min(len(self._preface), len(self._buffer))
        if self._buffer[:size] != self._preface[:size]:
            raise ProtocolError(f"the client does not speak HTTP/2: it began with {looks_like(self._buffer)}")
        if size < len(self._preface):
            return False
        del self._buffer[:size]
        self._preface = b""
        return True

    def _frame_header(self) -> tuple[int, int, int, int]:
        head = self._buffer
        return (
            int.from_bytes(head[:3], "big"),
            head[3],
            head[4],
            int.from_bytes(head[5:HEADER_SIZE], "big") & 0x7FFFFFFF,
        )

    def _check(self, length: int, kind: int) -> None:
        """Refuse by a frame's header alone, before its payload is kept."""
        if not self._started:
            if kind != _SETTINGS or length > MAX_FRAME:
                raise ProtocolError(
                    f"the peer does not speak HTTP/2: it began with {looks_like(self._buffer)}"
                )
            self._started = True
        if length > (MAX_SETTINGS if kind == _SETTINGS else MAX_FRAME):
            raise ProtocolError(f"HTTP/2 frame of type {kind} and {length} bytes is over the limit")
        if kind in _BLOCK and (self._block if kind == _CONTINUATION else 0) + length > self._headers:
            raise ProtocolError(f"header block is over the limit of {self._headers} bytes")

    def _account(self, length: int, kind: int, flags: int) -> None:
        if kind in _BLOCK:
            self._block = length + (self._block if kind == _CONTINUATION else 0)
        if kind == _DATA and (length or flags & _END_STREAM):
            # A client's data does not earn: it could pay for resetting the call (CVE-2023-44487).
            if not self._server:
                self.earn()
        elif kind not in (_WORK if self._server else _FREE):
            self._allowance -= 1
            if self._allowance < 0:
                raise ProtocolError(f"flood of HTTP/2 control frames (the last one of type {kind})")


def _go_away(frame: bytes, stream_id: int) -> GoAway:
    payload = frame[HEADER_SIZE:]
    if stream_id or len(payload) < _LAST_AND_CODE.size:
        raise ProtocolError("malformed GOAWAY frame")
    last, code = _LAST_AND_CODE.unpack_from(payload)
    debug = clean(payload[_LAST_AND_CODE.size :].decode(errors="replace"), 100)
    return GoAway(last & 0x7FFFFFFF, code, debug)


def looks_like(start: bytes | bytearray) -> str:
    """Say what the first bytes of something that is no HTTP/2 seem to be."""
    if start[:5] == b"HTTP/":
        line = bytes(start[:60]).partition(b"\r\n")[0].decode("latin-1")
        return f"an HTTP/1 reply, {clean(line, 60)!r}"
    if (tls := _TLS.get(bytes(start[:2]))) is not None:
        return f"{tls}, so it expects or speaks TLS"
    return f"the bytes {bytes(start[:16])!r}"
