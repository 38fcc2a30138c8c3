"""Frames pass one by one, whole and small; what no honest peer sends does not pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client._grpc._gate import BURST, MAX_FRAME, RATE, FrameGate, GoAway
from spiffe_client.errors import ProtocolError
from tests.support.grpc_scripts import (
    CONTINUATION,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    PRIORITY,
    SETTINGS,
    data,
    frame,
    go_away,
    ping,
    request,
    reset,
    settings,
    window_update,
)


def client_gate(headers: int = 1000) -> FrameGate:
    gate = FrameGate(headers, server=False)
    list(gate.feed(settings(), now=0))
    return gate


def server_gate(headers: int = 1000) -> FrameGate:
    gate = FrameGate(headers, server=True)
    list(gate.feed(PREFACE + settings(), now=0))
    return gate


class TestCutting:
    @given(st.lists(st.integers(1, 80), max_size=30))
    def test_cut_anywhere(self, sizes: list[int]) -> None:
        """Where the bytes are cut makes no difference, for the preface neither (RFC 9113 §3.4, §4.1)."""
        parts = [settings(), data(b"x" * 100), ping(), go_away(1, 0, b"bye"), data(b"")]
        stream, gate, out = PREFACE + b"".join(parts), FrameGate(1000, server=True), []
        for size in sizes:
            out += gate.feed(stream[:size], now=0)
            stream = stream[size:]
        out += gate.feed(stream, now=0)

        assert [*parts[:3], GoAway(1, 0, "bye"), parts[4]] == out

    def test_frame_waits_until_it_is_whole(self) -> None:
        """h2 never sees part of a frame."""
        gate = client_gate()

        assert [] == list(gate.feed(ping()[:-1], now=0))
        assert [ping()] == list(gate.feed(ping()[-1:], now=0))

    @given(st.lists(st.binary(max_size=100)), st.booleans())
    def test_any_bytes(self, pieces: list[bytes], server: bool) -> None:
        """Whatever comes is frames or a typed error."""
        gate = FrameGate(1000, server=server)
        try:
            out = [
                item
                for piece in [PREFACE + settings() if server else settings(), *pieces]
                for item in gate.feed(piece, now=0)
            ]
        except ProtocolError:
            return
        assert all(isinstance(item, GoAway) or len(item) >= 9 for item in out)


class TestBeginning:
    @pytest.mark.parametrize(
        ("start", "words"),
        [
            (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", "an HTTP/1 reply, 'HTTP/1.1 400 Bad Request'"),
            (b"\x15\x03\x01\x00\x02\x02\x46\x00\x00", "a TLS alert"),
            (b"\x16\x03\x01\x00\x02\x02\x46\x00\x00", "a TLS handshake"),
            (b"SSH-2.0-OpenSSH_9", "the bytes b'SSH-2.0-OpenSSH_'"),
            (data(b"too early"), "the bytes b'\\x00\\x00\\t"),  # SETTINGS come first (RFC 9113 §3.4)
        ],
    )
    def test_server_that_speaks_something_else(self, start: bytes, words: str) -> None:
        """The error says what it seems to be."""
        with pytest.raises(ProtocolError, match="does not speak HTTP/2") as e:
            list(FrameGate(1000, server=False).feed(start, now=0))

        assert words in str(e.value)

    @pytest.mark.parametrize(
        "start", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nXX", b"\x00"]
    )
    def test_client_that_speaks_something_else(self, start: bytes) -> None:
        """A wrong preface is known by its first wrong byte (RFC 9113 §3.4)."""
        with pytest.raises(ProtocolError, match="the client does not speak HTTP/2"):
            list(FrameGate(1000, server=True).feed(start, now=0))

    def test_what_came_before_http2_can_be_asked_for(self) -> None:
        """A TLS alert of seven bytes is shorter than a frame's header, and still explains a closed connection."""
        gate = FrameGate(1000, server=False)
        assert [] == list(gate.feed(b"\x15\x03\x01", now=0))

        assert b"\x15\x03\x01" == gate.start
        assert client_gate().start is None


class TestSizes:
    def test_largest_frame(self) -> None:
        """16384 bytes are what we offered to take (RFC 9113 §4.2)."""
        assert [data(b"x" * MAX_FRAME)] == list(client_gate().feed(data(b"x" * MAX_FRAME), now=0))

    def test_oversized_frame_is_refused_by_its_header(self) -> None:
        """Attack: announce 16 MiB. It is refused before any of it is kept."""
        with pytest.raises(ProtocolError, match="type 0 and 16385 bytes is over the limit"):
            list(client_gate().feed(frame(DATA, b"x" * (MAX_FRAME + 1))[:9], now=0))

    def test_oversized_settings(self) -> None:
        """Attack: thousands of settings that h2 would remember for the life of the connection."""
        with pytest.raises(ProtocolError, match="type 4 and 390 bytes"):
            list(client_gate().feed(settings([(1000 + i, 1) for i in range(65)]), now=0))

    def test_oversized_first_frame(self) -> None:
        """A first frame that is SETTINGS by its type only is something else by chance."""
        with pytest.raises(ProtocolError, match="does not speak HTTP/2"):
            list(FrameGate(1000, server=False).feed(b"ABC\x04DEFGH", now=0))

    def test_header_block_over_several_frames(self) -> None:
        """The limit counts all frames of a block, and each block anew."""
        gate = client_gate(headers=100)
        block = frame(HEADERS, b"x" * 60) + frame(CONTINUATION, b"x" * 40, flags=4)

        assert 4 == len(list(gate.feed(block + block, now=0)))

    @pytest.mark.parametrize(
        "block",
        [
            frame(HEADERS, b"x" * 101)[:9],
            frame(HEADERS, b"x" * 60) + frame(CONTINUATION, b"x" * 41)[:9],
            frame(HEADERS, b"x") + frame(CONTINUATION, b"x") * 98 + frame(CONTINUATION, b"xx")[:9],
        ],
    )
    def test_oversized_header_block(self, block: bytes) -> None:
        """Attack: CONTINUATION flood (CVE-2024-24549 and kin). Refused before the excess has come."""
        with pytest.raises(ProtocolError, match="header block is over the limit of 100 bytes"):
            list(client_gate(headers=100).feed(block, now=0))


