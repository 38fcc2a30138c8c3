"""Certificates out of bytes: concatenated DER split by exact bounds, and PEM.

Nothing here judges a certificate; that is the business of `svid`.
"""

from __future__ import annotations

from cryptography import x509

from spiffe_client.errors import BundleError, SpiffeError

__all__ = ["parse_certificates_der", "parse_certificates_pem", "split_der"]

_SEQUENCE = 0x30
_LONG_FORM = 0x80
_PEM_BEGIN = b"-----BEGIN CERTIFICATE-----"


def split_der(der: bytes, *, error: type[SpiffeError] = BundleError, most: int = 1000) -> list[bytes]:
    """Split concatenated DER SEQUENCEs by their lengths, looking at nothing else.

    Args:
        der: One SEQUENCE after the other, nothing before, between or after them.
        error: What to raise.
        most: The largest number of elements allowed.

    Raises:
        SpiffeError: `error`: it is empty, cut short, has anything else in it, or too many elements.
    """
    elements: list[bytes] = []
    start = 0
    while start < len(der):
        if len(elements) == most:
            raise error(f"more than {most} DER elements")
        end = _element_end(der, start)
        if end is None:
            raise error(f"no complete DER SEQUENCE at byte {start} of {len(der)}")
        elements.append(der[start:end])
        start = end
    if not elements:
        raise error("there are no bytes where DER was expected")
    return elements


def _element_end(der: bytes, start: int) -> int | None:
    """Return where the SEQUENCE that begins at `start` ends, None if it is not whole or not DER."""
    header = der[start : start + 2]
    if len(header) < 2 or header[0] != _SEQUENCE:
        return None
    body, length = start + 2, header[1]
    if length >= _LONG_FORM:
        width = length - _LONG_FORM
        octets = der[body : body + width]
        # DER wants the shortest form; 0 octets would be BER's indefinite length, and nothing that
        # is read here is as large as four octets can say.
        if not 1 <= width <= 3 or len(octets) < width or octets[0] == 0:
            return None
        body, length = body + width, int.from_bytes(octets, "big")
        if length < _LONG_FORM:
            return None
    end = body + length
    return end if end <= len(der) else None


def parse_certificates_der(
    der: bytes, *, error: type[SpiffeError] = BundleError, size: int = 1 << 20, most: int = 1000
) -> tuple[x509.Certificate, ...]:
    """Parse one or more certificates, DER, concatenated.

    Args:
        der: The certificates, nothing else.
        error: What to raise.
        size: The largest number of bytes looked at.
        most: The largest number of certificates allowed.

    Raises:
        SpiffeError: `error`: too large, empty, trailing bytes, or not certificates.
    """
    if len(der) > size:
        raise error(f"{len(der)} bytes of certificates; at most {size} are read")
    return tuple(
        _load(element, number, error)
        for number, element in enumerate(split_der(der, error=error, most=most), 1)
    )


def _load(der: bytes, number: int, error: type[SpiffeError]) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except Exception as reason:  # border: the parser's errors have no common base
        raise error(f"certificate {number} cannot be parsed: {reason}") from reason


def parse_certificates_pem(
    pem: bytes, *, error: type[SpiffeError] = BundleError, size: int = 2 << 20, most: int = 1000
) -> tuple[x509.Certificate, ...]:
    """Parse one or more PEM certificates; text outside of the blocks is ignored, as PEM allows.

    Args:
        pem: `CERTIFICATE` blocks.
        error: What to raise.
        size: The largest number of bytes looked at.
        most: The largest number of certificates allowed.

    Raises:
        SpiffeError: `error`: too large, no certificate in it, or a block that is broken or cut short.
    """
    if len(pem) > size:
        raise error(f"{len(pem)} bytes of certificates; at most {size} are read")
    begun = pem.count(_PEM_BEGIN)
    if begun > most:
        raise error(f"more than {most} PEM certificates")
    try:
        certificates = tuple(x509.load_pem_x509_certificates(pem))
    except Exception as reason:  # border, as above
        raise error(f"no PEM certificates: {reason}") from reason
    # A PEM reader skips a block without an end; a root that silently vanished must not pass.
    if len(certificates) < begun:
        raise error(f"{begun} PEM certificates begin, {len(certificates)} can be read")
    return certificates
