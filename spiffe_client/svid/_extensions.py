"""Extensions of a certificate: the one place where a parser meets what a stranger wrote."""

from __future__ import annotations

from typing import TypeVar

from cryptography import x509

from spiffe_client.errors import X509SvidError

__all__ = ["extensions_of", "find_extension"]

_E = TypeVar("_E", bound=x509.ExtensionType)


def extensions_of(certificate: x509.Certificate) -> x509.Extensions:
    """Return all extensions.

    Raises:
        X509SvidError: One is malformed, or there twice (RFC 5280 §4.2).
    """
    try:
        return certificate.extensions
    except Exception as error:  # border: the parser's errors have no common base
        raise X509SvidError(f"the certificate's extensions cannot be read: {error}") from error


def find_extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    """Return the extension of this kind, None if the certificate does not have it.

    Raises:
        X509SvidError: The extensions cannot be read.
    """
    for extension in extensions_of(certificate):
        if isinstance(extension.value, kind):
            return extension.value
    return None
