"""DER is read in its one form and no other."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client._der import SEQUENCE, Der, DerError
from tests.support.der import oid, tlv


class TestElements:
    def test_one_after_the_other(self) -> None:
        """Header and contents, contents alone, or what is inside."""
        der = Der(tlv(0x02, b"\x01") + tlv(0x04, b"ab") + tlv(SEQUENCE, tlv(0x02, b"\x02")) + tlv(0x05))
        assert (0x02, b"\x02\x01\x01", b"ab") == (der.tag, der.element(), der.contents(0x04))
        inside = der.inside(SEQUENCE)
        assert (2, None) == (inside.integer(), inside.tag)
        assert (None, b"") == (der.optional(0x04), der.optional(0x05))
        der.end()

    def test_long_contents(self) -> None:
        """Lengths of two and three octets."""
        for size in (0x80, 0x100, 0x10000):
            assert bytes(size) == Der(tlv(0x04, bytes(size))).contents(0x04)

    @pytest.mark.parametrize(
        "der", [b"", b"\x02", b"\x1f\x01\x00", b"\x02\x02\x01", b"\x04\x80\x00\x00", b"\x04\x81\x01\x00"]
    )
    def test_none_whole(self, der: bytes) -> None:
        """Cut short, a tag of several octets, lengths of BER."""
        with pytest.raises(DerError):
            Der(der).element()

    def test_something_else(self) -> None:
        """Says what is there and what belongs there."""
        with pytest.raises(DerError, match="tag 0x05 at byte 0 where 0x02 or 0x04 belongs"):
            Der(tlv(0x05)).element(0x02, 0x04)
        with pytest.raises(DerError, match="tag none at byte 0 where 0x02 belongs"):
            Der(b"").integer()
        with pytest.raises(DerError, match="tag 0x05 at byte 2, where nothing more belongs"):
            more = Der(tlv(0x05) * 2)
            more.element()
            more.end()

    @given(st.binary(max_size=40))
    def test_any_bytes_give_elements_or_the_error(self, octets: bytes) -> None:
        """What comes out is what went in."""
        der, taken = Der(octets), b""
        try:
            while der.tag is not None:
                taken += der.element()
        except DerError:
            return
        assert taken == octets


class TestIntegers:
    @given(st.integers(-(1 << 200), 1 << 200))
    def test_read(self, number: int) -> None:
        """X.690 §8.3: two's complement, the shortest."""
        octets = number.to_bytes((number + (number < 0)).bit_length() // 8 + 1, "big", signed=True)
        assert number == Der(tlv(0x02, octets)).integer()

    @pytest.mark.parametrize("octets", [b"", b"\x00\x01", b"\xff\xff", b"\x00\x7f", b"\xff\x80"])
    def test_not_the_shortest(self, octets: bytes) -> None:
        """X.690 §8.3.2: the first nine bits are not all the same."""
        with pytest.raises(DerError, match="INTEGER"):
            Der(tlv(0x02, octets)).integer()


class TestFlags:
    def test_read(self) -> None:
        """X.690 §11.5: what is False is left out."""
        assert Der(tlv(0x01, b"\xff")).flag()
        assert not Der(b"").flag()
        assert not Der(tlv(0x02, b"\x01")).flag()

    @pytest.mark.parametrize("octets", [b"\x00", b"\x01", b"", b"\xff\xff"])
    def test_another_form(self, octets: bytes) -> None:
        """X.690 §11.1: TRUE is 0xff."""
        with pytest.raises(DerError, match="BOOLEAN"):
            Der(tlv(0x01, octets)).flag()


class TestBits:
    def test_read(self) -> None:
        """X.690 §8.6: the first octet counts the bits at the end that are none."""
        assert (b"\x80", 7) == Der(tlv(0x03, b"\x07\x80")).bits()
        assert (b"", 0) == Der(tlv(0x03, b"\x00")).bits()
        assert (b"x", 0) == Der(tlv(0x81, b"\x00x")).bits(0x81)

    @pytest.mark.parametrize("octets", [b"", b"\x01", b"\x08\x00", b"\x01\x01", b"\x07\xc0"])
    def test_another_form(self, octets: bytes) -> None:
        """X.690 §11.2.1: bits that are none are zero."""
        with pytest.raises(DerError, match="BIT STRING"):
            Der(tlv(0x03, octets)).bits()


class TestObjectIdentifiers:
    @pytest.mark.parametrize("dotted", ["0.0", "1.39.1", "2.5.29.17", "1.3.6.1.4.1.99999.1", "2.39.127.128.4294967295"])
    def test_read(self, dotted: str) -> None:
        """X.690 §8.19."""
        assert dotted == Der(oid(dotted)).oid()

    def test_a_large_second_arc(self) -> None:
        """X.690 §8.19.4: below 2 there is no limit of 39."""
        assert "2.999" == Der(b"\x06\x02\x88\x37").oid()

    @pytest.mark.parametrize(
        "octets",
        [
            b"",
            b"\x2a\x80",  # cut short
            b"\x2a\x80\x01",  # not the shortest
            b"\x2a" * 64,
            b"\x2a\x90\x80\x80\x80\x00",  # 33 bits
        ],
    )
    def test_another_form(self, octets: bytes) -> None:
        """X.690 §8.19.2, and limits, so that messages stay short."""
        with pytest.raises(DerError, match="OBJECT IDENTIFIER"):
            Der(tlv(0x06, octets)).oid()


class TestTimes:
    @pytest.mark.parametrize(
        ("tag", "text", "moment"),
        [
            (0x17, b"491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
            (0x17, b"500101000000Z", datetime(1950, 1, 1, tzinfo=UTC)),
            (0x17, b"991231000000Z", datetime(1999, 12, 31, tzinfo=UTC)),
            (0x18, b"20500101000000Z", datetime(2050, 1, 1, tzinfo=UTC)),
            (0x18, b"99991231235959Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ],
    )
    def test_read(self, tag: int, text: bytes, moment: datetime) -> None:
        """RFC 5280 §4.1.2.5.1, §4.1.2.5.2."""
        assert moment == Der(tlv(tag, text)).time()

    @pytest.mark.parametrize(
        ("tag", "text"),
        [
            (0x17, b""),
            (0x17, b"4912312359Z"),
            (0x17, b"491231235959+0000"),
            (0x17, b"491231235959z"),
            (0x17, b"491331235959Z"),
            (0x17, "49123123595\u0663Z".encode()),
            (0x18, b"491231235959Z"),
            (0x18, b"20501231235959.5Z"),
            (0x18, b"00001231235959Z"),
            (0x18, b"20500230000000Z"),
            (0x18, b"2050123123595 Z"),
            (0x16, b"491231235959Z"),
        ],
    )
    def test_another_form(self, tag: int, text: bytes) -> None:
        """Without seconds, with a zone or fractions, or no time there ever was."""
        with pytest.raises(DerError, match="time|tag"):
            Der(tlv(tag, text)).time()
