"""Calls over an anyio byte stream: what `_exchange` wants read and written, under a deadline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import ByteStream

from spiffe_client._grpc._exchange import Exchange
from spiffe_client._grpc._limits import Limits
from spiffe_client._grpc._unix import cancel_safe
from spiffe_client.errors import UnavailableError

__all__ = ["Connector", "server_stream", "unary"]

Connector = Callable[[], Awaitable[ByteStream]]

# Seconds that the answer to a PING may take.
PING_ANSWER = 10.0
# gRPC servers take a third PING within five minutes and without data in between for an attack
# ("too_many_pings"), so after the first one in a silence the next ones come slowly.
PING_SPACING = 330.0
# Seconds that telling the server goodbye may take: it is a courtesy.
GOODBYE = 0.1
_LIMITS = Limits()
_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError)


class _Wire:
    """An exchange on its byte stream."""

    def __init__(self, exchange: Exchange, stream: ByteStream, keepalive: float | None) -> None:
        self.exchange = exchange
        self._stream = cancel_safe(stream)
        self._keepalive = keepalive
        self._pinged = False
        self._mute = False

    async def send(self) -> None:
        data = self.exchange.data_to_send()
        if not data or self._mute:
            return
        # Set until all is sent: after a write that broke off in the middle, another one would
        # be nonsense to the server. What it sent before it closed can still be read.
        self._mute = True
        try:
            await self._stream.send(data)
        except _GONE:
            return
        self._mute = False

    async def step(self) -> None:
        """Read once, and send what that asks for."""
        try:
            data = await self._receive()
        except anyio.EndOfStream:
            self.exchange.receive_eof("the server closed the connection in the middle of a call")
        except anyio.BrokenResourceError as error:
            self.exchange.receive_eof(f"the connection to the server broke: {error.__cause__ or error}")
        except anyio.ClosedResourceError:
            self.exchange.receive_eof("the call was closed here while it was waited for")
        else:
            self.exchange.receive(data, now=anyio.current_time())
            if not self.exchange.ended:
                # Not torn by a cancelled wait for the next message: these are a few bytes.
                with anyio.move_on_after(GOODBYE, shield=True):
                    await self.send()

    async def _receive(self) -> bytes:
        if self._keepalive is None:
            return await self._stream.receive()
        if self.exchange.fresh:
            self._pinged = self.exchange.fresh = False
        silence = max(self._keepalive, PING_SPACING) if self._pinged else self._keepalive
        with anyio.move_on_after(silence):
            return await self._stream.receive()
        self._pinged = True
        self.exchange.ping()
        with anyio.move_on_after(PING_ANSWER):
            await self.send()
            return await self._stream.receive()
        raise UnavailableError(f"the server did not answer a PING within {PING_ANSWER:g} s")

    async def aclose(self) -> None:
        """Close, promptly, also while being cancelled."""
        farewell = b"" if self._mute else self.exchange.farewell()
        if farewell:
            with anyio.move_on_after(GOODBYE, shield=True), suppress(*_GONE):
                await self._stream.send(farewell)
        with anyio.move_on_after(GOODBYE, shield=True):
            await self._stream.aclose()


async def unary(
    connect: Connector,
    path: str,
    request: bytes,
    *,
    metadata: Sequence[tuple[str, str]] = (),
    timeout: float,  # noqa: ASYNC109 - sent to the server too, and it has to be said
    limits: Limits = _LIMITS,
) -> bytes:
    """Make a call with one message each way.

    Args:
        connect: Opens the byte stream; raises `UnavailableError` itself if it cannot.
        path: `/Service/Method`.
        request: The encoded request.
        metadata: Names in lower case and values, both ASCII.
        timeout: Seconds for all of it, connecting included.
        limits: Bounds on the reply.

    Raises:
        StatusError: The server ended the call with a status other than OK.
        UnavailableError: Broken off, refused, or not answered in time.
        ProtocolError: The reply is not HTTP/2 and gRPC, over a limit, or not one message.
    """
    with anyio.move_on_after(timeout):
        wire = _Wire(Exchange(path, request, metadata, timeout, limits), await connect(), None)
        try:
            await wire.send()
            while not wire.exchange.ended and len(wire.exchange.messages) <= 1:
                await wire.step()
        finally:
            await wire.aclose()
        return wire.exchange.only_message()
    raise UnavailableError(f"no answer to {path} within {timeout:g} s")


class _ServerStream(AbstractAsyncContextManager["_ServerStream"], AsyncIterator[bytes]):
    """Both the context manager and the iterator; holds no cancel scope between two awaits."""

    def __init__(
        self,
        connect: Connector,
        exchange: Exchange,
        path: str,
        timeout: float | None,
        keepalive: float | None,
    ) -> None:
        self._connect = connect
        self._exchange = exchange
        self._path = path
        self._timeout = timeout
        self._keepalive = keepalive
        self._deadline = float("inf")
        self._answered = False
        self._wire: _Wire

    async def __aenter__(self) -> Self:
        if self._timeout is not None:
            self._deadline = anyio.current_time() + self._timeout
        with anyio.CancelScope(deadline=self._deadline):
            self._wire = _Wire(self._exchange, await self._connect(), self._keepalive)
            try:
                await self._wire.send()
            except BaseException:
                await self._wire.aclose()
                raise
            return self
        raise self._too_late()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._wire.aclose()

    async def __anext__(self) -> bytes:
        with anyio.CancelScope(deadline=float("inf") if self._answered else self._deadline):
            return await self._next()
        raise self._too_late()

    async def _next(self) -> bytes:
        exchange = self._exchange
        while not exchange.messages:
            if exchange.error is not None:
                raise exchange.error
            if exchange.ended:
                raise StopAsyncIteration
            if self._answered and exchange.draining:
                raise UnavailableError(exchange.draining)
            await self._wire.step()
        self._answered = True
        return exchange.messages.popleft()

    def _too_late(self) -> UnavailableError:
        return UnavailableError(f"no answer to {self._path} within {self._timeout:g} s")


def server_stream(
    connect: Connector,
    path: str,
    request: bytes,
    *,
    metadata: Sequence[tuple[str, str]] = (),
    timeout_first: float | None = None,
    keepalive: float | None = 30.0,
    limits: Limits = _LIMITS,
) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
    """Make a call that is answered with a stream of messages.

    Entering connects and sends the request; iterating reads. Nothing runs in between, so a slow
    consumer slows the server down, and PINGs of the server are answered while iterating.

    Args:
        connect: Opens the byte stream; raises `UnavailableError` itself if it cannot.
        path: `/Service/Method`.
        request: The encoded request.
        metadata: Names in lower case and values, both ASCII.
        timeout_first: Seconds until the first message, connecting included; None waits.
        keepalive: Seconds of silence after which the server is asked for a sign of life; after
            the first one in a silence at least `PING_SPACING`. None never asks.
        limits: Bounds on the reply.

    Returns:
        A context manager that gives the iterator. Entering and iterating raise what `unary`
        raises; a stream that ends with status OK just ends. A server that is going away
        gracefully ends it with `UnavailableError` after the message at hand.
    """
    exchange = Exchange(path, request, metadata, None, limits)
    return _ServerStream(connect, exchange, path, timeout_first, keepalive)
