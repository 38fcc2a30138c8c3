"""An exchange on its byte stream: sends, reads, keeps watch over silence, closes."""

from __future__ import annotations

from contextlib import suppress

import anyio
from anyio.abc import ByteStream

from spiffe_client._grpc._exchange import Exchange
from spiffe_client._grpc._unix import cancel_safe

__all__ = ["Wire"]

# Seconds that the answer to a PING may take.
PING_ANSWER = 10.0
# gRPC servers take a few PINGs within five minutes without data in between for an attack
# ("too_many_pings"), so after the first one in a silence the next ones come slowly.
PING_SPACING = 330.0
# Seconds that a few bytes may take to leave this process.
PROMPT = 1.0
# Seconds that closing may take: saying goodbye is a courtesy.
GOODBYE = 0.1
_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError)


class Wire:
    """Moves the bytes of one exchange.

    Args:
        exchange: What to say and what to make of the answers.
        stream: Connected to the server, nothing sent yet; closed by `aclose`.
        keepalive: Seconds of silence after which the server is asked for a sign of life, or None.
    """

    def __init__(self, exchange: Exchange, stream: ByteStream, keepalive: float | None) -> None:
        self.exchange = exchange
        self._stream = cancel_safe(stream)
        self._keepalive = keepalive
        self._pinged = False
        self._mute = False

    async def send(self) -> None:
        """Send what is to be sent now."""
        try:
            while not self._mute and (data := self.exchange.data_to_send()):
                await self._stream.send(data)
        except _GONE:
            # What the server said before it closed can still be read.
            self._mute = True
        except BaseException:
            # Cut in two: whatever came next would be nonsense to the server.
            self._mute = True
            self.exchange.receive_eof("the server did not take what was written in time")
            raise

    async def step(self) -> None:
        """Read once, and send what that asks for."""
        try:
            data = await self._receive()
        except anyio.EndOfStream:
            self.exchange.receive_eof("the server closed the connection in the middle of a call")
        except anyio.BrokenResourceError as error:
            self.exchange.receive_eof(f"the connection to the server broke: {error.__cause__ or 'closed'}")
        except anyio.ClosedResourceError:
            self.exchange.receive_eof("the call was closed on this side")
        else:
            self.exchange.receive(data, now=anyio.current_time())
            if self.exchange.sending:
                await self.send()
            elif not self.exchange.ended:
                await self._send_promptly()

    async def _send_promptly(self) -> None:
        # Shielded, so that giving up waiting for a message does not cost the connection.
        with anyio.move_on_after(PROMPT, shield=True):
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
        await self._send_promptly()
        with anyio.move_on_after(PING_ANSWER):
            return await self._stream.receive()
        raise anyio.BrokenResourceError from TimeoutError(f"no answer to a PING within {PING_ANSWER:g} s")

    async def aclose(self) -> None:
        """Close, promptly, also while being cancelled."""
        farewell = b"" if self._mute else self.exchange.farewell()
        if farewell:
            with anyio.move_on_after(GOODBYE, shield=True), suppress(*_GONE, anyio.BusyResourceError):
                await self._stream.send(farewell)
        with anyio.move_on_after(GOODBYE, shield=True):
            await self._stream.aclose()
