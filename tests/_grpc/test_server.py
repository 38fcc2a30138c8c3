"""Our server against clients that do everything real ones do and do not."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest
from anyio.abc import ByteStream
from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from spiffe_client._grpc._h2 import WINDOW
from spiffe_client._grpc import Call, Limits, Server, Status, StatusError, _session
from tests.support.grpc_scripts import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PREFACE,
    Listening,
    Reader,
    data,
    frame,
    go_away,
    headers,
    message,
    ping,
    request,
    reset,
    settings,
    window_update,
)

pytestmark = pytest.mark.anyio

HELLO = PREFACE + settings()
Answer = tuple[dict[str, str], bytes, dict[str, str]]
Open = Callable[[], AbstractAsyncContextManager["Client"]]


class Handlers:
    """What the server under test does, and what it saw."""

    def __init__(self) -> None:
        self.calls: list[Call[str]] = []
        self.started = 0
        self.closed = 0
        self.crashes: list[Exception] = []
        self.produced = 0

    async def echo(self, call: Call[str]) -> AsyncIterator[bytes]:
        self.calls.append(call)
        yield call.request

    async def nothing(self, call: Call[str]) -> AsyncIterator[bytes]:
        return
        yield b""

    async def denied(self, call: Call[str]) -> AsyncIterator[bytes]:
        raise StatusError(Status.PERMISSION_DENIED, "nö\n100%")
        yield b""

    async def half(self, call: Call[str]) -> AsyncIterator[bytes]:
        yield b"half"
        raise StatusError(42)

    async def crash(self, call: Call[str]) -> AsyncIterator[bytes]:
        raise KeyError("a bug")
        yield b""

    async def forever(self, call: Call[str]) -> AsyncIterator[bytes]:
        self.started += 1
        try:
            yield b"first"
            await anyio.sleep_forever()
        finally:
            self.closed += 1

    async def stubborn(self, call: Call[str]) -> AsyncIterator[bytes]:
        self.started += 1
        try:
            await anyio.sleep_forever()
        finally:
            self.closed += 1
            with anyio.CancelScope(shield=True):
                await self.release.wait()
            raise KeyError("while being closed")
        yield b""

    async def flood(self, call: Call[str]) -> AsyncIterator[bytes]:
        while True:
            self.produced += 1
            yield bytes(100_000)

    def no_generator(self, call: Call[str]) -> AsyncIterator[bytes]:
        class Once:
            def __init__(self) -> None:
                self.left = [b"once"]

            def __aiter__(self) -> AsyncIterator[bytes]:
                return self

            async def __anext__(self) -> bytes:
                if not self.left:
                    raise StopAsyncIteration
                return self.left.pop()

        return Once()


class Client:
    """Speaks raw HTTP/2 and understands the answers."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.reader = Reader(stream)
        self.decoder = Decoder()
        self.decoded: dict[int, list[dict[str, str]]] = {}
        self._seen = 0

    async def send(self, *parts: bytes) -> None:
        await self.stream.send(b"".join(parts))

    async def until(self, kind: type[Frame]) -> Frame:
        with anyio.fail_after(10):
            return await self.reader.until(kind)

    async def ended(self, stream_id: int = 1) -> Answer:
        """Wait for the end of a call: headers, body, trailers."""
        with anyio.fail_after(10):
            while not any(f.stream_id == stream_id and "END_STREAM" in f.flags for f in self.reader.frames):
                await self.reader._more()
        for f in self.reader.frames[self._seen :]:
            self._seen += 1
            if isinstance(f, HeadersFrame):
                self.decoded.setdefault(f.stream_id, []).append(dict(self.decoder.decode(f.data)))
        body = b"".join(
            f.data for f in self.reader.frames if isinstance(f, DataFrame) and f.stream_id == stream_id
        )
        blocks = self.decoded[stream_id]
        return blocks[0], body, blocks[-1]

    async def alive(self) -> None:
        """The connection still works, and all before was handled."""
        await self.send(ping(b"are you?"))
        while (await self.until(PingFrame)).opaque_data != b"are you?":
            pass

    async def hung_up(self) -> str:
        """Wait until the server closes; return what it said, if anything."""
        with anyio.fail_after(10):
            sent = await self.reader.until_eof()
        return next((f.additional_data.decode() for f in reversed(sent) if isinstance(f, GoAwayFrame)), "")


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def open_client(handlers: Handlers, listening: Listening, request: pytest.FixtureRequest) -> Open:
    limits = getattr(request, "param", Limits(message=200_000, headers=2000, streams=10))

    @asynccontextmanager
    async def opened() -> AsyncIterator[Client]:
        handlers.release = anyio.Event()
        names = ("echo", "nothing", "denied", "half", "forever", "stubborn", "flood", "no_generator", "crash")
        server = Server(
            {f"/S/{name.title()}": getattr(handlers, name) for name in names},
            limits=limits,
            crashed=lambda call, error: handlers.crashes.append(error),
        )
        async with listening(lambda stream: server.serve_connection(stream, "peer")) as connect:
            async with await connect() as stream:
                yield Client(stream)

    return opened


