"""Calls over real sockets: nothing hangs, nothing is torn, closing is prompt."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import anyio
import pytest
from anyio.abc import ByteStream
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame

from spiffe_client._grpc import Limits, StatusError, _wire, server_stream, unary
from spiffe_client._grpc._exchange import Exchange
from spiffe_client.errors import ProtocolError, UnavailableError
from tests.support.grpc_scripts import (
    OK_HEADERS,
    OK_TRAILERS,
    Connect,
    Listening,
    Peer,
    Reader,
    data,
    go_away,
    headers,
    message,
    ping,
    reply,
    reset,
    settings,
    window_update,
)

pytestmark = pytest.mark.anyio

OPENING = settings() + headers(OK_HEADERS)


def says(*parts: bytes, then_close: bool = False) -> Peer:
    """A server that says this, whatever it hears."""

    async def peer(stream: ByteStream) -> None:
        reader = Reader(stream)
        # On a slow machine a client's time may be over before it has said anything.
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            await reader.until(DataFrame)
            for part in parts:
                await stream.send(part)
            if not then_close:
                await reader.until_eof()

    return peer


async def silence(stream: ByteStream) -> None:
    await Reader(stream).until_eof()


async def refuses_to_connect() -> ByteStream:
    raise UnavailableError("nobody there")


async def never_connects() -> ByteStream:
    await anyio.sleep_forever()
    raise AssertionError


class TestUnary:
    async def test_answer(self, listening: Listening) -> None:
        """One message there, one back."""
        async with listening(says(reply(b"answer"))) as connect:
            assert b"answer" == await unary(connect, "/S/M", b"ask", timeout=5)

    async def test_answer_from_a_server_that_hangs_up(self, listening: Listening) -> None:
        """The answer counts, not what comes after."""
        async with listening(says(reply(b"answer"), then_close=True)) as connect:
            assert b"answer" == await unary(connect, "/S/M", b"ask", timeout=5)

    async def test_byte_by_byte(self, listening: Listening) -> None:
        """However the network cuts it."""
        answer = reply(b"answer")
        async with listening(says(*(answer[i : i + 1] for i in range(len(answer))))) as connect:
            assert b"answer" == await unary(connect, "/S/M", b"ask", timeout=5)

    async def test_status(self, listening: Listening) -> None:
        """The status is raised as it came."""
        async with listening(says(reply(trailers=[("grpc-status", "7"), ("grpc-message", "no")]))) as connect:
            with pytest.raises(StatusError, match="PERMISSION_DENIED: no"):
                await unary(connect, "/S/M", b"ask", timeout=5)

    async def test_request_larger_than_the_window(self, listening: Listening) -> None:
        """It is sent as the server makes room."""
        body = b"x" * 1_000_000

        async def peer(stream: ByteStream) -> None:
            reader, got = Reader(stream), b""
            await stream.send(settings())
            while len(got) < len(message(body)):
                piece = await reader.until(DataFrame)
                got += piece.data
                await stream.send(
                    window_update(len(piece.data)) + window_update(len(piece.data), stream_id=1)
                )
            assert message(body) == got
            await stream.send(reply(b"thanks")[9:])
            await reader.until_eof()

        async with listening(peer) as connect:
            assert b"thanks" == await unary(connect, "/S/M", body, timeout=30)

    async def test_endless_answer(self, listening: Listening) -> None:
        """Attack: messages for ever where one is due. The second one is one too many."""
        async with listening(says(OPENING + data(message(b"x")) * 2)) as connect:
            with pytest.raises(ProtocolError, match="several messages"):
                await unary(connect, "/S/M", b"ask", timeout=5)

    async def test_messages_of_a_status_error_are_not_an_answer(self, listening: Listening) -> None:
        """The answer counts only once the status is OK."""
        async with listening(says(reply(b"half", trailers=[("grpc-status", "15")]))) as connect:
            with pytest.raises(StatusError, match="DATA_LOSS"):
                await unary(connect, "/S/M", b"ask", timeout=5)

    @pytest.mark.parametrize(
        "said",
        [
            b"",
            settings(),
            OPENING,
            OPENING + data(message(b"x")),
            OPENING + data(message(b"x"))[:-3],
            ping()[:5],
        ],
    )
    async def test_deadline(self, listening: Listening, said: bytes) -> None:
        """A server that falls silent at any point costs no more than the timeout."""
        async with listening(says(said) if said else silence) as connect:
            with anyio.fail_after(20), pytest.raises(UnavailableError, match="no answer to /S/M within 0.1 s"):
                await unary(connect, "/S/M", b"ask", timeout=0.1)

    async def test_deadline_while_connecting(self) -> None:
        """Connecting counts."""
        with pytest.raises(UnavailableError, match="within 0.01 s"):
            await unary(never_connects, "/S/M", b"", timeout=0.01)

    async def test_deadline_while_sending(self, listening: Listening) -> None:
        """A server that makes room and does not read."""

        async def peer(stream: ByteStream) -> None:
            with suppress(anyio.BrokenResourceError):  # the time may be over before
                await stream.send(settings([(4, 2**31 - 1)]) + window_update(2**30))
            await stopped.wait()

        stopped = anyio.Event()
        async with listening(peer) as connect:
            with anyio.fail_after(20), pytest.raises(UnavailableError, match="within 0.2 s"):
                await unary(connect, "/S/M", bytes(40_000_000), timeout=0.2)
            stopped.set()

    async def test_cannot_connect(self) -> None:
        """The connector's own error is the caller's."""
        with pytest.raises(UnavailableError, match="nobody there"):
            await unary(refuses_to_connect, "/S/M", b"", timeout=5)

    async def test_cancelled(self, listening: Listening) -> None:
        """The server is told."""
        told: list[type] = []

        async def peer(stream: ByteStream) -> None:
            reader = Reader(stream)
            await reader.until(DataFrame)
            asked.set()
            told.extend(type(f) for f in (await reader.until_eof())[-2:])
            seen.set()

        asked, seen = anyio.Event(), anyio.Event()
        async with listening(peer) as connect, anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: unary(connect, "/S/M", b"ask", timeout=60))
            await asked.wait()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await seen.wait()

        assert [RstStreamFrame, GoAwayFrame] == told

    @pytest.mark.parametrize(
        ("said", "error", "words"),
        [
            (b"", UnavailableError, "closed the connection in the middle of a call|reset"),
            (OPENING, UnavailableError, "closed the connection in the middle of a call|reset"),
            (OPENING + data(message(b"x"))[:-3], UnavailableError, "closed the connection|reset"),
            (OPENING + go_away(1, 0, b"shutdown"), UnavailableError, "going away .NO_ERROR: shutdown|reset"),
            (settings() + reset(7), UnavailableError, "REFUSED_STREAM"),
            (b"HTTP/1.1 505 Whatever\r\n\r\n", ProtocolError, "an HTTP/1 reply, 'HTTP/1.1 505 Whatever'"),
            (b"\x15\x03\x01\x00\x02\x02\x46", ProtocolError, "a TLS alert"),
        ],
    )
    async def test_broken_off(
        self, listening: Listening, said: bytes, error: type[Exception], words: str
    ) -> None:
        """A server that hangs up, at any point, in any way."""
        async with listening(says(said, then_close=True) if said else says(then_close=True)) as connect:
            with pytest.raises(error, match=words):
                await unary(connect, "/S/M", b"ask", timeout=5)

    async def test_connection_reset(self) -> None:
        """The system says why, where anyio passes it on."""
        import socket
        import struct

        async def peer(stream: ByteStream) -> None:
            await Reader(stream).until(HeadersFrame)
            raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        from tests.support.grpc_scripts import listening_on

        async with listening_on("tcp", None)(peer) as connect:  # type: ignore[arg-type]
            with pytest.raises(UnavailableError, match="broke: .*reset|closed the connection"):
                await unary(connect, "/S/M", b"ask", timeout=5)

    async def test_deaf_server_that_still_answers(self, listening: Listening) -> None:
        """It closed its ears, so our acknowledgements break, and its answer is read all the same."""

        async def connect_with_broken_send() -> ByteStream:
            return SaysOnly(await connect())

        async with listening(says_at_once(settings(), ping(), reply(b"answer")[9:])) as connect:
            assert b"answer" == await unary(connect_with_broken_send, "/S/M", b"ask", timeout=5)

    async def test_metadata_and_limits(self, listening: Listening) -> None:
        """Limits hold for what comes over the wire."""
        async with listening(says(reply(b"x" * 11))) as connect:
            with pytest.raises(ProtocolError, match="message of 11 bytes is over the limit of 10"):
                await unary(connect, "/S/M", b"ask", timeout=5, limits=Limits(message=10))


def says_at_once(*parts: bytes) -> Peer:
    """A server that says this without having heard anything."""

    async def peer(stream: ByteStream) -> None:
        for part in parts:
            await stream.send(part)
            await anyio.wait_all_tasks_blocked()
        await Reader(stream).until_eof()

    return peer


class SaysOnly(ByteStream):
    """A stream whose other end does not listen."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream

    async def send(self, item: bytes) -> None:
        raise anyio.BrokenResourceError

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self.stream.receive(max_bytes)

    async def send_eof(self) -> None:
        await self.stream.send_eof()

    async def aclose(self) -> None:
        await self.stream.aclose()


