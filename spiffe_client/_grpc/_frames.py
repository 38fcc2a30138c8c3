"""Messages on a stream of bytes: one flag byte, four bytes of length, the message."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from spiffe_client._grpc._status import Status, StatusError

__all__ = ["MessageSplitter", "frame"]

_PREFIX = struct.Struct(">BL")


def frame(message: bytes) -> bytes:
    """Put the length in front of a message (gRPC over HTTP/2, "Length-Prefixed-Message")."""
    return _PREFIX.pack(0, len(message)) + message


class MessageSplitter:
    """Cuts a stream of bytes, received in pieces of any size, into messages.

    Args:
        limit: Bytes that one message may have.
    """

    __slots__ = ("_buffer", "_length", "_limit")

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._length: int | None = None

    @property
    def empty(self) -> bool:
        """Whether the bytes so far end where a message ends."""
        return not self._buffer and self._length is None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take in bytes and yield each message that is now complete.

        Raises:
            StatusError: RESOURCE_EXHAUSTED if the next message is over the limit, told before
                any of it is kept; INTERNAL if it is compressed, which nobody negotiated.
        """
        self._buffer += data
        while True:
            if self._length is None:
                if len(self._buffer) < _PREFIX.size:
                    return
                self._length = self._read_prefix()
            if len(self._buffer) < self._length:
                return
            message = bytes(self._buffer[: self._length])
            del self._buffer[: self._length]
            self._length = None
            yield message

    def _read_prefix(self) -> int:
        flag, length = _PREFIX.unpack_from(self._buffer)
        if flag:
            raise StatusError(Status.INTERNAL, f"compressed message (flag {flag}), which nobody asked for")
        if length > self._limit:
            raise StatusError(
                Status.RESOURCE_EXHAUSTED, f"message of {length} bytes is over the limit of {self._limit}"
            )
        del self._buffer[: _PREFIX.size]
        return int(length)
