"""What h2 wants to send, written by one task."""

from __future__ import annotations

import anyio
from anyio.abc import ByteStream
from h2.connection import H2Connection

__all__ = ["Outbox"]


class Outbox:
    """Writes from a task of its own, so that a cancelled call cannot tear a frame in two.

    Args:
        h2: Where the bytes come from.
        stream: Where they go.
    """

    def __init__(self, h2: H2Connection, stream: ByteStream) -> None:
        self._h2 = h2
        self._stream = stream
        self._wanted = anyio.Event()
        self._sent = anyio.Event()

    async def run(self, session: anyio.CancelScope) -> None:
        """Write until the client is gone, then end the session."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted = anyio.Event()
                while data := self._h2.data_to_send():
                    await self._stream.send(data)
                self._sent.set()
                self._sent = anyio.Event()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            session.cancel()

    async def flush(self) -> None:
        """Wait until all that is to be sent now has been sent: a slow client slows us down."""
        self._wanted.set()
        await self._sent.wait()