class Scripted(SaysOnly):
    """A stream in memory: says its lines, then nothing; `send` waits as long as it likes."""

    def __init__(self, lines: Sequence[bytes], *, stuck_after: int = 10**9) -> None:
        self.lines = list(lines)
        self.sent = b""
        self.stuck_after = stuck_after
        self.closed = 0

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if len(self.sent) >= self.stuck_after:
            await anyio.sleep_forever()
        self.sent += item

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        if not self.lines:
            await anyio.sleep_forever()
        return self.lines.pop(0)

    async def aclose(self) -> None:
        self.closed += 1

    async def connect(self) -> ByteStream:
        return self


class TestServerStream:
    async def test_messages_then_the_end(self, listening: Listening) -> None:
        """OK just ends the iteration, and it stays ended."""
        async with (
            listening(says(reply(b"a", b"", b"c"))) as connect,
            server_stream(connect, "/S/M", b"ask") as stream,
        ):
            assert [b"a", b"", b"c"] == [m async for m in stream]
            assert [] == [m async for m in stream]

    async def test_messages_then_an_error(self, listening: Listening) -> None:
        """Messages first, then what it ended with, and that again."""
        async with listening(says(reply(b"a", trailers=[("grpc-status", "14")]))) as connect:
            async with server_stream(connect, "/S/M", b"ask") as stream:
                assert b"a" == await anext(stream)
                for _ in range(2):
                    with pytest.raises(StatusError, match="UNAVAILABLE"):
                        await anext(stream)

    @pytest.mark.parametrize("said", [b"", settings(), OPENING])
    async def test_deadline_of_the_first_message(self, listening: Listening, said: bytes) -> None:
        """It holds until the first message."""
        async with listening(says(said) if said else silence) as connect:
            with anyio.fail_after(20), pytest.raises(UnavailableError, match="no answer to /S/M within 0.1 s"):
                async with server_stream(connect, "/S/M", b"", timeout_first=0.1) as stream:
                    await anext(stream)

    async def test_no_deadline_after_the_first_message(self, listening: Listening) -> None:
        """A stream may be silent for as long as it likes after that."""

        async def peer(stream: ByteStream) -> None:
            await stream.send(OPENING + data(message(b"a")))
            await late.wait()
            await stream.send(data(message(b"b")))
            await Reader(stream).until_eof()

        late = anyio.Event()
        async with listening(peer) as connect, server_stream(connect, "/S/M", b"", timeout_first=5) as stream:
            assert b"a" == await anext(stream)
            stream._deadline = anyio.current_time() - 1  # type: ignore[attr-defined]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.wait_all_tasks_blocked)
                late.set()
            assert b"b" == await anext(stream)

    async def test_deadline_while_connecting(self) -> None:
        """Connecting counts."""
        with pytest.raises(UnavailableError, match="within 0.01 s"):
            async with server_stream(never_connects, "/S/M", b"", timeout_first=0.01):
                pass

    async def test_deadline_while_sending(self) -> None:
        """Sending counts, and what was opened is closed."""
        stuck = Scripted([], stuck_after=0)
        with pytest.raises(UnavailableError, match="within 0.01 s"):
            async with server_stream(stuck.connect, "/S/M", b"", timeout_first=0.01):
                pass

        assert 1 == stuck.closed

    async def test_cannot_connect(self) -> None:
        """The connector's own error is the caller's."""
        with pytest.raises(UnavailableError, match="nobody there"):
            async with server_stream(refuses_to_connect, "/S/M", b""):
                pass

    async def test_error_in_the_body(self, listening: Listening) -> None:
        """The caller's own error comes out as it is, not in a group."""
        async with listening(says(OPENING + data(message(b"a")))) as connect:
            with pytest.raises(KeyError):
                async with server_stream(connect, "/S/M", b"") as stream:
                    await anext(stream)
                    raise KeyError

    async def test_closed_in_the_middle(self, listening: Listening) -> None:
        """While the server is sending at full speed: at once, and the server is told."""
        told: list[type] = []

        async def peer(stream: ByteStream) -> None:
            reader = Reader(stream)
            await stream.send(OPENING)
            try:
                while True:
                    await stream.send(data(message(b"x" * 10_000)))
                    await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                gone.set()

        gone = anyio.Event()
        async with listening(peer) as connect:
            with anyio.fail_after(20):
                async with server_stream(connect, "/S/M", b"") as stream:
                    await anext(stream)
                await gone.wait()

    async def test_closed_while_a_task_is_waiting(self, listening: Listening) -> None:
        """The one who waits is told."""
        async with listening(says(OPENING)) as connect, anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(UnavailableError, match="closed on this side"):
                    await anext(stream)

            async with server_stream(connect, "/S/M", b"") as stream:
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()

    async def test_used_after_closing(self, listening: Listening) -> None:
        """A typed error, not a hang."""
        async with listening(says(OPENING)) as connect:
            async with server_stream(connect, "/S/M", b"") as stream:
                pass
            with pytest.raises(UnavailableError, match="closed on this side"):
                await anext(stream)

    async def test_waiting_may_be_given_up_and_resumed(self, listening: Listening) -> None:
        """Nothing is lost when a wait for a message is cancelled, in the middle of it neither."""

        async def peer(stream: ByteStream) -> None:
            answer = settings() + ping() + headers(OK_HEADERS) + data(message(b"hello"))
            for i in range(len(answer)):
                await turn.wait()
                await stream.send(answer[i : i + 1])
            await Reader(stream).until_eof()

        turn = anyio.Event()
        async with listening(peer) as connect, server_stream(connect, "/S/M", b"") as stream:
            with anyio.move_on_after(0.02):
                await anext(stream)
            turn.set()
            got = None
            while got is None:
                with anyio.CancelScope() as scope, anyio.move_on_after(0.001):
                    got = await anext(stream)
                assert not scope.cancelled_caught

            assert b"hello" == got

    async def test_going_away(self, listening: Listening) -> None:
        """A graceful GOAWAY ends a long-lived call after the message at hand, and that again."""
        said = OPENING + go_away(1, 0, b"shutdown") + data(message(b"a"))
        async with listening(says(said)) as connect, server_stream(connect, "/S/M", b"") as stream:
            assert b"a" == await anext(stream)
            for _ in range(2):
                with pytest.raises(UnavailableError, match="shutdown"):
                    await anext(stream)

    async def test_entered_twice(self, listening: Listening) -> None:
        """Each time it is a new call."""
        async with listening(says(reply(b"a"))) as connect:
            call = server_stream(connect, "/S/M", b"")
            for _ in range(2):
                async with call as stream:
                    assert [b"a"] == [m async for m in stream]


