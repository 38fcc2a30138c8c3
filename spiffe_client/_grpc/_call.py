"""One call as the server sees it, without I/O."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Generic, TypeVar

import anyio

from spiffe_client._grpc._frames import MessageSplitter
from spiffe_client._grpc._status import Status, StatusError
from spiffe_client._values import dataclass

__all__ = ["Call", "Handler", "Incoming", "PeerT"]

PeerT = TypeVar("PeerT")

_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


@dataclass(frozen=True, slots=True)
class Call(Generic[PeerT]):
    """What a handler is told.

    Attributes:
        path: `/Service/Method`.
        metadata: Names in lower case; values of a repeated name are joined by a comma.
        request: The one message of the request.
        peer: Whatever `Server.serve_connection` was told about the other end.
    """

    path: str
    metadata: Mapping[str, str]
    request: bytes
    peer: PeerT


Handler = Callable[[Call[PeerT]], AsyncIterator[bytes]]


class Incoming:
    """A call whose request is being received, and the state of its answer.

    Args:
        headers: Of the request, as h2 gives them.
        limit: Bytes that the request may have.

    Attributes:
        complete: The client has ended the request.
        answered: The headers of the answer were sent.
        scope: Cancelled when the client gives up.
    """

    __slots__ = (
        "_messages",
        "_splitter",
        "answered",
        "complete",
        "metadata",
        "method",
        "path",
        "scope",
    )

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], limit: int) -> None:
        self.metadata: dict[str, str] = {}
        for raw_name, raw_value in headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            self.metadata[name] = f"{self.metadata[name]},{value}" if name in self.metadata else value
        self.path = self.metadata.pop(":path", "")
        self.method = self.metadata.pop(":method", "")
        for name in (":scheme", ":authority"):
            self.metadata.pop(name, None)
        self.scope = anyio.CancelScope()
        self.complete = self.answered = False
        self._messages: list[bytes] = []
        self._splitter = MessageSplitter(limit)

    @property
    def http_error(self) -> int | None:
        """The HTTP status for what is no gRPC at all, or None."""
        if self.method != "POST":
            return 405
        kind = self.metadata.get("content-type", "")
        return None if kind.split(";")[0].split("+")[0] == "application/grpc" else 415

    @property
    def timeout(self) -> float | None:
        """Seconds after which the client gives up, if it said so."""
        match = _TIMEOUT.fullmatch(self.metadata.get("grpc-timeout", ""))
        return int(match[1]) * _UNITS[match[2]] if match else None

    def feed(self, data: bytes) -> None:
        """Take in part of the request.

        Raises:
            StatusError: It is over the limit, compressed, or more than one message.
        """
        self._messages.extend(self._splitter.feed(data))
        if len(self._messages) > 1:
            raise StatusError(Status.UNIMPLEMENTED, "more than one request message")

    def request(self) -> bytes:
        """Return the one message of a request that has ended.

        Raises:
            StatusError: There is none, or it is cut short.
        """
        if not self._messages or not self._splitter.empty:
            raise StatusError(Status.INTERNAL, "the request ended before its message did")
        return self._messages[0]
