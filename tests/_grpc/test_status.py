"""Trailers say how a call ended, in words that are safe to show."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client._grpc._status import Status, StatusError, clean, decode_details, encode_details, status_of
from spiffe_client.errors import ProtocolError


class TestStatusError:
    def test_known_code(self) -> None:
        """A code of gRPC gets its name."""
        error = StatusError(7, "no identity issued")

        assert error.status is Status.PERMISSION_DENIED
        assert "PERMISSION_DENIED: no identity issued" == str(error)

    def test_unknown_code(self) -> None:
        """A code that gRPC does not define stays a number."""
        error = StatusError(42)

        assert 42 == error.status
        assert "status 42" == str(error)

    def test_survives_pickling(self) -> None:
        """Errors cross process borders."""
        error = pickle.loads(pickle.dumps(StatusError(Status.INTERNAL, "x")))

        assert (Status.INTERNAL, "x") == (error.status, error.details)

    def test_all_codes(self) -> None:
        """gRPC has the codes 0 to 16."""
        assert list(range(17)) == [int(status) for status in Status]


class TestDetails:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (b"no identity issued", "no identity issued"),
            (b"100%25 sure", "100% sure"),
            (b"gr%C3%BC%c3%9Fe", "grüße"),
            (b"%", "%"),
            (b"%4", "%4"),
            (b"%zz %G0", "%zz %G0"),
            (b"%ff%fe", "\ufffd\ufffd"),  # no UTF-8
            (b"%C3", "\ufffd"),  # cut in the middle of a character
            (b"\xc3\xbc", "ü"),  # not encoded at all
            (b"a%0Ab%0D%1b[2Jc%00", "a b  [2Jc "),  # log and terminal injection
            (b"%E2%80%AEevil", " evil"),  # right-to-left override
        ],
    )
    def test_decode(self, value: bytes, text: str) -> None:
        """Percent-encoding is undone; what is broken never fails (gRPC over HTTP/2, Status-Message)."""
        assert text == decode_details(value, 100)

    def test_huge_is_cut(self) -> None:
        """Attack: a grpc-message of megabytes. Only the beginning is decoded and kept."""
        assert "ü" * 50 + "…" == decode_details(b"%C3%BC" * 1_000_000, 50)

    def test_exactly_the_limit(self) -> None:
        """The limit itself is not cut."""
        assert "abc" == decode_details(b"abc", 3)

    @given(st.text(max_size=200))
    def test_round_trip(self, text: str) -> None:
        """What we encode is plain ASCII and decodes to the same, but for what is not fit for a log."""
        encoded = encode_details(text)

        assert all(0x20 <= b < 0x7F for b in encoded)
        assert clean(text.encode(errors="replace").decode(), 200) == decode_details(encoded, 200)

    @given(st.binary(max_size=300), st.integers(0, 50))
    def test_any_bytes(self, value: bytes, limit: int) -> None:
        """Whatever comes is one line of bounded length."""
        text = decode_details(value, limit)

        assert len(text) <= limit + 1
        assert all(c.isprintable() for c in text)


class TestStatusOf:
    def test_ok(self) -> None:
        """Zero is OK, whatever the words."""
        assert status_of([(b"grpc-status", b"0"), (b"grpc-message", b"fine")], 100) is None

    def test_error(self) -> None:
        """Any other number is an error with its words."""
        error = status_of([(b"grpc-message", b"a%20b"), (b"grpc-status", b"7"), (b"x", b"y")], 100)

        assert error is not None
        assert (Status.PERMISSION_DENIED, "a b") == (error.status, error.details)

    def test_missing(self) -> None:
        """Without grpc-status nobody knows how it ended."""
        with pytest.raises(ProtocolError, match="without a grpc-status"):
            status_of([(b"grpc-message", b"hm")], 100)

    @pytest.mark.parametrize(
        "value", [b"", b"-1", b"+0", b"0x0", b" 0", b"0\n", b"\xd9\xa0", b"1" * 10, b"OK"]
    )
    def test_no_number(self, value: bytes) -> None:
        """Anything but a few ASCII digits is nonsense, never OK."""
        with pytest.raises(ProtocolError, match="no number"):
            status_of([(b"grpc-status", value)], 100)

    def test_repeated(self) -> None:
        """Attack: two statuses, so that two readers disagree."""
        with pytest.raises(ProtocolError, match="no number: '7, 0'"):
            status_of([(b"grpc-status", b"7"), (b"grpc-status", b"0")], 100)

    @given(
        st.lists(st.tuples(st.sampled_from([b"grpc-status", b"grpc-message", b"x"]), st.binary(max_size=20)))
    )
    def test_any_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Whatever comes is a status or a typed error."""
        try:
            error = status_of(headers, 10)
        except ProtocolError:
            return
        assert error is None or error.status != Status.OK
