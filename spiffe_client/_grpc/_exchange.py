"""One call as the client sees it, without I/O: bytes in, bytes out, messages and an outcome."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from spiffe_client._grpc._frames import MessageSplitter, frame
from spiffe_client._grpc._gate import FrameGate, GoAway, looks_like
from spiffe_client._grpc._h2 import acknowledge, error_name, open_connection, receive_frame
from spiffe_client._grpc._limits import Limits
from spiffe_client._grpc._status import StatusError, clean, status_of
from spiffe_client.errors import ProtocolError, UnavailableError

__all__ = ["Exchange"]

_STREAM = 1
_Headers = list[tuple[bytes, bytes]]


class Exchange:
    """A call on a connection of its own.

    Args:
        path: `/Service/Method`.
        request: The one message of the request.
        metadata: Names in lower case and values, both ASCII.
        timeout: Seconds that the server is told to give up after, or None.
        limits: Bounds on the reply.

    Attributes:
        messages: Received and not yet taken, oldest first.
        ended: Whether nothing more will come; then `error` says how it ended, None is OK.
        fresh: Whether the server sent part of the reply since this was last set to False.
    """

    def __init__(
        self,
        path: str,
        request: bytes,
        metadata: Sequence[tuple[str, str]],
        timeout: float | None,
        limits: Limits,
    ) -> None:
        self.messages: deque[bytes] = deque()
        self.ended = False
        self.error: Exception | None = None
        self.fresh = False
        self._limits = limits
        self._gate = FrameGate(limits.headers, server=False)
        self._splitter = MessageSplitter(limits.message)
        self._draining = ""
        self._h2 = open_connection(limits, client=True)
        self._h2.send_headers(_STREAM, _request_headers(path, metadata, timeout))
        self._unsent = memoryview(frame(request))

    @property
    def sending(self) -> bool:
        """Whether part of the request is still to be sent."""
        return bool(self._unsent) and not self.ended

    @property
    def draining(self) -> str:
        """Why a long-lived call should be given up between two messages; empty if it should not."""
        return self._draining if self._splitter.empty else ""

    def only_message(self) -> bytes:
        """Return the reply of a call that has just one.

        Raises:
            Exception: What the call ended with.
            ProtocolError: There are none or several.
        """
        if self.error is not None:
            raise self.error
        if len(self.messages) != 1:
            many = "several messages" if self.messages else "no message"
            raise ProtocolError(f"the server answered with {many} where one is due")
        return self.messages[0]

    def data_to_send(self) -> bytes:
        """Take what is to be sent now; call again after it is sent, until there is nothing."""
        if self.sending:
            self._send_request()
        return self._h2.data_to_send()

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._h2.ping(b"spiffe-c")

    def farewell(self) -> bytes:
        """Return what tells the server that nobody waits for it any more, if it does not know."""
        if not self.ended:
            self._h2.reset_stream(_STREAM, ErrorCodes.CANCEL)
            self._h2.close_connection()
        elif not isinstance(self.error, ProtocolError):
            return b""
        return self._h2.data_to_send()

    def receive(self, data: bytes, *, now: float) -> None:
        """Take in bytes from the server."""
        try:
            for item in self._gate.feed(data, now=now):
                if isinstance(item, GoAway):
                    self._on_go_away(item)
                else:
                    for event in receive_frame(self._h2, item):
                        self._on_event(event)
                if self.ended:
                    return
        except (ProtocolError, UnavailableError) as error:
            self._end(error)

    def receive_eof(self, reason: str) -> None:
        """Take in that no more bytes will come."""
        start = self._gate.start
        if start:
            self._end(ProtocolError(f"the server does not speak HTTP/2: it began with {looks_like(start)}"))
        else:
            self._end(UnavailableError(self._draining or reason))

    def _end(self, error: Exception | None) -> None:
        if not self.ended:
            self.ended = True
            self.error = error

    def _send_request(self) -> None:
        window = self._h2.local_flow_control_window(_STREAM)
        size = min(window, self._h2.max_outbound_frame_size, len(self._unsent))
        if size > 0:
            chunk, self._unsent = self._unsent[:size], self._unsent[size:]
            self._h2.send_data(_STREAM, bytes(chunk), end_stream=not self._unsent)

    def _on_go_away(self, frame: GoAway) -> None:
        words = (
            f"the server is going away ({error_name(frame.error_code)}{frame.debug and ': '}{frame.debug})"
        )
        if frame.error_code != ErrorCodes.NO_ERROR or frame.last_stream_id < _STREAM:
            raise UnavailableError(words)
        self._draining = words

    def _on_event(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self._on_data(event)
        elif isinstance(event, ResponseReceived):
            self._on_headers(event.headers, end=event.stream_ended is not None)
        elif isinstance(event, TrailersReceived):
            self._on_trailers(event.headers)
        elif isinstance(event, StreamEnded):
            self._end(ProtocolError("the server ended the call without a grpc-status"))
        elif isinstance(event, StreamReset):
            raise UnavailableError(f"the server reset the call ({error_name(event.error_code)})")

    def _on_headers(self, headers: _Headers, *, end: bool) -> None:
        self.fresh = True
        status = _single(headers, b":status")
        kind = _single(headers, b"content-type")
        if status != b"200":
            raise ProtocolError(
                f"the server answered with HTTP status {_shown(status)} and content-type {_shown(kind)}, "
                "which is not gRPC"
            )
        # A reply of trailers only may lack it: there is no content.
        if not (_is_grpc(kind) or (end and not kind)):
            raise ProtocolError(f"the server answered with content-type {_shown(kind)}, which is not gRPC")
        if end:
            self._on_trailers(headers)

    def _on_trailers(self, headers: _Headers) -> None:
        error = status_of(headers, self._limits.details)
        if error is None and not self._splitter.empty:
            raise ProtocolError("the server ended the call in the middle of a message")
        self._end(error)

    def _on_data(self, event: DataReceived) -> None:
        self.fresh = True
        acknowledge(self._h2, _STREAM, event.flow_controlled_length)
        try:
            self.messages.extend(self._splitter.feed(event.data))
        except StatusError as error:
            raise ProtocolError(f"the server sent a {error.details}") from error


def _request_headers(
    path: str, metadata: Sequence[tuple[str, str]], timeout: float | None
) -> list[tuple[str, str]]:
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "grpc-python-spiffe-client"),
    ]
    if timeout is not None:
        # One to eight digits (gRPC over HTTP/2, "Requests"); zero is not allowed everywhere.
        headers.append(("grpc-timeout", f"{math.ceil(min(max(timeout * 1000, 1), 99_999_999))}m"))
    headers.extend(metadata)
    return headers


def _single(headers: _Headers, name: bytes) -> bytes:
    return next((value for n, value in headers if n == name), b"")


def _is_grpc(content_type: bytes) -> bool:
    return content_type == b"application/grpc" or content_type.startswith(
        (b"application/grpc+", b"application/grpc;")
    )


def _shown(value: bytes) -> str:
    return repr(clean(value.decode("latin-1"), 60)) if value else "(none)"
