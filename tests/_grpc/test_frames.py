"""Messages come out of a stream of bytes as they went in, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client._grpc._frames import MessageSplitter, frame
from spiffe_client._grpc._status import Status, StatusError


def feed(splitter: MessageSplitter, *pieces: bytes) -> list[bytes]:
    return [message for piece in pieces for message in splitter.feed(piece)]


def test_prefix() -> None:
    """A flag byte of zero, four bytes of length, the message (gRPC over HTTP/2, Length-Prefixed-Message)."""
    assert b"\x00\x00\x00\x00\x03abc" == frame(b"abc")


def test_several_messages_in_one_piece() -> None:
    """One DATA frame may hold several messages, empty ones among them."""
    splitter = MessageSplitter(10)

    assert [b"a", b"", b"bc"] == feed(splitter, frame(b"a") + frame(b"") + frame(b"bc"))
    assert splitter.empty


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(1, 60), max_size=20))
def test_cut_anywhere(messages: list[bytes], sizes: list[int]) -> None:
    """Where the stream is cut makes no difference."""
    stream, pieces = b"".join(map(frame, messages)), []
    for size in sizes:
        pieces.append(stream[:size])
        stream = stream[size:]
    splitter = MessageSplitter(40)

    assert messages == feed(splitter, *pieces, stream)
    assert splitter.empty


@pytest.mark.parametrize("cut", [frame(b"abc")[:1], frame(b"abc")[:5], frame(b"abc")[:-1]])
def test_cut_short_is_not_empty(cut: bytes) -> None:
    """Part of a prefix, a prefix alone, or part of a message: each is a message cut short."""
    splitter = MessageSplitter(10)

    assert [] == feed(splitter, cut)
    assert not splitter.empty


def test_exactly_the_limit() -> None:
    """The limit itself is allowed."""
    assert [b"x" * 10] == feed(MessageSplitter(10), frame(b"x" * 10))


def test_oversized_is_refused_by_its_prefix() -> None:
    """Attack: a length of 4 GiB. It is refused before anything of the message has come."""
    with pytest.raises(StatusError) as e:
        feed(MessageSplitter(10), b"\x00\xff\xff\xff\xff")

    assert Status.RESOURCE_EXHAUSTED == e.value.status
    assert "4294967295 bytes is over the limit of 10" in e.value.details


def test_messages_before_an_oversized_one_are_kept() -> None:
    """What is good and came first was received."""
    got = []
    with pytest.raises(StatusError):
        for message in MessageSplitter(10).feed(frame(b"good") + frame(b"x" * 11)):
            got.append(message)

    assert [b"good"] == got


@pytest.mark.parametrize("flag", [1, 2, 255])
def test_compressed_is_refused(flag: int) -> None:
    """Nobody negotiated a compression (gRPC over HTTP/2, Compressed-Flag)."""
    with pytest.raises(StatusError, match=f"flag {flag}") as e:
        feed(MessageSplitter(10), bytes([flag]) + b"\x00\x00\x00\x00")

    assert Status.INTERNAL == e.value.status


@given(st.lists(st.binary(max_size=30)))
def test_any_bytes(pieces: list[bytes]) -> None:
    """Whatever comes is messages or a typed error, and no more is kept than came."""
    splitter = MessageSplitter(1000)
    try:
        messages = feed(splitter, *pieces)
    except StatusError as error:
        assert error.status in {Status.INTERNAL, Status.RESOURCE_EXHAUSTED}
    else:
        assert sum(map(len, messages)) <= sum(map(len, pieces))
