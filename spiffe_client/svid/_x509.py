"""The X509-SVID of a workload: its certificates and its private key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import field
from datetime import datetime
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from spiffe_client._ec import load_private_der
from spiffe_client._frames import border
from spiffe_client._values import dataclass
from spiffe_client.bundle import (
    BundleSet,
    Certificate,
    X509Bundle,
    parse_certificates_der,
    parse_certificates_pem,
    split_der,
)
from spiffe_client.errors import X509SvidError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid._extensions import public_key_of, read_certificate
from spiffe_client.svid._leaf import check_leaf
from spiffe_client.svid._path import check_key
from spiffe_client.svid._search import MAX_CHAIN
from spiffe_client.svid._verify import verify_x509_svid

if TYPE_CHECKING:
    from cryptography import x509

    from spiffe_client._redact import Secret
    from spiffe_client.svid._keys import PrivateKey

__all__ = ["X509Svid"]

#: Largest inputs that are parsed, in bytes.
MAX_CHAIN_BYTES = 64 << 10
MAX_KEY_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class X509Svid:
    """An identity of this workload with the key that proves it (X509-SVID §2-4).

    One that exists keeps the rules for leaves and has the key that belongs to its leaf. That its
    chain leads to a trusted authority, and its dates, are for `verify`.

    Args:
        certificates: The leaf first, then intermediates; of either kind.
        private_key: Of the leaf: EC on a NIST curve, RSA of at least 2048 bits, or Ed25519.
        hint: What the issuer says it is for; empty if nothing.

    Attributes:
        id: Whose it is, from the leaf.
        certificates: The leaf first, then intermediates.
        private_key: As above.
        hint: As above.

    Raises:
        X509SvidError: A rule for leaves is broken, or the key is another's.
    """

    id: SpiffeId = field(init=False)
    certificates: tuple[Certificate, ...]
    private_key: PrivateKey = field(repr=False, compare=False)
    hint: str = ""

    def __init__(
        self,
        certificates: Iterable[Certificate | x509.Certificate],
        private_key: PrivateKey,
        hint: str = "",
    ) -> None:
        chain = tuple(map(read_certificate, certificates))
        if not chain:
            raise X509SvidError("an X509-SVID without certificates")
        spiffe_id = check_leaf(chain[0])
        _check_pair(chain[0], private_key)
        values = {"id": spiffe_id, "certificates": chain, "private_key": private_key, "hint": hint}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    @border
    def parse_der(cls, chain: bytes, key: bytes, *, hint: str = "") -> X509Svid:
        """Parse what the Workload API sends.

        Args:
            chain: Certificates, DER, concatenated, leaf first; at most 64 KiB and 16 certificates.
            key: PKCS#8, DER, unencrypted; at most 16 KiB.
            hint: What the issuer says it is for.

        Raises:
            X509SvidError: Something is malformed or too large, a rule for leaves is broken, or the
                key is another's.
        """
        certificates = parse_certificates_der(
            chain, error=X509SvidError, size=MAX_CHAIN_BYTES, most=MAX_CHAIN
        )
        return cls(certificates, _load(_load_der_key, key), hint)

    @classmethod
    @border
    def load_pem(cls, chain: bytes, key: bytes, *, hint: str = "") -> X509Svid:
        """Parse PEM, as files hold it; limits and errors as `parse_der`.

        Args:
            chain: `CERTIFICATE` blocks, leaf first.
            key: A `PRIVATE KEY` block, unencrypted.
            hint: What it is for.
        """
        certificates = parse_certificates_pem(
            chain, error=X509SvidError, size=2 * MAX_CHAIN_BYTES, most=MAX_CHAIN
        )
        return cls(certificates, _load(_load_pem_key, key), hint)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The same certificates as `cryptography` reads them, which loads it.

        Raises:
            BundleError: It does not read one of them.
        """
        return tuple(c.x509 for c in self.certificates)

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that is the SVID; as `chain`."""
        return self.certificates[0].x509

    @property
    def not_before(self) -> datetime:
        """When the leaf begins to be valid, UTC."""
        return self.certificates[0].not_before

    @property
    def not_after(self) -> datetime:
        """When the leaf expires, UTC."""
        return self.certificates[0].not_after

    @property
    def serial_number(self) -> int:
        """The leaf's serial number."""
        return self.certificates[0].serial_number

    @property
    def ders(self) -> tuple[bytes, ...]:
        """The DER of each certificate, leaf first."""
        return tuple(c.der for c in self.certificates)

    def chain_pem(self) -> bytes:
        """Return the certificates as PEM blocks, leaf first."""
        return b"".join(c.pem for c in self.certificates)

    def key_pem(self) -> Secret[bytes]:
        """Return the private key as unencrypted PKCS#8 PEM, which must not be written to a disk."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        from spiffe_client._redact import Secret

        return Secret(self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def verify(self, bundles: BundleSet[X509Bundle], *, at: datetime) -> None:
        """Verify the chain as a peer will: dates, signatures, an authority of the own trust domain.

        Args:
            bundles: The own trust domain's is looked for in it.
            at: The time to verify for, aware.

        Raises:
            X509SvidError: It does not verify.
            BundleNotFoundError: The own trust domain's bundle is not there.
        """
        verify_x509_svid(self.certificates, bundles, at=at)


def _load(loader: Callable[[bytes], object], key: bytes, most: int = MAX_KEY_BYTES) -> PrivateKey:
    if len(key) > most:
        raise X509SvidError(f"a private key of {len(key)} bytes; at most {most} are read")
    try:
        loaded = loader(key)
    except Exception:  # noqa: BLE001 - border; and nothing of what a parser says about a key is kept
        loaded = None
    if loaded is None:
        raise X509SvidError("the private key cannot be read: PKCS#8 without encryption is expected")
    if isinstance(loaded, EllipticCurvePrivateKey):
        return loaded
    from spiffe_client.svid._keys import PrivateKey

    if not isinstance(loaded, PrivateKey):
        raise X509SvidError(f"the private key is neither EC, RSA nor Ed25519 but {type(loaded).__name__}")
    return loaded


def _load_der_key(key: bytes) -> object:
    usual = load_private_der(key)
    if usual is not None:
        return usual
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    # Trailing bytes, which the parser overlooks, are refused.
    [whole] = split_der(key, most=1)
    return load_der_private_key(whole, None)


def _load_pem_key(key: bytes) -> object:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(key, None)


def _check_pair(leaf: Certificate, key: PrivateKey) -> None:
    public = public_key_of(leaf)
    check_key(public)
    if public != key.public_key():
        raise X509SvidError("the private key does not belong to the leaf")