def grpc(answer: Answer) -> tuple[bytes, str, str | None]:
    """Body, status, words."""
    first, body, last = answer
    assert ("200", "application/grpc") == (first[":status"], first["content-type"])
    return body, last["grpc-status"], last.get("grpc-message")


async def eventually(condition: Callable[[], bool]) -> None:
    """Let others run until it holds."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


class TestCalls:
    async def test_one(self, open_client: Open, handlers: Handlers) -> None:
        """Headers, the message, trailers."""
        async with open_client() as client:
            await client.send(
                HELLO,
                request("/S/Echo", b"hi", extra=[("workload.spiffe.io", "true"), ("x", "1"), ("x", "2")]),
            )

            assert (message(b"hi"), "0", None) == grpc(await client.ended())
        (call,) = handlers.calls
        assert ("/S/Echo", b"hi", "peer") == (call.path, call.request, call.peer)
        assert {
            "te": "trailers",
            "content-type": "application/grpc",
            "workload.spiffe.io": "true",
            "x": "1,2",
        } == call.metadata

    async def test_byte_by_byte(self, open_client: Open) -> None:
        """However the network cuts it."""
        async with open_client() as client:
            for byte in HELLO + request("/S/Echo", b"hi"):
                await client.send(bytes([byte]))

            assert (message(b"hi"), "0", None) == grpc(await client.ended())

    async def test_many_on_one_connection(self, open_client: Open) -> None:
        """At once, one after the other, interleaved."""
        encoder = Encoder()

        def call(i: int) -> bytes:
            fields = [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/S/Echo"),
                (":authority", "x"),
                ("te", "trailers"),
            ]
            return headers([*fields, ("content-type", "application/grpc")], stream_id=i, encoder=encoder)

        async with open_client() as client:
            await client.send(HELLO, *(call(i) for i in range(1, 20, 2)))
            for part in range(7):
                await client.send(
                    *(
                        data(message(b"%02d" % i)[part : part + 1], stream_id=i, end=part == 6)
                        for i in range(1, 20, 2)
                    )
                )
            for i in range(1, 20, 2):
                assert (message(b"%02d" % i), "0", None) == grpc(await client.ended(i))
            for i in range(21, 221, 2):
                await client.send(call(i), data(message(b"x"), stream_id=i, end=True))
                assert (message(b"x"), "0", None) == grpc(await client.ended(i))

    async def test_trailers_of_the_request(self, open_client: Open) -> None:
        """A request may end with trailers."""
        async with open_client() as client:
            encoder = Encoder()
            await client.send(
                HELLO, request("/S/Echo", b"hi", end=False), headers([("x", "y")], end=True, encoder=encoder)
            )

            assert (message(b"hi"), "0", None) == grpc(await client.ended())

    async def test_big_headers(self, open_client: Open) -> None:
        """In as many frames as it takes."""
        async with open_client() as client:
            fields = [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/S/Echo"),
                (":authority", "x"),
                ("content-type", "application/grpc"),
            ]
            await client.send(
                HELLO, headers([*fields, ("x", "y" * 1000)], pieces=50), data(message(b"hi"), end=True)
            )

            assert (message(b"hi"), "0", None) == grpc(await client.ended())

    async def test_without_messages(self, open_client: Open) -> None:
        """OK as trailers only."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Nothing", b""))

            assert (b"", "0", None) == grpc(await client.ended())

    async def test_status(self, open_client: Open) -> None:
        """Trailers only, with words in percent-encoding."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Denied", b""))

            assert (b"", "7", "n%C3%B6%0A100%25") == grpc(await client.ended())

    async def test_status_after_messages(self, open_client: Open) -> None:
        """Any number will do."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Half", b""))

            assert (message(b"half"), "42", None) == grpc(await client.ended())

    async def test_handler_that_is_no_generator(self, open_client: Open) -> None:
        """Any iterator will do."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/No_Generator", b""))

            assert (message(b"once"), "0", None) == grpc(await client.ended())

    async def test_handler_with_a_bug(self, open_client: Open, handlers: Handlers) -> None:
        """Its call ends, the connection lives, the owner is told, the client is not."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Crash", b""))
            assert (b"", "2", "the handler failed") == grpc(await client.ended())
            await client.alive()

        assert [KeyError] == [type(e) for e in handlers.crashes]

    async def test_bug_is_logged(self, listening: Listening, caplog: pytest.LogCaptureFixture) -> None:
        """Unless the owner wants to be told otherwise."""
        server = Server({"/S/Crash": Handlers().crash})
        async with listening(lambda stream: server.serve_connection(stream, "peer")) as connect:
            async with await connect() as stream:
                client = Client(stream)
                await client.send(HELLO, request("/S/Crash", b""))
                await client.ended()

        (record,) = caplog.records
        assert ("spiffe_client.grpc", logging.ERROR, "handler of /S/Crash failed") == (
            record.name,
            record.levelno,
            record.getMessage(),
        )

    async def test_deadline_of_the_client(self, open_client: Open, handlers: Handlers) -> None:
        """The server keeps it, too (gRPC over HTTP/2, Timeout)."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Forever", b"", extra=[("grpc-timeout", "20m")]))

            assert (message(b"first"), "4", "the client's deadline has passed") == grpc(await client.ended())
        assert 1 == handlers.closed

    @pytest.mark.parametrize(
        "timeout", ["1H", "1M", "99S", "9000000u", "99999999n", "soon", "1", "123456789m", "-1S"]
    )
    async def test_deadlines_that_are_far_or_nonsense(self, open_client: Open, timeout: str) -> None:
        """All units; nonsense is no deadline."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Echo", b"hi", extra=[("grpc-timeout", timeout)]))

            assert (message(b"hi"), "0", None) == grpc(await client.ended())


