"""Unix sockets whose waits may be cancelled at any moment.

anyio's own stream on asyncio waits with a future that the selector resolves without looking: when
it is cancelled in the very turn of the loop in which the socket becomes readable, the loop reports
an `InvalidStateError`. A deadline, a keepalive and a server that stops all cancel reads, so the
socket is read and written here, with `anyio.wait_readable`, which does look.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from socket import socket
from typing import TypeVar

import anyio
from anyio.abc import ByteStream, SocketAttribute, UNIXSocketStream
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

__all__ = ["cancel_safe"]

_T = TypeVar("_T")


def cancel_safe(stream: ByteStream) -> ByteStream:
    """Wrap a unix socket's stream; return any other stream as it is."""
    return _UnixStream(stream) if isinstance(stream, UNIXSocketStream) else stream


class _UnixStream(ByteStream):
    def __init__(self, stream: UNIXSocketStream) -> None:
        self._stream = stream
        self._socket: socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - not Django's
        self._waits: set[anyio.CancelScope] = set()
        self._waited = True
        self._closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        # Let others run before reading, never after it: whoever is cancelled must not have read.
        # Once in a while is enough, and after a wait others have run.
        await (checkpoint_if_cancelled() if self._waited else checkpoint())
        self._waited = False
        data = await self._retry(partial(self._socket.recv, max_bytes), anyio.wait_readable)
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        await checkpoint_if_cancelled()
        rest = memoryview(item)
        while rest:
            rest = rest[await self._retry(partial(self._socket.send, rest), anyio.wait_writable) :]

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        self._closed = True
        for scope in self._waits:
            scope.cancel()
        await self._stream.aclose()

    async def _retry(self, attempt: Callable[[], _T], ready: Callable[[socket], Awaitable[None]]) -> _T:
        while True:
            try:
                return attempt()
            except BlockingIOError:
                self._waited = True
                await self._wait(ready)
            except OSError as error:
                raise (anyio.ClosedResourceError if self._closed else anyio.BrokenResourceError) from error

    async def _wait(self, ready: Callable[[socket], Awaitable[None]]) -> None:
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                await ready(self._socket)
            finally:
                self._waits.discard(scope)
