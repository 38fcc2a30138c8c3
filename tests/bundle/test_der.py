"""Concatenated DER is split by exact bounds, and PEM is read whole or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.bundle import parse_certificates_der, parse_certificates_pem, split_der
from spiffe_client.errors import BundleError, X509SvidError
from tests.support.odd_certificates import sign_ca

ROOTS = [sign_ca(cn=f"root {n}") for n in range(3)]


def sequence(body: bytes) -> bytes:
    if len(body) < 0x80:
        return bytes([0x30, len(body)]) + body
    octets = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([0x30, 0x80 + len(octets)]) + octets + body


class TestSplitDer:
    @given(
        st.lists(st.binary(max_size=70_000) | st.binary(min_size=120, max_size=130), min_size=1, max_size=5)
    )
    def test_joined_elements_come_apart_again(self, bodies: list[bytes]) -> None:
        """X509-SVID in the Workload API §5: certificates are concatenated with no padding between."""
        elements = [sequence(body) for body in bodies]
        assert elements == split_der(b"".join(elements))

    @pytest.mark.parametrize(
        "der",
        [
            b"",
            b"\x30",  # a tag without a length
            b"\x31\x00",  # a SET
            b"\x30\x05\x00",  # cut short
            b"\x30\x82\x01",  # cut short within the length
            b"\x30\x80\x00\x00",  # BER's indefinite length
            b"\x30\x80" + bytes(128),
            b"\x30\x81\x05" + b"x" * 5,  # a long form where the short one is the only DER
            b"\x30\x82\x00\x80" + b"x" * 128,  # a length with a leading zero
            b"\x30\x84\x01\x00\x00\x00" + bytes(1 << 24),  # sixteen megabytes
            b"\x30\x84\xff\xff\xff\xff",  # four gigabytes, of which nothing is there
            b"\x30\x00\x00",  # trailing garbage of one byte
            b"\x30\x00garbage",
            b"\n\x30\x00",
        ],
    )
    def test_anything_else_is_refused(self, der: bytes) -> None:
        """Not a byte may be left over, before, between or after."""
        with pytest.raises(BundleError):
            split_der(der)

    def test_too_many_elements_are_not_collected(self) -> None:
        """The limit holds before memory is spent."""
        assert 3 == len(split_der(b"\x30\x00" * 3, most=3))
        with pytest.raises(X509SvidError, match="more than 3"):
            split_der(b"\x30\x00" * 4, most=3, error=X509SvidError)

    @given(st.binary(max_size=200))
    def test_any_bytes_give_elements_or_the_error(self, data: bytes) -> None:
        """What comes out is what went in, or nothing does."""
        try:
            elements = split_der(data)
        except BundleError:
            return
        assert data == b"".join(elements)


class TestParseCertificatesDer:
    def test_order_is_kept(self) -> None:
        """A chain has its leaf first."""
        parsed = parse_certificates_der(b"".join(r.der for r in ROOTS))
        assert [r.certificate for r in ROOTS] == [c.x509 for c in parsed]

    @pytest.mark.parametrize("tail", [b"\0", b"\x30\x00", b"\x30\x03\x02\x01\x01", ROOTS[0].der[:-1]])
    def test_trailing_garbage_is_refused(self, tail: bytes) -> None:
        """A reader that stops after the first certificate would overlook it."""
        with pytest.raises(BundleError):
            parse_certificates_der(ROOTS[0].der + tail)

    def test_the_broken_one_is_named(self) -> None:
        """Whoever has to fix it knows where to look."""
        with pytest.raises(X509SvidError, match="certificate 2 cannot be parsed"):
            parse_certificates_der(ROOTS[0].der + b"\x30\x00", error=X509SvidError)

    def test_too_large_is_refused_before_it_is_parsed(self) -> None:
        """Not one byte is looked at."""
        assert parse_certificates_der(ROOTS[0].der, size=len(ROOTS[0].der))
        with pytest.raises(BundleError, match="at most 10"):
            parse_certificates_der(b"x" * 11, size=10)

    def test_der_decoded_as_text(self) -> None:
        """The Workload API speaks DER: PEM in its place is refused, not guessed at."""
        with pytest.raises(BundleError):
            parse_certificates_der(ROOTS[0].pem)

    @given(st.data())
    def test_a_flipped_byte_gives_certificates_or_the_error(self, data: st.DataObject) -> None:
        """Whatever was damaged on the way."""
        der = bytearray(ROOTS[0].der + ROOTS[1].der)
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
        try:
            assert 2 == len(parse_certificates_der(bytes(der)))
        except BundleError:
            pass


class TestParseCertificatesPem:
    def test_text_around_the_blocks_is_allowed(self) -> None:
        """RFC 7468 §2: explanatory text outside of the boundaries is ignored."""
        pem = b"# Roots of a.test\n" + ROOTS[0].pem + b"\nthe next one\n" + ROOTS[1].pem
        assert [r.certificate for r in ROOTS[:2]] == [c.x509 for c in parse_certificates_pem(pem)]

    @pytest.mark.parametrize(
        "pem",
        [
            b"",
            b"nothing of the kind",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ROOTS[0].der,
        ],
    )
    def test_without_certificates_it_is_refused(self, pem: bytes) -> None:
        """An empty file is a mistake, not an empty bundle."""
        with pytest.raises(BundleError):
            parse_certificates_pem(pem)

    def test_a_block_cut_short_does_not_vanish(self) -> None:
        """A PEM reader skips what has no end; here a root would be missing and nobody would know."""
        with pytest.raises(BundleError):
            parse_certificates_pem(ROOTS[0].pem + ROOTS[1].pem[:100])

    def test_limits(self) -> None:
        """Bytes and blocks are counted before they are parsed."""
        assert parse_certificates_pem(ROOTS[0].pem, size=len(ROOTS[0].pem), most=1)
        with pytest.raises(BundleError, match="at most 10"):
            parse_certificates_pem(b"x" * 11, size=10)
        with pytest.raises(BundleError, match="more than 1"):
            parse_certificates_pem(ROOTS[0].pem * 2, most=1)

    @given(st.binary(max_size=300) | st.text().map(lambda t: ROOTS[0].pem + t.encode()))
    def test_any_bytes_give_certificates_or_the_error(self, data: bytes) -> None:
        """Never anything else."""
        try:
            assert parse_certificates_pem(data)
        except BundleError:
            pass