class TestKeepalive:
    async def test_dead_server(self, listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
        """No answer to a PING: the connection is dead, although nobody closed it."""
        asked: list[bytes] = []

        async def peer(stream: ByteStream) -> None:
            await stream.send(OPENING + data(message(b"a")))
            reader = Reader(stream)
            asked.append((await reader.until(PingFrame)).opaque_data)
            await reader.until_eof()
            over.set()

        over = anyio.Event()
        async with listening(peer) as connect:
            async with server_stream(connect, "/S/M", b"") as stream:
                assert b"a" == await anext(stream)
                # Not before: the server that is alive until now may be slow.
                stream._wire._keepalive = 0.01  # type: ignore[attr-defined]
                monkeypatch.setattr(_wire, "PING_ANSWER", 0.05)
                for _ in range(2):
                    with (
                        anyio.fail_after(20),
                        pytest.raises(UnavailableError, match="no answer to a PING within 0.05 s"),
                    ):
                        await anext(stream)
            with anyio.fail_after(20):
                await over.wait()
        assert 1 == len(asked)

    async def test_living_server(self, listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
        """Answers keep the call alive; asking again takes its time ("too_many_pings")."""
        monkeypatch.setattr(_wire, "PING_ANSWER", 60)
        monkeypatch.setattr(_wire, "PING_SPACING", 0.1)
        times: list[float] = []
        ask = Exchange.ping

        def noting(exchange: Exchange) -> None:
            # Here and not at the server, which may be late for one and not for the next.
            times.append(anyio.current_time())
            ask(exchange)

        async def peer(stream: ByteStream) -> None:
            await stream.send(OPENING + data(message(b"a")))
            reader = Reader(stream)
            for _ in range(3):
                asked = await reader.until(PingFrame)
                await stream.send(ping(asked.opaque_data, ack=True))
            await stream.send(data(message(b"b")) + headers(OK_TRAILERS, end=True))
            await reader.until_eof()

        monkeypatch.setattr(Exchange, "ping", noting)
        async with listening(peer) as connect, server_stream(connect, "/S/M", b"") as stream:
            assert b"a" == await anext(stream)
            stream._wire._keepalive = 0.01  # type: ignore[attr-defined]
            assert [b"b"] == [m async for m in stream]
        assert len(times) >= 3
        assert all(later - earlier > 0.09 for earlier, later in pairwise(times))

    async def test_data_in_between(self, listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a message a server may be asked soon again."""
        monkeypatch.setattr(_wire, "PING_ANSWER", 60)
        monkeypatch.setattr(_wire, "PING_SPACING", 3600)

        async def peer(stream: ByteStream) -> None:
            reader = Reader(stream)
            await stream.send(OPENING)
            for _ in range(3):
                await stream.send(data(message(b"a")))
                await stream.send(ping((await reader.until(PingFrame)).opaque_data, ack=True))
            await stream.send(headers(OK_TRAILERS, end=True))
            await reader.until_eof()

        async with listening(peer) as connect, server_stream(connect, "/S/M", b"", keepalive=0.01) as stream:
            with anyio.fail_after(20):
                assert [b"a"] * 3 == [m async for m in stream]

    async def test_never(self) -> None:
        """None never asks."""
        quiet = Scripted([OPENING])
        async with server_stream(quiet.connect, "/S/M", b"", keepalive=None) as stream:
            with anyio.move_on_after(0.05):
                await anext(stream)

        assert b"" == quiet.sent[quiet.sent.index(b"spiffe-c") :] if b"spiffe-c" in quiet.sent else True

    async def test_server_that_does_not_take_our_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Attack: PINGs to answer, and nobody reads the answers."""
        monkeypatch.setattr(_wire, "PROMPT", 0.02)
        stuck = Scripted([OPENING + ping()], stuck_after=1)
        async with server_stream(stuck.connect, "/S/M", b"", keepalive=None) as stream:
            with anyio.fail_after(20), pytest.raises(UnavailableError, match="did not take what was written"):
                await anext(stream)
        assert 1 == stuck.closed

    async def test_closing_does_not_wait_for_it_either(self) -> None:
        """Saying goodbye is a courtesy."""
        stuck = Scripted([OPENING], stuck_after=1)
        with anyio.fail_after(20):
            async with server_stream(stuck.connect, "/S/M", b""):
                pass
        assert 1 == stuck.closed
