"""How much a peer may make us hold or do."""

from __future__ import annotations

from spiffe_client._values import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what comes from the other side; what is over is refused before it is buffered.

    Attributes:
        message: Bytes of one message.
        headers: Bytes of one header block, compressed (as received) and uncompressed (RFC 9113
            §6.5.2 counts 32 bytes on top of each field).
        details: Characters of a `grpc-message` that are kept; the rest is cut off.
        streams: Calls that one connection may have open at a server.
    """

    message: int = 4 * 1024 * 1024
    headers: int = 16 * 1024
    details: int = 1024
    streams: int = 100