class TestGoAway:
    def test_parsed(self) -> None:
        """Last stream, code, and the peer's words made fit for a log (RFC 9113 §6.8)."""
        (item,) = client_gate().feed(go_away(2**31 + 5, 11, b"too_many_pings\r\n\xff"), now=0)

        assert GoAway(5, 11, "too_many_pings  \ufffd") == item

    def test_huge_words_are_cut(self) -> None:
        """The debug data may fill a frame."""
        (item,) = client_gate().feed(go_away(1, 0, b"x" * 16000), now=0)

        assert isinstance(item, GoAway)
        assert "x" * 100 + "…" == item.debug

    @pytest.mark.parametrize(
        "bad", [frame(GOAWAY, b"\0" * 7, stream_id=0), frame(GOAWAY, b"\0" * 8, stream_id=1)]
    )
    def test_malformed(self, bad: bytes) -> None:
        """Too short, or on a stream (RFC 9113 §6.8)."""
        with pytest.raises(ProtocolError, match="malformed GOAWAY"):
            list(client_gate().feed(bad, now=0))


FLOODS = {
    "ping flood (CVE-2019-9512)": ping(),
    "settings flood (CVE-2019-9515)": settings(),
    "settings acknowledgement flood": settings(ack=True),
    "reset flood (CVE-2019-9514)": reset(8),
    "priority flood (CVE-2019-9513)": frame(PRIORITY, b"\0\0\0\0\1"),
    "empty frames flood (CVE-2019-9518)": frame(DATA, b""),
    "goaway flood": go_away(1),
    "unknown frames flood": frame(0x77, b"hm"),
}


class TestFloods:
    @pytest.mark.parametrize("attack", FLOODS)
    @pytest.mark.parametrize("make", [client_gate, server_gate])
    def test_refused(self, attack: str, make: object) -> None:
        """A burst of control frames passes, more of them do not."""
        gate = client_gate() if make is client_gate else server_gate()

        assert BURST - 1 == len(list(gate.feed(FLOODS[attack] * (BURST - 1), now=0)))
        with pytest.raises(ProtocolError, match="flood"):
            list(gate.feed(FLOODS[attack], now=0))

    def test_interim_replies_flood(self) -> None:
        """Attack: 100 Continue for ever. For a client header blocks count, for a server they are work to do."""
        flood = frame(HEADERS, b"\x88", flags=4) * (BURST + 1)

        assert BURST + 1 == len(list(server_gate().feed(flood, now=0)))
        with pytest.raises(ProtocolError, match="flood"):
            list(client_gate().feed(flood, now=0))

    def test_time_heals(self) -> None:
        """A stream that lives for weeks is pinged a million times."""
        gate = client_gate()
        for second in range(10_000):
            assert 20 == len(list(gate.feed(ping() * 20, now=second)))

    def test_time_heals_no_more_than_a_burst(self) -> None:
        """A long silence does not allow a flood."""
        gate = client_gate()
        with pytest.raises(ProtocolError, match="flood"):
            list(gate.feed(ping() * (BURST + 1), now=1e9))

    def test_rate(self) -> None:
        """After a burst the rate is what passes."""
        gate = client_gate()
        list(gate.feed(ping() * (BURST - 1), now=0))

        assert RATE == len(list(gate.feed(ping() * int(RATE), now=1)))
        with pytest.raises(ProtocolError, match="flood"):
            list(gate.feed(ping(), now=1))

    def test_work_earns(self) -> None:
        """Go's client sends a PING for each batch of data it gets; a sender of data may, too."""
        gate = server_gate()
        for _ in range(10 * BURST):
            gate.earn()
            assert [ping()] == list(gate.feed(ping(), now=0))

    def test_data_earns_for_servers(self) -> None:
        """Go's server sends a PING for each batch of data, too."""
        gate = client_gate()
        for _ in range(10 * BURST):
            assert 2 == len(list(gate.feed(data(b"x") + ping(), now=0)))

    def test_data_does_not_earn_for_clients(self) -> None:
        """Attack: rapid reset (CVE-2023-44487), with a byte of data in each call to pay for its reset."""
        gate = server_gate()
        with pytest.raises(ProtocolError, match="flood"):
            list(gate.feed((request(body=b"x") + reset(8)) * (BURST + 1), now=0))

    @pytest.mark.parametrize(
        "frames",
        [
            window_update(1),
            frame(CONTINUATION, b""),
            frame(DATA, b"", flags=END_STREAM),
            data(b"x"),
            request(),
        ],
    )
    def test_bound_otherwise(self, frames: bytes) -> None:
        """Windows follow what we send, blocks and calls have limits of their own."""
        assert len(list(server_gate(10**6).feed(frames * (BURST + 1), now=0))) > BURST
