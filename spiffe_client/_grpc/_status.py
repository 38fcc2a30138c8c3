"""How a gRPC call ends: status codes, and what trailers say about them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum

from spiffe_client.errors import ProtocolError

__all__ = ["Status", "StatusError", "clean", "decode_details", "encode_details", "status_of"]

# Compiled at the first use: a healthy start should not pay for it.
_ESCAPE = rb"%([0-9A-Fa-f]{2})"
_CODE_DIGITS = 9
# What the gRPC specification lets stand for itself in grpc-message.
_PLAIN = frozenset(range(0x20, 0x7F)) - {ord("%")}


class Status(IntEnum):
    """The status codes of gRPC (gRPC core concepts, "Status codes and their use in gRPC")."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class StatusError(Exception):
    """A call ended with a status other than OK.

    Args:
        status: The code; one that gRPC does not define stays a plain int.
        details: The server's words, as text fit for one line of a log.
    """

    def __init__(self, status: Status | int, details: str = "") -> None:
        super().__init__(status, details)
        self.status: Status | int = Status(status) if 0 <= status <= max(Status) else int(status)
        self.details = details

    def __str__(self) -> str:
        name = self.status.name if isinstance(self.status, Status) else f"status {self.status}"
        return f"{name}: {self.details}" if self.details else name


def clean(text: str, limit: int) -> str:
    """Make foreign text fit for one line of a log: no control characters, bounded length."""
    printable = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return printable if len(printable) <= limit else f"{printable[:limit]}…"


def encode_details(details: str) -> bytes:
    """Percent-encode for `grpc-message` (gRPC over HTTP/2, "Responses")."""
    return b"".join(b"%c" % b if b in _PLAIN else b"%%%02X" % b for b in details.encode(errors="replace"))


def decode_details(value: bytes, limit: int) -> str:
    """Read a `grpc-message`; never fails, as the specification asks.

    Args:
        value: The header's value: percent-encoded UTF-8, supposedly. Broken escapes stand as
            they are, broken UTF-8 becomes U+FFFD.
        limit: Characters to keep.
    """
    # A character is at most 4 bytes of 3 characters each: what lies beyond is cut off anyway.
    raw = re.sub(_ESCAPE, lambda m: bytes.fromhex(m[1].decode()), value[: 12 * (limit + 1)])
    return clean(raw.decode(errors="replace"), limit)


def status_of(headers: Iterable[tuple[bytes, bytes]], limit: int) -> StatusError | None:
    """Read how a call ended from its trailers; None means OK.

    Args:
        headers: The trailers, or the only headers of a trailers-only reply.
        limit: Characters of `grpc-message` to keep.

    Raises:
        ProtocolError: `grpc-status` is missing, repeated, or not a number.
    """
    codes = [value for name, value in headers if name == b"grpc-status"]
    if not codes:
        raise ProtocolError("the server ended the call without a grpc-status")
    if len(codes) > 1 or not codes[0].isdigit() or len(codes[0]) > _CODE_DIGITS:
        shown = clean(b", ".join(codes).decode(errors="replace"), 40)
        raise ProtocolError(f"the server ended the call with a grpc-status that is no number: {shown!r}")
    code = int(codes[0])
    if code == Status.OK:
        return None
    details = next((value for name, value in headers if name == b"grpc-message"), b"")
    return StatusError(code, decode_details(details, limit))
