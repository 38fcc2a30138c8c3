"""Certificates out of bytes: concatenated DER split by exact bounds, and PEM.

Nothing here judges a certificate; that is the business of `svid`.
"""

from __future__ import annotations

from spiffe_client._der import SEQUENCE, Der, DerError
from spiffe_client.bundle._certificate import Certificate, certificate_of, parse_certificate
from spiffe_client.errors import BundleError, SpiffeError

__all__ = ["parse_certificates_der", "parse_certificates_pem", "split_der"]

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
    rest = Der(der)
    while rest.tag is not None:
        if len(elements) == most:
            raise error(f"more than {most} DER elements")
        try:
            elements.append(rest.element(SEQUENCE))
        except DerError as reason:
            raise error(f"no complete DER SEQUENCE: {reason}, of {len(der)}") from reason
    if not elements:
        raise error("there are no bytes where DER was expected")
    return elements


def parse_certificates_der(
    der: bytes, *, error: type[SpiffeError] = BundleError, size: int = 1 << 20, most: int = 1000
) -> tuple[Certificate, ...]:
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


def _load(der: bytes, number: int, error: type[SpiffeError]) -> Certificate:
    try:
        return parse_certificate(bytes(der))
    except BundleError as reason:
        raise error(f"certificate {number} cannot be parsed: {reason}") from reason


def parse_certificates_pem(
    pem: bytes, *, error: type[SpiffeError] = BundleError, size: int = 2 << 20, most: int = 1000
) -> tuple[Certificate, ...]:
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
    # Files come from people, who are not in a hurry: `cryptography` knows all that PEM can be.
    from cryptography.x509 import load_pem_x509_certificates

    try:
        certificates = tuple(map(certificate_of, load_pem_x509_certificates(pem)))
    except Exception as reason:  # border: the parser's errors have no common base
        why = reason if begun else "not one CERTIFICATE block is in it"
        raise error(f"no PEM certificates: {why}") from reason
    # A PEM reader skips a block without an end; a root that silently vanished must not pass.
    if len(certificates) < begun:
        raise error(f"{begun} PEM certificates begin, {len(certificates)} can be read")
    return certificates
