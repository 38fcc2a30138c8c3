"""The X.509 authorities of one trust domain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import TYPE_CHECKING

from spiffe_client._values import dataclass
from spiffe_client.bundle._certificate import Certificate, certificate_of
from spiffe_client.bundle._certificates import parse_certificates_der, parse_certificates_pem
from spiffe_client.ids import TrustDomain

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["X509Bundle"]


@dataclass(frozen=True, slots=True, repr=False)
class X509Bundle:
    """The certificates that vouch for the X509-SVIDs of one trust domain (X509-SVID §5.1).

    Roots or intermediates, each an anchor of its own. Whether one may really sign is decided when
    a chain is verified: an authority of no use costs nothing but itself. Two bundles are equal if
    they hold the same certificates, in any order.

    Args:
        trust_domain: Whose authorities these are.
        certificates: Of either kind; without duplicates then, in the order given. Empty trusts nothing.

    Attributes:
        trust_domain: As above.
        certificates: As above.
        ders: The DER of each authority, to look anchors up.

    Raises:
        BundleError: A certificate of `cryptography`'s is not DER all through.
    """

    trust_domain: TrustDomain
    certificates: tuple[Certificate, ...] = field(compare=False)
    ders: frozenset[bytes] = field(init=False)

    def __init__(
        self, trust_domain: TrustDomain, certificates: Iterable[Certificate | x509.Certificate]
    ) -> None:
        by_der = {c.der: c for c in map(certificate_of, certificates)}
        values = {
            "trust_domain": trust_domain,
            "certificates": tuple(by_der.values()),
            "ders": frozenset(by_der),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def authorities(self) -> tuple[x509.Certificate, ...]:
        """The same certificates as `cryptography` reads them, which loads it.

        Raises:
            BundleError: It does not read one of them.
        """
        return tuple(c.x509 for c in self.certificates)

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
        return b"".join(c.der for c in self.certificates)

    def to_pem(self) -> bytes:
        """Return the authorities as PEM blocks."""
        return b"".join(c.pem for c in self.certificates)

    def __repr__(self) -> str:
        return f"X509Bundle({self.trust_domain}, {len(self.certificates)} authorities)"
