"""One call from the client's side, against servers that do everything real ones do and do not."""

from __future__ import annotations

import pytest
from hpack import Encoder
from hypothesis import example, given, settings as hypothesis_settings
from hypothesis import strategies as st
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from spiffe_client._grpc._exchange import Exchange
from spiffe_client._grpc._h2 import WINDOW
from spiffe_client._grpc._limits import Limits
from spiffe_client._grpc._status import Status, StatusError
from spiffe_client.errors import ProtocolError, UnavailableError
from tests.support.grpc_scripts import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    OK_HEADERS,
    OK_TRAILERS,
    PADDED,
    PUSH_PROMISE,
    data,
    frame,
    frames,
    go_away,
    headers,
    message,
    ping,
    reply,
    reset,
    settings,
    window_update,
)

LIMITS = Limits(message=1000, headers=2000, details=50)


def exchange(request: bytes = b"ask", *, timeout: float | None = None, limits: Limits = LIMITS) -> Exchange:
    return Exchange("/S/M", request, [("workload.spiffe.io", "true")], timeout, limits)


def sent_by(made: Exchange) -> bytes:
    """All that an exchange wants to send now."""
    return b"".join(iter(made.data_to_send, b""))


def after(*parts: bytes, limits: Limits = LIMITS) -> Exchange:
    """An exchange that has received this, in one piece."""
    made = exchange(limits=limits)
    sent_by(made)
    made.receive(b"".join(parts), now=0)
    return made


def end_of(*parts: bytes) -> Exception | None:
    """How an exchange ended that received this."""
    made = after(*parts)
    assert made.ended
    return made.error


