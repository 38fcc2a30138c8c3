"""Whether one certificate signed another (RFC 5280 §4.1.1.2, §6.1.3(a)).

The algorithms in use are done here, with `cryptography`'s primitives alone. For any other, such as
RSASSA-PSS or an old hash, `cryptography.x509` is asked, which takes longer to load.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey

from spiffe_client.bundle import Certificate

__all__ = ["signed_by", "weak_hash"]

_SHA = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
# AlgorithmIdentifiers: RFC 5758 §3.2, RFC 4055 §5 (with NULL, and without), RFC 8410 §3.
_ECDSA: Mapping[bytes, hashes.HashAlgorithm] = {
    bytes.fromhex("300a06082a8648ce3d040302"): _SHA["256"],
    bytes.fromhex("300a06082a8648ce3d040303"): _SHA["384"],
    bytes.fromhex("300a06082a8648ce3d040304"): _SHA["512"],
}
_RSA: Mapping[bytes, hashes.HashAlgorithm] = {
    bytes.fromhex("300d06092a864886f70d01010b0500"): _SHA["256"],
    bytes.fromhex("300d06092a864886f70d01010c0500"): _SHA["384"],
    bytes.fromhex("300d06092a864886f70d01010d0500"): _SHA["512"],
}
_ED25519 = bytes.fromhex("300506032b6570")
_STRONG = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
#: Bytes of a certificate up to which what signed it is remembered: larger ones are not in use.
_WORTH_REMEMBERING = 4 << 10


def signed_by(certificate: Certificate, issuer: Certificate) -> bool:
    """Whether the issuer's key made the certificate's signature; nothing else is looked at.

    False, too, where the key cannot be read or cannot make such a signature. What is true is remembered,
    by all bytes of both, for 256 pairs: an SVID comes with the same intermediate each time, and is read
    by its workload and shown to peers.
    """
    small = max(len(certificate.der), len(issuer.der)) <= _WORTH_REMEMBERING
    try:
        (_remembered if small else _require)(certificate, issuer)
    except Exception:  # noqa: BLE001 - border: InvalidSignature, and the parser's errors, which have no common base
        return False
    return True


def _require(certificate: Certificate, issuer: Certificate) -> None:
    """Return if the issuer's key made the certificate's signature; whatever is raised, it did not."""
    if not _verified(certificate, issuer.public_key()):
        certificate.x509.verify_directly_issued_by(issuer.x509)


# An error is not remembered: it may be one of the moment.
_remembered = lru_cache(maxsize=256)(_require)


def _verified(certificate: Certificate, key: object) -> bool:
    """Verify the signature; False if its algorithm is none of those in use, or does not fit the key."""
    how, signature, signed = certificate.signature_algorithm, certificate.signature, certificate.tbs
    if isinstance(key, EllipticCurvePublicKey):
        if how in _ECDSA:
            _verify_ecdsa(key, signature, signed, _ECDSA[how])
        return how in _ECDSA
    # Loaded where one is met: the usual start saves 2 ms.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(key, RSAPublicKey) and how in _RSA:
        key.verify(signature, signed, PKCS1v15(), _RSA[how])
    elif isinstance(key, Ed25519PublicKey) and how == _ED25519:
        key.verify(signature, signed)
    else:
        return False
    return True


class _LightEcdsa(ECDSA):
    """ECDSA over a hash, to verify with.

    The constructor it leaves out asks whether signatures could be made without a random number, and loads
    ciphers for that: 4 ms before the first SVID.
    """

    def __init__(self, algorithm: hashes.HashAlgorithm) -> None:
        self._hash = algorithm

    @property
    def algorithm(self) -> hashes.HashAlgorithm:
        return self._hash


def _verify_ecdsa(
    key: EllipticCurvePublicKey, signature: bytes, signed: bytes, algorithm: hashes.HashAlgorithm
) -> None:
    try:
        key.verify(signature, signed, _LightEcdsa(algorithm))
    except InvalidSignature:
        raise
    except Exception:  # noqa: BLE001 - a `cryptography` to come may want the constructor called
        key.verify(signature, signed, ECDSA(algorithm))


def weak_hash(certificate: Certificate) -> str | None:
    """Return the hash it is signed over if that is none of SHA-256, SHA-384, SHA-512, else None.

    Raises:
        BundleError: It cannot be told.
        cryptography.exceptions.UnsupportedAlgorithm: The same.
    """
    how = certificate.signature_algorithm
    if how in _ECDSA or how in _RSA or how == _ED25519:
        return None
    algorithm = certificate.x509.signature_hash_algorithm
    # None: the algorithm has a hash of its own.
    return None if algorithm is None or isinstance(algorithm, _STRONG) else algorithm.name
