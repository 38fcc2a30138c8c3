"""Calls over an anyio byte stream: what `_exchange` wants read and written, under a deadline."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import ByteStream

from spiffe_client._grpc._exchange import Exchange
from spiffe_client._grpc._limits import Limits
from spiffe_client._grpc._wire import Wire
from spiffe_client.errors import UnavailableError

__all__ = ["Connector", "server_stream", "unary"]

Connector = Callable[[], Awaitable[ByteStream]]

_LIMITS = Limits()


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
        wire = Wire(Exchange(path, request, metadata, timeout, limits), await connect(), None)
        try:
            await wire.send()
            while not wire.exchange.ended and len(wire.exchange.messages) <= 1:
                await wire.step()
        finally:
            await wire.aclose()
        return wire.exchange.only_message()
    raise _too_late(path, timeout)


class _ServerStream(AbstractAsyncContextManager["_ServerStream"], AsyncIterator[bytes]):
    """Context manager and iterator in one; holds no cancel scope from one await to the next."""

    def __init__(
        self,
        connect: Connector,
        make_exchange: Callable[[], Exchange],
        path: str,
        timeout: float,
        keepalive: float | None,
    ) -> None:
        self._connect = connect
        self._make_exchange = make_exchange
        self._path = path
        self._timeout = timeout
        self._keepalive = keepalive
        self._deadline = math.inf
        self._answered = False
        self._wire: Wire

    async def __aenter__(self) -> Self:
        self._deadline = anyio.current_time() + self._timeout
        with anyio.CancelScope(deadline=self._deadline):
            self._wire = Wire(self._make_exchange(), await self._connect(), self._keepalive)
            try:
                await self._wire.send()
            except BaseException:
                await self._wire.aclose()
                raise
            return self
        raise _too_late(self._path, self._timeout)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._wire.aclose()

    async def __anext__(self) -> bytes:
        with anyio.CancelScope(deadline=math.inf if self._answered else self._deadline):
            return await self._next()
        raise _too_late(self._path, self._timeout)

    async def _next(self) -> bytes:
        exchange = self._wire.exchange
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

    Entering connects and sends the request; iterating reads. Nothing runs in between: a slow
    consumer slows the server down, and the server's PINGs are answered while iterating.

    Args:
        connect: Opens the byte stream; raises `UnavailableError` itself if it cannot.
        path: `/Service/Method`.
        request: The encoded request.
        metadata: Names in lower case and values, both ASCII.
        timeout_first: Seconds until the first message, connecting included; None waits.
        keepalive: Seconds of silence after which the server is asked for a sign of life, to be
            given within 10 s; while a silence lasts it is asked again every 330 s, because gRPC
            servers hang up on who asks more often. None never asks.
        limits: Bounds on the reply.

    Returns:
        A context manager that gives the iterator. Entering and iterating raise what `unary`
        raises; a stream that ends with status OK just ends. A server that announces gracefully
        that it is going away ends it with `UnavailableError`, after the message at hand.
    """
    make_exchange = partial(Exchange, path, request, metadata, None, limits)
    timeout = math.inf if timeout_first is None else timeout_first
    return _ServerStream(connect, make_exchange, path, timeout, keepalive)


def _too_late(path: str, seconds: float) -> UnavailableError:
    return UnavailableError(f"no answer to {path} within {seconds:g} s", cause_kind="timed_out")