class TestRequest:
    def test_on_the_wire(self) -> None:
        """Preface, SETTINGS, window, headers, one message, end of stream (gRPC over HTTP/2, Requests)."""
        sent = sent_by(exchange(b"ask", timeout=1.5))
        fields = [*_decoded(sent)]

        assert sent.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert [SettingsFrame, WindowUpdateFrame, HeadersFrame, DataFrame] == [type(f) for f in frames(sent)]
        assert [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/S/M"),
            (b":authority", b"localhost"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", b"grpc-python-spiffe-client"),
            (b"grpc-timeout", b"1500m"),
            (b"workload.spiffe.io", b"true"),
        ] == fields
        last = frames(sent)[-1]
        assert (message(b"ask"), {"END_STREAM"}) == (last.data, set(last.flags))

    @pytest.mark.parametrize(
        ("timeout", "sent"),
        [
            (0, b"1m"),
            (-1, b"1m"),
            (0.0001, b"1m"),
            (2, b"2000m"),
            (1e9, b"99999999m"),
            (float("inf"), b"99999999m"),
        ],
    )
    def test_timeout_has_one_to_eight_digits(self, timeout: float, sent: bytes) -> None:
        """TimeoutValue of the specification."""
        assert (b"grpc-timeout", sent) in _decoded(sent_by(exchange(timeout=timeout)))

    def test_larger_than_the_window(self) -> None:
        """It waits for the server to make room, and is cut into frames (RFC 9113 §6.9)."""
        made = exchange(b"x" * 200_000)
        sent = sent_by(made)
        assert 65535 == sum(len(f.data) for f in frames(sent) if isinstance(f, DataFrame))
        assert made.sending

        made.receive(settings() + window_update(100_000) + window_update(10, stream_id=1), now=0)
        sent += sent_by(made)
        assert 65545 == sum(len(f.data) for f in frames(sent) if isinstance(f, DataFrame))

        made.receive(window_update(200_000) + window_update(200_000, stream_id=1), now=0)
        sent += sent_by(made)
        pieces = [f for f in frames(sent) if isinstance(f, DataFrame)]
        assert message(b"x" * 200_000) == b"".join(f.data for f in pieces)
        assert max(len(f.data) for f in pieces) <= 16384
        assert ["END_STREAM" in f.flags for f in pieces] == [False] * (len(pieces) - 1) + [True]
        assert not made.sending

    def test_window_that_shrinks_below_zero(self) -> None:
        """A SETTINGS change may make the window negative (RFC 9113 §6.9.2)."""
        made = exchange(b"x" * 200_000)
        sent_by(made)
        made.receive(settings([(4, 100)]) + window_update(1_000_000), now=0)
        assert [] == [f for f in frames(sent_by(made)) if isinstance(f, DataFrame)]

        made.receive(window_update(1_000_000, stream_id=1), now=0)
        sent_by(made)
        assert not made.sending

    def test_reply_before_all_is_sent(self) -> None:
        """A server may answer and reset before it has read it all (RFC 9113 §8.1)."""
        made = exchange(b"x" * 200_000)
        made.receive(reply(b"enough") + reset(0), now=0)

        assert b"enough" == made.only_message()
        assert not made.sending


class TestReply:
    def test_message_and_trailers(self) -> None:
        """The ordinary case."""
        made = after(reply(b"answer"))

        assert made.ended
        assert b"answer" == made.only_message()

    @pytest.mark.parametrize(
        "answer",
        [reply(b"a" * 300, b"", b"b" * 700), reply(trailers=[("grpc-status", "5"), ("grpc-message", "no")])],
    )
    def test_cut_at_any_byte(self, answer: bytes) -> None:
        """One byte at a time makes no difference."""
        whole, pieces = after(answer), exchange()
        for i in range(len(answer)):
            assert not pieces.ended
            pieces.receive(answer[i : i + 1], now=0)

        assert (whole.messages, str(whole.error)) == (pieces.messages, str(pieces.error))
        assert pieces.ended

    def test_several_messages_in_one_frame(self) -> None:
        """Frames and messages have nothing to do with each other."""
        made = after(settings(), headers(OK_HEADERS), data(b"".join(map(message, [b"a", b"b", b"c"]))))

        assert [b"a", b"b", b"c"] == list(made.messages)
        assert not made.ended

    def test_message_over_many_frames(self) -> None:
        """One byte in each DATA frame."""
        body = b"".join(data(message(b"hello")[i : i + 1]) for i in range(10))

        assert [b"hello"] == list(after(settings(), headers(OK_HEADERS), body).messages)

    def test_padding(self) -> None:
        """Padded frames are read, and the padding is given back to the window (RFC 9113 §6.1)."""
        padded = frame(DATA, bytes([200]) + message(b"x") + bytes(200), flags=PADDED)

        assert [b"x"] == list(after(settings(), headers(OK_HEADERS), padded).messages)

    def test_trailers_only(self) -> None:
        """An error may come as a single header block (gRPC over HTTP/2, Trailers-Only)."""
        error = end_of(
            settings(), headers([*OK_HEADERS, ("grpc-status", "7"), ("grpc-message", "no%20way")], end=True)
        )

        assert isinstance(error, StatusError)
        assert (Status.PERMISSION_DENIED, "no way") == (error.status, error.details)

    def test_trailers_only_without_content_type(self) -> None:
        """There is no content."""
        error = end_of(settings(), headers([(":status", "200"), ("grpc-status", "14")], end=True))

        assert isinstance(error, StatusError)
        assert Status.UNAVAILABLE == error.status

    def test_trailers_only_ok(self) -> None:
        """A stream without messages."""
        assert end_of(settings(), headers([*OK_HEADERS, *OK_TRAILERS], end=True)) is None

    def test_error_after_messages(self) -> None:
        """What came before the error was received."""
        made = after(reply(b"a", trailers=[("grpc-status", "13")]))

        assert [b"a"] == list(made.messages)
        with pytest.raises(StatusError, match="INTERNAL"):
            made.only_message()

    def test_error_in_the_middle_of_a_message(self) -> None:
        """The status explains why the message was cut short."""
        error = end_of(
            settings(),
            headers(OK_HEADERS),
            data(message(b"abc")[:6]),
            headers([("grpc-status", "8")], end=True),
        )

        assert isinstance(error, StatusError)

    @pytest.mark.parametrize("status", ["100", "103"])
    def test_interim_replies(self, status: str) -> None:
        """1xx may come before the real headers (RFC 9113 §8.1)."""
        interim, encoder = b"", Encoder()
        for _ in range(3):
            interim += headers([(":status", status), ("link", "x")], encoder=encoder)
        rest = (
            headers(OK_HEADERS, encoder=encoder)
            + data(message(b"x"))
            + headers(OK_TRAILERS, end=True, encoder=encoder)
        )

        assert b"x" == after(settings(), interim, rest).only_message()

    @pytest.mark.parametrize("pieces", [2, 7, 60])
    def test_continuation(self, pieces: int) -> None:
        """A header block may come in many frames (RFC 9113 §6.10)."""
        big = headers([*OK_HEADERS, ("x-big", "y" * 1000)], pieces=pieces)
        trailers = headers([*OK_TRAILERS, ("x-big", "z" * 1000)], end=True, pieces=pieces)

        assert b"x" == after(settings(), big, data(message(b"x")), trailers).only_message()

    @pytest.mark.parametrize("kind", ["application/grpc+proto", "application/grpc;charset=utf-8"])
    def test_kinds_of_grpc(self, kind: str) -> None:
        """Subtypes and parameters are gRPC, too."""
        made = after(settings(), headers([(":status", "200"), ("content-type", kind)]), data(message(b"x")))

        assert not made.ended

    @pytest.mark.parametrize(("messages", "words"), [((), "no message"), ((b"a", b"b"), "several messages")])
    def test_one_message_is_due(self, messages: tuple[bytes, ...], words: str) -> None:
        """OK without a message is no answer, and two are none either."""
        with pytest.raises(ProtocolError, match=words):
            after(reply(*messages)).only_message()

    def test_frames_of_other_kinds_are_ignored(self) -> None:
        """Unknown frames, ALTSVC, PRIORITY and their like mean nothing to us (RFC 9113 §5.5)."""
        odd = (
            frame(0x77, b"grease", stream_id=0) + frame(0xA, b"\0\0h3", stream_id=1) + frame(2, b"\0\0\0\0\1")
        )

        assert (
            b"x"
            == after(
                settings(), odd, headers(OK_HEADERS), odd, data(message(b"x")), headers(OK_TRAILERS, end=True)
            ).only_message()
        )


NONSENSE = {
    "HTTP status": (
        headers([(":status", "503"), ("content-type", "text/html")]),
        "HTTP status '503' and content-type 'text/html'",
    ),
    "HTTP status with a grpc-status": (
        headers([(":status", "403"), ("grpc-status", "0")], end=True),
        "HTTP status '403' and content-type (none)",
    ),
    "content-type": (
        headers([(":status", "200"), ("content-type", "application/json\x7f")]),
        "content-type 'application/json",
    ),
    "content-type that begins alike": (
        headers([(":status", "200"), ("content-type", "application/grpc-web")]),
        "'application/grpc-web'",
    ),
    "no content-type": (headers([(":status", "200")]), "content-type (none)"),
    "trailers-only of another kind": (
        headers([(":status", "200"), ("content-type", "text/html"), ("grpc-status", "0")], end=True),
        "text/html",
    ),
    "no grpc-status": (headers(OK_HEADERS) + headers([("x", "y")], end=True), "without a grpc-status"),
    "no trailers": (headers(OK_HEADERS) + data(message(b"x"), end=True), "without a grpc-status"),
    "headers only": (headers(OK_HEADERS, end=True), "without a grpc-status"),
    "OK in the middle of a message": (
        headers(OK_HEADERS) + data(b"\0\0\0\0\5abc") + headers(OK_TRAILERS, end=True),
        "middle of a message",
    ),
    "OK in the middle of a prefix": (
        headers(OK_HEADERS) + data(b"\0\0") + headers(OK_TRAILERS, end=True),
        "middle of a message",
    ),
    "compressed message": (headers(OK_HEADERS) + data(message(b"x", flag=1)), "compressed"),
    "oversized message": (
        headers(OK_HEADERS) + data(b"\0\0\0\x03\xe9"),
        "message of 1001 bytes is over the limit of 1000",
    ),
    "oversized headers": (headers([*OK_HEADERS, ("x", "\t" * 1900)]), "over the limit of 2000"),
    "header bomb (CVE-2016-6581)": (
        headers([*OK_HEADERS, ("x", "y" * 500)] + [("x", "y" * 500)] * 20),
        "Oversized header block",
    ),
    "data before headers": (data(message(b"x")), "broken HTTP/2"),
    "data on another stream": (headers(OK_HEADERS) + data(b"x", stream_id=3), "broken HTTP/2"),
    "headers on a stream of its own": (headers(OK_HEADERS, stream_id=2), "broken HTTP/2"),
    "pushed stream": (frame(PUSH_PROMISE, b"\0\0\0\2\x82", flags=END_HEADERS), "broken HTTP/2"),
    "interim reply that ends": (headers([(":status", "100")], end=True), "broken HTTP/2"),
    "trailers that do not end": (headers(OK_HEADERS) + headers(OK_TRAILERS), "broken HTTP/2"),
    "header block of rubbish": (
        frame(HEADERS, b"\xff\xff\xff\xff\xff\xff", flags=END_HEADERS),
        "broken HTTP/2",
    ),
    "interrupted header block": (frame(HEADERS, b"\x88") + ping(), "broken HTTP/2"),
    "naked CONTINUATION": (frame(CONTINUATION, b"\x88", flags=END_HEADERS), "broken HTTP/2"),
    "CONTINUATION flood": (frame(HEADERS, b"") + frame(CONTINUATION, b"") * 70, "broken HTTP/2"),
    "padding longer than the frame": (
        headers(OK_HEADERS) + frame(DATA, b"\xff", flags=PADDED),
        "broken HTTP/2",
    ),
    "window of zero more": (window_update(0, stream_id=0), "broken HTTP/2"),
    "window overflow": (window_update(2**31 - 1) * 2, "broken HTTP/2"),
    "settings that are not allowed": (settings([(4, 2**31)]), "broken HTTP/2"),
    "settings cut short": (frame(4, b"\0\0\0", stream_id=0), "broken HTTP/2"),
    "PING cut short": (frame(6, b"1234567", stream_id=0), "broken HTTP/2"),
    "upper-case header": (headers([*OK_HEADERS, ("X-Upper", "x")]), "broken HTTP/2"),
    "connection header": (headers([*OK_HEADERS, ("connection", "close")]), "broken HTTP/2"),
    "pseudo-header of a request": (headers([*OK_HEADERS, (":path", "/")]), "broken HTTP/2"),
    "content-length that lies": (
        headers([*OK_HEADERS, ("content-length", "3")]) + data(message(b"abcdef")),
        "broken HTTP/2",
    ),
}


class TestNonsense:
    @pytest.mark.parametrize("name", NONSENSE)
    def test_is_a_protocol_error(self, name: str) -> None:
        """Each is refused with words that say what it was."""
        answer, words = NONSENSE[name]
        error = end_of(settings() + answer)

        assert isinstance(error, ProtocolError)
        assert words in str(error)

    def test_messages_before_it_are_kept(self) -> None:
        """Nonsense later in the same packet does not take back what was good."""
        made = after(settings(), headers(OK_HEADERS), data(message(b"good")), frame(CONTINUATION, b"\x88"))

        assert [b"good"] == list(made.messages)
        assert isinstance(made.error, ProtocolError)

    def test_after_the_end_it_does_not_matter(self) -> None:
        """The call is over when its status is known."""
        assert b"x" == after(reply(b"x"), frame(CONTINUATION, b"\x88"), reset(2), b"HTTP/1.1").only_message()

    def test_server_is_told(self) -> None:
        """It gets a GOAWAY with the code (RFC 9113 §5.4.1)."""
        made = after(settings(), frame(CONTINUATION, b"\x88"))

        assert [GoAwayFrame] == [type(f) for f in frames(made.farewell())][-1:]


class TestGoAway:
    def test_before_the_reply(self) -> None:
        """The server goes but still answers this call (RFC 9113 §6.8)."""
        assert b"x" == after(settings(), go_away(1), reply(b"x")[9:]).only_message()

    def test_gracefully_in_two_steps(self) -> None:
        """Go servers first announce it with the highest number."""
        answer = (
            settings() + headers(OK_HEADERS) + go_away(2**31 - 1) + ping() + data(message(b"x")) + go_away(1)
        )

        assert b"x" == after(answer, headers(OK_TRAILERS, end=True)).only_message()

    def test_after_the_reply(self) -> None:
        """It does not matter any more, whatever it says."""
        assert b"x" == after(reply(b"x"), go_away(0, 2, b"crash")).only_message()

    def test_call_not_taken(self) -> None:
        """The server will not answer: try again elsewhere."""
        error = end_of(settings(), go_away(0))

        assert isinstance(error, UnavailableError)
        assert "the server is going away (NO_ERROR)" == str(error)

    def test_with_an_error(self) -> None:
        """What it says is told."""
        error = end_of(settings(), headers(OK_HEADERS), go_away(1, 11, b"too_many_pings\n"))

        assert isinstance(error, UnavailableError)
        assert "the server is going away (ENHANCE_YOUR_CALM: too_many_pings )" == str(error)

    def test_with_an_unknown_error(self) -> None:
        """A code that HTTP/2 does not define stays a number."""
        assert "the server is going away (error code 4711)" == str(end_of(settings(), go_away(1, 4711)))

    def test_then_closed(self) -> None:
        """The announcement says more than the end of the connection."""
        made = after(settings(), headers(OK_HEADERS), go_away(1, 0, b"shutdown"))
        made.receive_eof("closed")

        assert "the server is going away (NO_ERROR: shutdown)" == str(made.error)

    def test_draining_between_messages(self) -> None:
        """A long-lived call is left between two messages, never in the middle of one."""
        made = after(settings(), headers(OK_HEADERS), data(message(b"a") + message(b"bb")[:6]), go_away(1))
        assert [b"a"] == list(made.messages)
        assert "" == made.draining

        made.receive(data(message(b"bb")[6:]), now=0)
        assert [b"a", b"bb"] == list(made.messages)
        assert "going away" in made.draining


class TestReset:
    @pytest.mark.parametrize(
        ("code", "name"),
        [(0, "NO_ERROR"), (7, "REFUSED_STREAM"), (8, "CANCEL"), (2, "INTERNAL_ERROR"), (99, "error code 99")],
    )
    @pytest.mark.parametrize(
        "before", [b"", headers(OK_HEADERS), headers(OK_HEADERS) + data(message(b"x")[:3])]
    )
    def test_in_the_middle(self, code: int, name: str, before: bytes) -> None:
        """The call broke off (RFC 9113 §6.4)."""
        error = end_of(settings(), before, reset(code))

        assert isinstance(error, UnavailableError)
        assert f"the server reset the call ({name})" == str(error)

    @pytest.mark.parametrize("code", [0, 8])
    def test_after_trailers(self, code: int) -> None:
        """A server may reset what it need not read any more (RFC 9113 §8.1)."""
        assert b"x" == after(reply(b"x"), reset(code)).only_message()

    def test_of_another_stream(self) -> None:
        """There is none."""
        assert b"x" == after(settings(), reset(2, stream_id=3), reply(b"x")[9:]).only_message()


class TestConnection:
    def test_ping_is_answered(self) -> None:
        """With the same bytes (RFC 9113 §6.7)."""
        made = after(settings(), ping(b"abcdefgh"))
        answers = [f for f in frames(sent_by(made)) if isinstance(f, PingFrame)]

        assert [(b"abcdefgh", {"ACK"})] == [(f.opaque_data, set(f.flags)) for f in answers]

    def test_settings_are_acknowledged(self) -> None:
        """Also those in the middle (RFC 9113 §6.5.3)."""
        made = after(settings(), settings([(3, 1)]), settings(ack=True))

        assert 2 == len(
            [f for f in frames(sent_by(made)) if isinstance(f, SettingsFrame) and "ACK" in f.flags]
        )

    def test_windows_are_opened_again(self) -> None:
        """A message larger than the window arrives (RFC 9113 §6.9)."""
        limits = Limits(message=4 * WINDOW)
        made = after(settings(), headers(OK_HEADERS), limits=limits)
        body, room = data(message(b"x" * (4 * WINDOW))), WINDOW
        for part in frames(body):
            assert len(part.data) <= room
            made.receive(part.serialize(), now=0)
            room -= len(part.data)
            updates = [f for f in frames(sent_by(made)) if isinstance(f, WindowUpdateFrame)]
            room += sum(f.window_increment for f in updates if f.stream_id == 1)

        assert [b"x" * (4 * WINDOW)] == list(made.messages)

    @pytest.mark.parametrize(
        ("start", "words"),
        [
            (b"\x15\x03\x01\x00\x02\x02\x46", "a TLS alert"),
            (b"HTTP/1.0", "an HTTP/1 reply, 'HTTP/1.0'"),
            (b"hi", "the bytes b'hi'"),
        ],
    )
    def test_closed_before_it_was_http2(self, start: bytes, words: str) -> None:
        """A wrong server may say less than a frame's header before it hangs up."""
        made = after(start)
        assert not made.ended
        made.receive_eof("closed")

        assert isinstance(made.error, ProtocolError)
        assert words in str(made.error)

    @pytest.mark.parametrize(
        "start", [b"", settings(), settings() + headers(OK_HEADERS) + data(message(b"x"))[:5]]
    )
    def test_closed_in_the_middle(self, start: bytes) -> None:
        """Nothing, a little, or half a frame: it broke off."""
        made = after(start)
        made.receive_eof("closed")

        assert isinstance(made.error, UnavailableError)
        assert "closed" == str(made.error)

    def test_closed_after_the_end(self) -> None:
        """That is how it should be."""
        made = after(reply(b"x"))
        made.receive_eof("closed")

        assert b"x" == made.only_message()

    def test_farewell_in_the_middle(self) -> None:
        """The server is told that nobody waits: CANCEL, then GOAWAY."""
        sent = frames(after(settings(), headers(OK_HEADERS)).farewell())

        assert [SettingsFrame, RstStreamFrame, GoAwayFrame] == [type(f) for f in sent]
        assert 8 == sent[1].error_code

    def test_farewell_at_the_end(self) -> None:
        """Both know that it is over."""
        assert b"" == after(reply(b"x")).farewell()
        assert b"" == after(settings(), reset(2)).farewell()


class TestAnyBytes:
    @given(st.lists(st.binary(max_size=200)))
    def test_rubbish(self, pieces: list[bytes]) -> None:
        """Whatever comes ends the call with a typed error, or waits for more."""
        _survives(settings(), *pieces)

    @given(st.data())
    @hypothesis_settings(max_examples=300)
    def test_damaged_replies(self, random: st.DataObject) -> None:
        """A good reply with bytes changed, removed, doubled."""
        answer = bytearray(reply(b"hello", b"world") + ping() + go_away(1))
        for _ in range(random.draw(st.integers(1, 4))):
            at = random.draw(st.integers(0, len(answer) - 1))
            match random.draw(st.sampled_from(["flip", "drop", "double"])):
                case "flip":
                    answer[at] = random.draw(st.integers(0, 255))
                case "drop":
                    del answer[at : at + random.draw(st.integers(1, 12))]
                case _:
                    answer[at:at] = answer[at : at + random.draw(st.integers(1, 40))]
            answer = answer or bytearray(b"x")
        _survives(bytes(answer))

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 12),
                st.binary(max_size=40),
                st.integers(0, 255),
                st.sampled_from([0, 1, 2, 3, 5]),
            ),
            max_size=12,
        )
    )
    @example([(9, b"", 0, 1)] * 70)
    @hypothesis_settings(max_examples=300)
    def test_frames_of_any_kind(self, parts: list[tuple[int, bytes, int, int]]) -> None:
        """Well-formed frames in senseless order."""
        _survives(
            settings(), *(frame(kind, payload, flags=flags, stream_id=i) for kind, payload, flags, i in parts)
        )


def _survives(*pieces: bytes) -> None:
    made = exchange()
    for piece in pieces:
        if not made.ended:
            made.receive(piece, now=0)
    made.receive_eof("closed")
    assert made.ended
    assert made.error is None or isinstance(made.error, ProtocolError | UnavailableError | StatusError)
    made.farewell()


def _decoded(sent: bytes) -> list[tuple[bytes, bytes]]:
    from hpack import Decoder

    block = next(f for f in frames(sent) if isinstance(f, HeadersFrame))
    return [(bytes(n), bytes(v)) for n, v in Decoder().decode(block.data, raw=True)]
