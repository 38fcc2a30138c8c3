"""What a certificate says, with errors of this room: the one place where its rules meet the parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spiffe_client.bundle import Certificate, certificate_of
from spiffe_client.errors import BundleError, X509SvidError

if TYPE_CHECKING:
    from cryptography import x509

    from spiffe_client.bundle._extensions import Extensions

__all__ = ["extensions_of", "public_key_of", "read_certificate"]


def read_certificate(certificate: Certificate | x509.Certificate) -> Certificate:
    """Return a certificate as it is looked at here.

    Raises:
        X509SvidError: `cryptography` was less strict than X.690.
    """
    try:
        return certificate_of(certificate)
    except BundleError as error:
        raise X509SvidError(str(error)) from error


def extensions_of(certificate: Certificate) -> Extensions:
    """Return all extensions.

    Raises:
        X509SvidError: One is malformed, or there twice (RFC 5280 §4.2).
    """
    try:
        return certificate.extensions
    except BundleError as error:
        raise X509SvidError(str(error)) from error


def public_key_of(certificate: Certificate) -> object:
    """Return the public key, of one of `cryptography`'s types.

    Raises:
        X509SvidError: It is malformed, or of an unknown kind or curve.
    """
    try:
        return certificate.public_key()
    except BundleError as error:
        raise X509SvidError(f"cannot be read: {error}") from error
