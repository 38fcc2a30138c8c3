"""The X509-SVID of a workload: its certificates and its private key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from spiffe_client._frames import border
from spiffe_client._redact import Secret
from spiffe_client.bundle import (
    BundleSet,
    X509Bundle,
    parse_certificates_der,
    parse_certificates_pem,
    split_der,
)
from spiffe_client.errors import X509SvidError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid._leaf import check_leaf
from spiffe_client.svid._path import check_key
from spiffe_client.svid._search import MAX_CHAIN
from spiffe_client.svid._verify import verify_x509_svid

__all__ = ["PrivateKey", "X509Svid"]

PrivateKey: TypeAlias = EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey

#: Largest inputs that are parsed, in bytes.
MAX_CHAIN_BYTES = 64 << 10
MAX_KEY_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class X509Svid:
    """An identity of this workload with the key that proves it (X509-SVID §2-4).

    One that exists keeps the rules for leaves and has the key that belongs to its leaf. That its
    chain leads to a trusted authority, and its dates, are for `verify`.

    Attributes:
        id: Whose it is, from the leaf.
        chain: The leaf first, then intermediates.
        private_key: Of the leaf: EC on a NIST curve, RSA of at least 2048 bits, or Ed25519.
        hint: What the issuer says it is for; empty if nothing.
    """

    id: SpiffeId = field(init=False)
    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey = field(repr=False, compare=False)
    hint: str = ""

    def __post_init__(self) -> None:
        if not self.chain:
            raise X509SvidError("an X509-SVID without certificates")
        object.__setattr__(self, "id", check_leaf(self.leaf))
        _check_pair(self.leaf, self.private_key)

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
        return cls(certificates, _load(load_pem_private_key, key), hint)

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that is the SVID."""
        return self.chain[0]

    @property
    def not_before(self) -> datetime:
        """When the leaf begins to be valid, UTC."""
        return self.leaf.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """When the leaf expires, UTC."""
        return self.leaf.not_valid_after_utc

    @property
    def serial_number(self) -> int:
        """The leaf's serial number."""
        return self.leaf.serial_number

    @property
    def ders(self) -> tuple[bytes, ...]:
        """The DER of each certificate, leaf first."""
        return tuple(c.public_bytes(Encoding.DER) for c in self.chain)

    def chain_pem(self) -> bytes:
        """Return the certificates as PEM blocks, leaf first."""
        return b"".join(c.public_bytes(Encoding.PEM) for c in self.chain)

    def key_pem(self) -> Secret[bytes]:
        """Return the private key as unencrypted PKCS#8 PEM, which must not be written to a disk."""
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
        verify_x509_svid(self.chain, bundles, at=at)


def _load(loader: Callable[[bytes, None], object], key: bytes, most: int = MAX_KEY_BYTES) -> PrivateKey:
    if len(key) > most:
        raise X509SvidError(f"a private key of {len(key)} bytes; at most {most} are read")
    try:
        loaded = loader(key, None)
    except Exception:  # noqa: BLE001 - border; and nothing of what a parser says about a key is kept
        loaded = None
    if loaded is None:
        raise X509SvidError("the private key cannot be read: PKCS#8 without encryption is expected")
    if not isinstance(loaded, PrivateKey):
        raise X509SvidError(f"the private key is neither EC, RSA nor Ed25519 but {type(loaded).__name__}")
    return loaded


def _load_der_key(key: bytes, password: None) -> object:
    # Trailing bytes, which the parser overlooks, are refused.
    [whole] = split_der(key, most=1)
    return load_der_private_key(whole, password)


def _check_pair(leaf: x509.Certificate, key: PrivateKey) -> None:
    try:
        public = leaf.public_key()
    except Exception as error:  # border: the parser's errors have no common base
        raise X509SvidError(f"the leaf's public key cannot be read: {error}") from error
    check_key(public)
    if public != key.public_key():
        raise X509SvidError("the private key does not belong to the leaf")
