"""Protobuf's wire format: what is a field, where it ends, and which bytes are none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiffe_client.errors import ProtocolError
from spiffe_client.workload_api import _wire


#: Fuzzing is never timed: the machine may be busy.
fuzz = settings(deadline=None)


class TestReadFields:
    @pytest.mark.parametrize(
        ("data", "fields"),
        [
            (b"", []),
            (b"\x0a\x00", [(1, b"")]),
            (b"\x0a\x02hi\x12\x01!", [(1, b"hi"), (2, b"!")]),
            (b"\x08\x96\x01", [(1, 150)]),
            (b"\x09" + b"\x00" * 6 + b"\xf0\x3f", [(1, 1.0)]),
            (b"\x0d\x01\x02\x03\x04", [(1, None)]),  # 32 fixed bits: no message here has them
            (b"\xfa\xff\xff\xff\x0f\x00", [(2**29 - 1, b"")]),  # the largest field number
            (b"\x0b\x0c\x0a\x01x", [(1, b"x")]),  # an empty group is skipped
            (b"\x0b\x10\x01\x1a\x01y\x21" + b"\x00" * 8 + b"\x2d\x00\x00\x00\x00\x0c", []),
            (b"\x0b\x13\x1b\x1c\x14\x0c", []),  # groups within groups
        ],
    )
    def test_well_formed(self, data: bytes, fields: list[object]) -> None:
        """Fields come in their order with their values; groups are left out."""
        assert fields == list(_wire.read_fields(data))

    @pytest.mark.parametrize(
        ("data", "fields"),
        [
            (b"\x8a\x00\x01x", [(1, b"x")]),
            (b"\x8a\x80\x80\x80\x00\x01x", [(1, b"x")]),
            (b"\x0a\x81\x00x", [(1, b"x")]),
            (b"\x0a\x81\x80\x80\x80\x00x", [(1, b"x")]),
            (b"\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\x00", [(1, 1)]),
            (b"\x08" + b"\xff" * 9 + b"\x7f", [(1, 2**64 - 1)]),  # bits above 64 are dropped
        ],
    )
    def test_longer_than_needed_numbers(self, data: bytes, fields: list[object]) -> None:
        """A varint may be written longer than it has to be; it is the same number."""
        assert fields == list(_wire.read_fields(data))

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"\x0a", "cut short at byte 1"),
            (b"\x80", "cut short at byte 0"),
            (b"\x0a\x05hi", "a field of 5 bytes is cut short at byte 2"),
            (b"\x09\x00\x00", "cut short at byte 1"),
            (b"\x0d\x00", "cut short at byte 1"),
            (b"\x08\x80", "cut short at byte 1"),
            (b"\x08" + b"\x80" * 11, "more than 10 bytes at byte 1"),
            (b"\x80" * 6, "more than 5 bytes at byte 0"),
            (b"\x8a\x80\x80\x80\x10\x00", "too large at byte 0"),
            (b"\x0a\xff\xff\xff\xff\x0f", "too large at byte 1"),  # 4 GiB
            (b"\x0a\xff\xff\xff\xff\x07", "a field of 2147483647 bytes is cut short"),
            (b"\x02\x00", "number 0 at byte 0"),
            (b"\x0e", "wire type 6 has no place at byte 1"),
            (b"\x0f", "wire type 7 has no place at byte 1"),
            (b"\x0c", "wire type 4 has no place at byte 1"),
            (b"\x0b", "cut short at byte 1"),
            (b"\x0b\x14", "a group ends that did not begin"),
            (b"\x0b\x0e", "wire type 6 has no place"),
            (b"\x0b\x0a\x05", "cut short"),
            (b"\x0b" * 101, "more than 100 groups"),
        ],
    )
    def test_malformed(self, data: bytes, why: str) -> None:
        """Whatever is not a message is refused with the byte where it stops being one."""
        with pytest.raises(ProtocolError, match=why):
            list(_wire.read_fields(data))

    @fuzz
    @given(st.binary())
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are fields or a ProtocolError, and nothing else."""
        try:
            fields = list(_wire.read_fields(data))
        except ProtocolError:
            return

        assert all(1 <= number < 2**29 for number, _ in fields)


class TestWrite:
    @fuzz
    @given(st.integers(1, 2**29 - 1), st.binary())
    def test_bytes_come_back(self, number: int, payload: bytes) -> None:
        """What is written as bytes is read as the same bytes."""
        assert [(number, payload)] == list(_wire.read_fields(_wire.write_bytes(number, payload)))

    @fuzz
    @given(st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1))
    def test_numbers_come_back(self, number: int, value: int) -> None:
        """What is written as a varint is read as the same number."""
        assert [(number, value)] == list(_wire.read_fields(_wire.write_varint(number, value)))

    @fuzz
    @given(st.integers(1, 2**29 - 1), st.floats())
    def test_doubles_come_back(self, number: int, value: float) -> None:
        """What is written as a double is read as the same double, not-a-number included."""
        [(read_number, read_value)] = _wire.read_fields(_wire.write_double(number, value))

        assert number == read_number
        assert value == read_value or (math.isnan(value) and math.isnan(read_value))


class TestText:
    @fuzz
    @given(st.text())
    def test_comes_back(self, text: str) -> None:
        """Text is UTF-8 on the wire."""
        assert text == _wire.read_text(_wire.write_text(text))

    def test_not_utf8(self) -> None:
        """Bytes that are no text are refused, and neither shown nor carried along as a cause."""
        with pytest.raises(ProtocolError, match="not UTF-8 at its byte 6") as e:
            _wire.read_text(b"secret\xff")

        assert e.value.__cause__ is None
        assert e.value.__context__ is None

    def test_half_a_surrogate_pair(self) -> None:
        """Text that UTF-8 cannot say is refused the same way."""
        with pytest.raises(ProtocolError, match="surrogate pair at character 6") as e:
            _wire.write_text("secret\ud800")

        assert e.value.__context__ is None
