"""One X.509 certificate as SPIFFE looks at it.

Why not `cryptography.x509`: loading it takes a fifth of the time until a workload has its first
SVID, and 2.5 MiB, for what no SVID has. It stays a step away, as `Certificate.x509`, and it is asked
whenever a certificate has something out of the ordinary. The tests hold the two against each
other, byte by byte.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import field
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from spiffe_client._values import dataclass
from spiffe_client.bundle._extensions import Extension, Extensions, read_extensions
from spiffe_client.bundle._structure import read_parts
from spiffe_client.errors import BundleError

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["Certificate", "certificate_of", "parse_certificate"]

_PEM_LINE = 64
_WORTH_REMEMBERING = 4 << 10
_set = object.__setattr__


@dataclass(frozen=True, slots=True, repr=False)
class Certificate:
    """A certificate (RFC 5280 §4.1), read once and never changed; equal if its bytes are.

    Args:
        der: One certificate and nothing else.

    Attributes:
        der: All of it.
        tbs: What is signed, DER.
        signature_algorithm: How it is signed, an AlgorithmIdentifier, DER.
        signature: The issuer's, over `tbs`.
        serial_number: What the issuer numbers it with.
        issuer: The issuer's name, DER.
        subject: Its own name, DER.
        not_before: When it begins to be valid, UTC.
        not_after: When it expires, UTC.
        public_key_info: Its SubjectPublicKeyInfo, DER.

    Raises:
        BundleError: It is malformed.
    """

    der: bytes
    tbs: bytes = field(init=False, compare=False)
    signature_algorithm: bytes = field(init=False, compare=False)
    signature: bytes = field(init=False, compare=False)
    serial_number: int = field(init=False, compare=False)
    issuer: bytes = field(init=False, compare=False)
    subject: bytes = field(init=False, compare=False)
    not_before: datetime = field(init=False, compare=False)
    not_after: datetime = field(init=False, compare=False)
    public_key_info: bytes = field(init=False, compare=False)
    _extensions: tuple[Extension, ...] = field(init=False, compare=False)
    # Made when they are first asked for; a second thread that asks meanwhile makes the same.
    _extensions_read: Extensions | None = field(init=False, compare=False)
    _public_key: object = field(init=False, compare=False)
    _x509: x509.Certificate | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        try:
            parts = read_parts(bytes(self.der))
        except Exception as error:  # border: DerError, and whatever else a stranger's bytes come to
            raise BundleError(f"not a certificate: {error}") from error
        for name, value in parts.items():
            _set(self, name, value)
        for name in ("_extensions_read", "_public_key", "_x509"):
            _set(self, name, None)

    @property
    def extensions(self) -> Extensions:
        """What its extensions say.

        Raises:
            BundleError: One is malformed, or there twice.
        """
        if self._extensions_read is None:
            try:
                _set(self, "_extensions_read", read_extensions(self._extensions))
            except Exception as error:  # border, as above
                raise BundleError(f"the certificate's extensions cannot be read: {error}") from error
        assert self._extensions_read is not None
        return self._extensions_read

    @property
    def x509(self) -> x509.Certificate:
        """The same as `cryptography` reads it, for all that is not asked here.

        Raises:
            BundleError: It does not.
        """
        if self._x509 is None:
            from cryptography.x509 import load_der_x509_certificate

            try:
                _set(self, "_x509", load_der_x509_certificate(self.der))
            except Exception as error:  # border: that parser's errors have no common base
                raise BundleError(f"cryptography cannot read the certificate: {error}") from error
        assert self._x509 is not None
        return self._x509

    def public_key(self) -> object:
        """Return its public key, of one of `cryptography`'s types.

        Raises:
            BundleError: It is malformed, or of an unknown kind or curve.
        """
        if self._public_key is None:
            try:
                _set(self, "_public_key", _load_public_key(self.public_key_info))
            except Exception as error:  # border, as above
                raise BundleError(f"the certificate's public key cannot be read: {error}") from error
        return self._public_key

    @property
    def pem(self) -> bytes:
        """A `CERTIFICATE` block (RFC 7468 §5)."""
        text = b64encode(self.der)
        lines = (text[i : i + _PEM_LINE] for i in range(0, len(text), _PEM_LINE))
        return b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----\n" % b"\n".join(lines)

    def __reduce__(self) -> tuple[type[Certificate], tuple[bytes]]:
        return Certificate, (self.der,)

    def __repr__(self) -> str:
        return f"<Certificate {self.serial_number:x}, until {self.not_after:%Y-%m-%dT%H:%M:%SZ}>"


def parse_certificate(der: bytes) -> Certificate:
    """Read a certificate, or remember it: authorities come again with each update, leaves with each look.

    What is remembered is bounded: 256 certificates of at most 4 KiB.

    Args:
        der: As for `Certificate`.

    Raises:
        BundleError: It is malformed.
    """
    return _remembered(der) if len(der) <= _WORTH_REMEMBERING else Certificate(der)


_remembered = lru_cache(maxsize=256)(Certificate)


def certificate_of(certificate: Certificate | x509.Certificate) -> Certificate:
    """Return a certificate as `Certificate`, whichever of the two kinds it is.

    Raises:
        BundleError: `cryptography` is less strict than what is read here.
    """
    if isinstance(certificate, Certificate):
        return certificate
    from cryptography.hazmat.primitives.serialization import Encoding

    return parse_certificate(certificate.public_bytes(Encoding.DER))


def _load_public_key(der: bytes) -> object:
    from spiffe_client._ec import load_public_der

    usual = load_public_der(der)
    if usual is not None:
        return usual
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return load_der_public_key(der)
