"""One connection at the server: reads frames, runs handlers, writes answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Generic

import anyio
from anyio.abc import ByteStream, TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)

from spiffe_client._grpc._call import Call, Incoming, PeerT
from spiffe_client._grpc._frames import frame
from spiffe_client._grpc._gate import FrameGate, GoAway
from spiffe_client._grpc._h2 import acknowledge, cap_header_table, open_connection, receive_frame
from spiffe_client._grpc._outbox import Outbox
from spiffe_client._grpc._status import Status, StatusError, encode_details
from spiffe_client._grpc._unix import cancel_safe
from spiffe_client.errors import ProtocolError

if TYPE_CHECKING:
    from spiffe_client._grpc._server import Server

__all__ = ["Session"]

# Seconds that a client may take to read why it is being disconnected.
GOODBYE = 1.0
_RESPONSE = [(b":status", b"200"), (b"content-type", b"application/grpc")]


class Session(Generic[PeerT]):
    """Serves one connection; see `Server.serve_connection`."""

    def __init__(self, server: Server[PeerT], stream: ByteStream, peer: PeerT) -> None:
        self._server = server
        self._stream = cancel_safe(stream)
        self._peer = peer
        self._h2 = open_connection(server.limits, client=False)
        self._gate = FrameGate(server.limits.headers, server=True)
        self._outbox = Outbox(self._h2, self._stream)
        # Calls from their headers to the end of their handlers.
        self._calls: dict[int, Incoming] = {}
        self._window_opened = anyio.Event()
        self._tasks: TaskGroup

    async def run(self) -> None:
        """Serve until the client leaves or breaks the protocol."""
        try:
            async with anyio.create_task_group() as self._tasks:
                self._tasks.start_soon(self._outbox.run, self._tasks.cancel_scope)
                await self._read()
                self._tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()

    async def _read(self) -> None:
        try:
            while True:
                await self._outbox.flush()
                self._receive(await self._stream.receive(), now=anyio.current_time())
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
        except ProtocolError as error:
            for incoming in self._calls.values():
                incoming.scope.cancel()
            words = str(error).encode(errors="replace")
            self._h2.close_connection(ErrorCodes.PROTOCOL_ERROR, additional_data=words)
            with anyio.move_on_after(GOODBYE):
                await self._outbox.flush()

    def _receive(self, data: bytes, *, now: float) -> None:
        for item in self._gate.feed(data, now=now):
            if not isinstance(item, GoAway):  # it will make no more calls; those it made go on
                for event in receive_frame(self._h2, item):
                    self._on_event(event)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._on_request(event)
        elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
            cap_header_table(self._h2)
            self._window_opened.set()
            self._window_opened = anyio.Event()
        elif isinstance(event, DataReceived | StreamEnded | StreamReset):
            # None: it was refused, and this is the rest of it.
            incoming = self._calls.get(event.stream_id)
            if incoming is not None:
                self._on_more(event, incoming)

    def _on_more(self, event: DataReceived | StreamEnded | StreamReset, incoming: Incoming) -> None:
        if isinstance(event, DataReceived):
            self._on_data(event, incoming)
        elif isinstance(event, StreamEnded):
            self._on_end(event.stream_id, incoming)
        else:
            incoming.scope.cancel()
            if not incoming.complete:
                del self._calls[event.stream_id]

    def _on_request(self, event: RequestReceived) -> None:
        if len(self._calls) >= self._server.limits.streams:
            # Calls that were reset count until their handlers have ended (CVE-2023-44487).
            self._h2.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        incoming = Incoming(event.headers, self._server.limits.message)
        incoming.complete = event.stream_ended is not None
        self._calls[event.stream_id] = incoming
        if (status := incoming.http_error) is not None:
            self._h2.send_headers(event.stream_id, [(b":status", b"%d" % status)], end_stream=True)
            self._forget(event.stream_id)
        elif incoming.path not in self._server.handlers:
            self._refuse(
                event.stream_id, StatusError(Status.UNIMPLEMENTED, f"unknown method {incoming.path}")
            )

    def _on_data(self, event: DataReceived, incoming: Incoming) -> None:
        acknowledge(self._h2, event.stream_id, event.flow_controlled_length)
        incoming.complete = event.stream_ended is not None
        try:
            incoming.feed(event.data)
        except StatusError as error:
            self._refuse(event.stream_id, error)

    def _on_end(self, stream_id: int, incoming: Incoming) -> None:
        incoming.complete = True
        try:
            call = Call(incoming.path, incoming.metadata, incoming.request(), self._peer)
        except StatusError as error:
            self._refuse(stream_id, error)
        else:
            self._tasks.start_soon(self._answer, stream_id, incoming, call)

    def _refuse(self, stream_id: int, error: StatusError) -> None:
        self._end(stream_id, self._calls[stream_id], error)
        self._forget(stream_id)

    def _forget(self, stream_id: int) -> None:
        if not self._calls.pop(stream_id).complete:
            # The answer is complete, so the rest of the request is of no use (RFC 9113 §8.1).
            self._h2.reset_stream(stream_id, ErrorCodes.NO_ERROR)

    async def _answer(self, stream_id: int, incoming: Incoming, call: Call[PeerT]) -> None:
        try:
            with incoming.scope:
                error = await self._run(stream_id, incoming, call)
                # The scope is cancelled once the stream is gone: nothing may be sent on it then.
                await checkpoint_if_cancelled()
                self._end(stream_id, incoming, error)
        finally:
            del self._calls[stream_id]
        await self._outbox.flush()

    async def _run(self, stream_id: int, incoming: Incoming, call: Call[PeerT]) -> StatusError | None:
        try:
            with anyio.move_on_after(incoming.timeout):
                messages = self._server.handlers[call.path](call)
                try:
                    async for message in messages:
                        await self._send(stream_id, incoming, message)
                finally:
                    if isinstance(messages, AsyncGenerator):
                        await messages.aclose()
                return None
            return StatusError(Status.DEADLINE_EXCEEDED, "the client's deadline has passed")
        except StatusError as error:
            return error
        except Exception as error:  # noqa: BLE001 - the border: a handler's bug ends its call only
            self._server.crashed(call, error)
            return StatusError(Status.UNKNOWN, "the handler failed")

    async def _send(self, stream_id: int, incoming: Incoming, message: bytes) -> None:
        self._gate.earn()
        await checkpoint_if_cancelled()
        if not incoming.answered:
            incoming.answered = True
            self._h2.send_headers(stream_id, _RESPONSE)
        rest = memoryview(frame(message))
        while rest:
            window = self._h2.local_flow_control_window(stream_id)
            size = min(window, self._h2.max_outbound_frame_size, len(rest))
            if size > 0:
                self._h2.send_data(stream_id, bytes(rest[:size]))
                rest = rest[size:]
                await self._outbox.flush()
            else:
                await self._window_opened.wait()
            await checkpoint_if_cancelled()

    def _end(self, stream_id: int, incoming: Incoming, error: StatusError | None) -> None:
        trailers = [(b"grpc-status", b"%d" % (error.status if error else Status.OK))]
        if error and error.details:
            trailers.append((b"grpc-message", encode_details(error.details)))
        self._h2.send_headers(
            stream_id, trailers if incoming.answered else _RESPONSE + trailers, end_stream=True
        )
