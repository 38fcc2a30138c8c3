"""The X.509 authorities of one trust domain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spiffe_client.bundle._certificates import parse_certificates_der, parse_certificates_pem
from spiffe_client.ids import TrustDomain

__all__ = ["X509Bundle"]


@dataclass(frozen=True, slots=True, repr=False)
class X509Bundle:
    """The certificates that vouch for the X509-SVIDs of one trust domain (X509-SVID §5.1).

    Roots or intermediates, each an anchor of its own. Whether one may really sign is decided when
    a chain is verified: an authority of no use costs nothing but itself. Two bundles are equal if
    they hold the same certificates, in any order.

    Attributes:
        trust_domain: Whose authorities these are.
        authorities: Without duplicates, in the order given; empty trusts nothing.
        ders: The DER of each authority, to look anchors up.
    """

    trust_domain: TrustDomain
    authorities: tuple[x509.Certificate, ...] = field(compare=False)
    ders: frozenset[bytes] = field(init=False)

    def __post_init__(self) -> None:
        by_der = {c.public_bytes(Encoding.DER): c for c in self.authorities}
        object.__setattr__(self, "authorities", tuple(by_der.values()))
        object.__setattr__(self, "ders", frozenset(by_der))

    @classmethod
    def parse_der(cls, trust_domain: TrustDomain, der: bytes) -> X509Bundle:
        """Parse what the Workload API sends: one or more certificates, DER, concatenated.

        Args:
            trust_domain: Whose authorities these are.
            der: At least one certificate, at most 1 MiB and 1000 certificates.

        Raises:
            BundleError: It is empty, too large, not certificates, or has trailing bytes.
        """
        return cls(trust_domain, parse_certificates_der(der))

    @classmethod
    def parse_pem(cls, trust_domain: TrustDomain, pem: bytes) -> X509Bundle:
        """Parse one or more PEM certificates.

        Args:
            trust_domain: Whose authorities these are.
            pem: At least one `CERTIFICATE` block, at most 2 MiB and 1000 blocks.

        Raises:
            BundleError: It holds no certificate, is too large, or a block is broken.
        """
        return cls(trust_domain, parse_certificates_pem(pem))

    def to_der(self) -> bytes:
        """Return the authorities as concatenated DER."""
        return _concatenated(self.authorities, Encoding.DER)

    def to_pem(self) -> bytes:
        """Return the authorities as PEM blocks."""
        return _concatenated(self.authorities, Encoding.PEM)

    def __repr__(self) -> str:
        return f"X509Bundle({self.trust_domain}, {len(self.authorities)} authorities)"


def _concatenated(certificates: Iterable[x509.Certificate], encoding: Encoding) -> bytes:
    return b"".join(c.public_bytes(encoding) for c in certificates)