class TestRefusals:
    @pytest.mark.parametrize("body", [None, b"x" * 100_000])
    @pytest.mark.parametrize("end", [True, False])
    async def test_unknown_method(self, open_client: Open, body: bytes | None, end: bool) -> None:
        """At once, without waiting for the request."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Nope", body, end=end))

            assert (b"", "12", "unknown method /S/Nope") == grpc(await client.ended())
            if not end:
                assert 0 == (await client.until(RstStreamFrame)).error_code
            await client.alive()

    @pytest.mark.parametrize(
        ("method", "kind", "status"),
        [
            ("GET", "application/grpc", "405"),
            ("POST", "application/json", "415"),
            ("POST", "application/grpc-web", "415"),
            ("POST", "", "415"),
        ],
    )
    async def test_no_grpc(self, open_client: Open, method: str, kind: str, status: str) -> None:
        """A plain HTTP status (gRPC over HTTP/2, Content-Type)."""
        async with open_client() as client:
            fields = [
                (":method", method),
                (":scheme", "http"),
                (":path", "/S/Echo"),
                (":authority", "x"),
                ("content-type", kind),
            ]
            await client.send(HELLO, headers(fields, end=method == "GET"))

            assert {":status": status} == (await client.ended())[0]
            await client.alive()

    @pytest.mark.parametrize(
        ("body", "status", "words"),
        [
            (b"", "13", "the request ended before its message did"),
            (message(b"abc")[:-1], "13", "the request ended before its message did"),
            (message(b"abc") + b"\0", "13", "the request ended before its message did"),
            (message(b"a") + message(b"b"), "12", "more than one request message"),
            (message(b"a", flag=1), "13", "compressed message (flag 1), which nobody asked for"),
            (message(b"x" * 200_001), "8", "message of 200001 bytes is over the limit of 200000"),
        ],
    )
    async def test_bad_request(self, open_client: Open, body: bytes, status: str, words: str) -> None:
        """Each with its status; the connection lives on."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Echo", end=False), data(body[:5]))
            await client.send(data(body[5:][:50_000], end=True))

            assert (b"", status, words) == grpc(await client.ended())
            await client.alive()

    async def test_oversized_message_is_refused_by_its_prefix(self, open_client: Open) -> None:
        """Attack: announce 4 GiB. The answer comes before anything of it has."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Echo", end=False), data(b"\0\xff\xff\xff\xff"))

            assert "8" == grpc(await client.ended())[1]
            assert 0 == (await client.until(RstStreamFrame)).error_code
            await client.send(data(b"x" * 1000))
            await client.alive()

    async def test_too_many_calls(self, open_client: Open, handlers: Handlers) -> None:
        """h2 holds a client to what it was told."""
        async with open_client() as client:
            await client.send(HELLO, *(request("/S/Forever", b"", stream_id=i) for i in range(1, 23, 2)))

            assert "bound streams is 10" in await client.hung_up()


class TestGivingUp:
    async def test_reset(self, open_client: Open, handlers: Handlers) -> None:
        """The handler is cancelled, other calls go on."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Forever", b""), request("/S/Forever", b"", stream_id=3))
            await client.until(DataFrame)
            await client.until(DataFrame)
            await client.send(reset(8))
            await client.alive()
            await eventually(lambda: (handlers.started, handlers.closed) == (2, 1))

    async def test_reset_before_the_request_is_complete(self, open_client: Open, handlers: Handlers) -> None:
        """There is nothing to cancel."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Forever", b"", end=False), reset(8), reset(8, stream_id=3))
            await client.alive()
            await client.send(request("/S/Echo", b"hi", stream_id=3))

            assert (message(b"hi"), "0", None) == grpc(await client.ended(3))
        assert 0 == handlers.started

    async def test_reset_after_the_answer(self, open_client: Open) -> None:
        """It does not matter."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Echo", b"hi"))
            await client.ended()
            await client.send(reset(8))
            await client.alive()

    async def test_reset_while_waiting_for_room(self, open_client: Open, handlers: Handlers) -> None:
        """A handler that waits for its slow client to read is cancelled, too."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Flood", b""))
            await anyio.wait_all_tasks_blocked()
            await client.send(reset(8))
            await client.alive()

    async def test_connection_closed(self, open_client: Open, handlers: Handlers) -> None:
        """All its handlers are cancelled."""
        async with open_client() as client:
            await client.send(HELLO, *(request("/S/Forever", b"", stream_id=i) for i in range(1, 11, 2)))
            for _ in range(5):
                await client.until(DataFrame)
            await client.stream.aclose()
            await eventually(lambda: (handlers.started, handlers.closed) == (5, 5))

    async def test_server_stopped(self, open_client: Open, handlers: Handlers) -> None:
        """All handlers are cancelled, and their clean-up runs."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Forever", b""))
            await client.until(DataFrame)

        assert (1, 1) == (handlers.started, handlers.closed)

    async def test_data_after_the_end(self, open_client: Open, handlers: Handlers) -> None:
        """An error of that call only (RFC 9113 §5.1, half-closed)."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Echo", b"hi") + data(b"more"))
            assert 5 == (await client.until(RstStreamFrame)).error_code
            await client.alive()
        assert [] == handlers.crashes

    async def test_go_away(self, open_client: Open) -> None:
        """Calls under way go on (RFC 9113 §6.8)."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Echo", b"hi", end=False), go_away(0), data(b"", end=True))

            assert (message(b"hi"), "0", None) == grpc(await client.ended())


class TestFlowControl:
    @pytest.mark.parametrize("open_client", [Limits(message=10**7)], indirect=True)
    async def test_larger_than_all_windows(self, open_client: Open) -> None:
        """In both directions (RFC 9113 §5.2)."""
        body = bytes(range(256)) * 8000
        async with open_client() as client, anyio.create_task_group() as tasks:
            await client.send(HELLO, request("/S/Echo", end=False))

            async def send() -> None:
                window, rest = WINDOW, message(body)
                seen = 0
                while rest:
                    updates = [
                        f
                        for f in client.reader.frames
                        if isinstance(f, WindowUpdateFrame) and f.stream_id == 1
                    ]
                    window += sum(f.window_increment for f in updates[seen:])
                    seen = len(updates)
                    piece, rest = rest[: min(window, 16384)], rest[min(window, 16384) :]
                    window -= len(piece)
                    if piece:
                        await client.send(data(piece, end=not rest))
                    else:
                        await client.reader._more()

            await send()
            got = b""
            while len(got) < len(body) + 5:
                piece = (await client.until(DataFrame)).data
                got += piece
                if piece:
                    await client.send(window_update(len(piece)), window_update(len(piece), stream_id=1))

            assert (message(body), "0", None) == grpc(await client.ended())

    async def test_slow_consumer(self, open_client: Open, handlers: Handlers) -> None:
        """A handler produces no more than the client has room for."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Flood", b""))
            await anyio.wait_all_tasks_blocked()

            assert 1 == handlers.produced
            await client.send(window_update(250_000), window_update(250_000, stream_id=1))
            while handlers.produced < 4:
                await client.until(DataFrame)
            await anyio.wait_all_tasks_blocked()
            assert 4 == handlers.produced

    async def test_client_that_makes_room_and_does_not_read(
        self, open_client: Open, handlers: Handlers
    ) -> None:
        """Attack: unbounded windows and no reading. What waits to be sent is bounded by the socket."""
        async with open_client() as client:
            await client.send(
                PREFACE, settings([(4, 2**31 - 1)]), window_update(2**31 - 65536), request("/S/Flood", b"")
            )
            before = -1
            while before != handlers.produced:
                before = handlers.produced
                await anyio.wait_all_tasks_blocked()

            assert handlers.produced < 200

    async def test_window_that_shrinks_below_zero(self, open_client: Open) -> None:
        """The server waits (RFC 9113 §6.9.2)."""
        async with open_client() as client:
            await client.send(
                HELLO, request("/S/Echo", b"x" * 60_000, end=False), settings([(4, 10)]), data(b"", end=True)
            )
            await client.alive()
            await client.send(window_update(100, stream_id=1), settings([(4, 100_000)]))

            assert message(b"x" * 60_000) == (await client.ended())[1]

    async def test_smallest_windows(self, open_client: Open) -> None:
        """One byte at a time is slow and right."""
        async with open_client() as client:
            await client.send(PREFACE, settings([(4, 1)]), request("/S/Echo", b"hello"))
            for _ in range(9):
                assert 1 == len((await client.until(DataFrame)).data)
                await client.send(window_update(1, stream_id=1))

            assert (message(b"hello"), "0", None) == grpc(await client.ended())


class TestAttacks:
    @pytest.mark.parametrize(
        ("flood", "words"),
        [
            (ping(), "flood"),  # CVE-2019-9512
            (settings([(4, 65535)]), "flood"),  # CVE-2019-9515
            (frame(DATA, b""), "flood"),  # CVE-2019-9518
            (frame(2, b"\0\0\0\0\1", stream_id=3), "flood"),  # CVE-2019-9513
            (reset(8, stream_id=1), "flood"),  # CVE-2019-9514
        ],
    )
    async def test_floods(self, open_client: Open, flood: bytes, words: str) -> None:
        """A connection that only makes work is closed, and told why."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Forever", b"", end=False), flood * 300)

            assert words in await client.hung_up()

    async def test_rapid_reset(self, open_client: Open, handlers: Handlers) -> None:
        """CVE-2023-44487: open and reset calls without end."""
        encoder = Encoder()
        call = headers(
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/S/Stubborn"),
                (":authority", "x"),
                ("content-type", "application/grpc"),
            ],
            encoder=encoder,
        )
        again = headers(
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/S/Stubborn"),
                (":authority", "x"),
                ("content-type", "application/grpc"),
            ],
            encoder=encoder,
        )

        def attempt(i: int) -> bytes:
            opened = call if i == 1 else again
            opened = opened[:5] + i.to_bytes(4, "big") + opened[9:]
            return opened + data(message(b""), stream_id=i, end=True) + reset(8, stream_id=i)

        async with open_client() as client:
            await client.send(HELLO)
            refused = 0
            for i in range(1, 101, 2):
                await client.send(attempt(i))
            await client.alive()
            refused = len(
                [f for f in client.reader.frames if isinstance(f, RstStreamFrame) and f.error_code == 7]
            )
            assert handlers.started <= 10
            assert refused >= 40

            await client.send(b"".join(attempt(i) for i in range(101, 1001, 2)))
            handlers.release.set()
            assert "flood" in await client.hung_up()

    @pytest.mark.parametrize(
        ("attack", "words"),
        [
            (frame(HEADERS, b"") + frame(CONTINUATION, b"") * 80, "Too many continuation frames"),
            (
                frame(HEADERS, b"\0" * 1000) + frame(CONTINUATION, b"\0" * 1001),
                "header block is over the limit",
            ),  # CVE-2024-27316
            (frame(DATA, bytes(20_000)), "over the limit"),
            (
                headers([(":method", "POST"), ("x", "y" * 600), *[("x", "y" * 600)] * 9]),
                "Oversized header block",
            ),  # CVE-2016-6581
            (settings([(i, 1) for i in range(100)]), "over the limit"),
            (window_update(2**31 - 1), "window"),
            (request("/S/Echo", b"hi", stream_id=2), "Invalid stream ID"),
            (frame(CONTINUATION, b"x", flags=END_HEADERS, stream_id=5), "broken HTTP/2"),
            (headers([(":method", "POST"), (":path", "/S/Echo")]), "broken HTTP/2"),
            (data(b"x", stream_id=0), "broken HTTP/2"),
        ],
    )
    async def test_broken(self, open_client: Open, attack: bytes, words: str) -> None:
        """The connection is closed, and told why."""
        async with open_client() as client:
            await client.send(HELLO, attack)

            assert words in await client.hung_up()

    @pytest.mark.parametrize(
        "start", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b"\0" * 30, PREFACE + ping()]
    )
    async def test_something_else(self, open_client: Open, start: bytes) -> None:
        """No HTTP/2, no answer but a GOAWAY."""
        async with open_client() as client:
            await client.send(start)

            assert "does not speak HTTP/2" in await client.hung_up()

    async def test_calls_under_way_are_stopped(self, open_client: Open, handlers: Handlers) -> None:
        """A broken connection stops its handlers, and no handler is blamed for it."""
        async with open_client() as client:
            await client.send(HELLO, request("/S/Forever", b""), request("/S/Flood", b"", stream_id=3))
            await client.until(DataFrame)
            await client.send(frame(CONTINUATION, b"x", flags=END_HEADERS, stream_id=5))
            await client.hung_up()

            assert (1, 1) == (handlers.started, handlers.closed)
        assert [] == handlers.crashes

    async def test_attacker_that_does_not_read_the_reason(
        self, open_client: Open, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is disconnected all the same."""
        monkeypatch.setattr(_session, "GOODBYE", 0.01)
        async with open_client() as client:
            await client.send(
                PREFACE, settings([(4, 2**31 - 1)]), window_update(2**31 - 65536), request("/S/Flood", b"")
            )
            before = -1
            while before != handlers.produced:
                before = handlers.produced
                await anyio.wait_all_tasks_blocked()
            await client.send(frame(CONTINUATION, b"x", flags=END_HEADERS, stream_id=5))
            assert isinstance(await client.hung_up(), str)

    async def test_memory_for_headers(self, open_client: Open, handlers: Handlers) -> None:
        """Attack: offer a huge header table, so that the server remembers all it ever sent."""
        async with open_client() as client:
            await client.send(PREFACE, settings([(1, 2**31)]))
            for i in range(1, 41, 2):
                await client.send(request(f"/S/{'n' * 500}{i}", b"", stream_id=i))
                await client.until(HeadersFrame)
            client.decoder.max_allowed_table_size = 2**31
            for i in range(1, 41, 2):
                assert "12" == grpc(await client.ended(i))[1]
            assert 4096 == client.decoder.header_table.maxsize

    async def test_ping_is_answered(self, open_client: Open) -> None:
        """With the same bytes."""
        async with open_client() as client:
            await client.send(HELLO, ping(b"abcdefgh"))

            assert b"abcdefgh" == (await client.until(PingFrame)).opaque_data

    async def test_settings(self, open_client: Open) -> None:
        """The server says what it takes."""
        async with open_client() as client:
            await client.send(HELLO)
            said = await client.until(SettingsFrame)

            assert (10, 2000) == (said.settings[3], said.settings[6])
            assert "ACK" in (await client.until(SettingsFrame)).flags
