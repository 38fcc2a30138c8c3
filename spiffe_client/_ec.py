"""EC keys on the NIST curves as bytes (RFC 5480, RFC 5915, RFC 5958).

Nearly every SVID and every JWT authority has one. Read and written here they cost nothing;
`cryptography`'s serialization takes 5 ms to load, for SSH keys and ciphers that come with it. What
is not exactly the usual form is left to that: here it is None.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    derive_private_key,
)

from spiffe_client._der import OCTET_STRING, SEQUENCE, Der, DerError

__all__ = ["load_private_der", "load_public_der", "public_der"]

_ALGORITHMS: dict[bytes, EllipticCurve] = {
    bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107"): SECP256R1(),
    bytes.fromhex("301006072a8648ce3d020106052b81040022"): SECP384R1(),
    bytes.fromhex("301006072a8648ce3d020106052b81040023"): SECP521R1(),
}
#: What comes before the point in a SubjectPublicKeyInfo, and the curve.
_PREFIXES: dict[bytes, EllipticCurve] = {
    bytes.fromhex(before) + algorithm + bytes.fromhex(between): curve
    for (algorithm, curve), (before, between) in zip(
        _ALGORITHMS.items(), (("3059", "034200"), ("3076", "036200"), ("30819b", "03818600")), strict=True
    )
}
_PREFIX_OF = {curve.name: prefix for prefix, curve in _PREFIXES.items()}


def _octets(curve: EllipticCurve) -> int:
    return (curve.key_size + 7) // 8


def public_der(key: object) -> bytes | None:
    """Return the SubjectPublicKeyInfo of a key; None if it is not on one of the curves."""
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _PREFIX_OF:
        return None
    point, size = key.public_numbers(), _octets(key.curve)
    return (
        _PREFIX_OF[key.curve.name] + b"\x04" + point.x.to_bytes(size, "big") + point.y.to_bytes(size, "big")
    )


def load_public_der(der: bytes) -> EllipticCurvePublicKey | None:
    """Read a SubjectPublicKeyInfo; None if it is anything but an uncompressed point on one of the curves.

    Raises:
        ValueError: The point is not on its curve.
    """
    for prefix, curve in _PREFIXES.items():
        if der.startswith(prefix) and len(der) == len(prefix) + 1 + 2 * _octets(curve):
            point = der[len(prefix) :]
            return EllipticCurvePublicKey.from_encoded_point(curve, point) if point[0] == 4 else None
    return None


def load_private_der(der: bytes) -> EllipticCurvePrivateKey | None:
    """Read an unencrypted PKCS#8 key, nothing after it; None if it is anything but EC on one of the curves.

    A public key that is sent along is not looked at: whoever needs one compares it with the leaf's.
    """
    try:
        scalar, curve = _private_parts(der)
        return None if curve is None else derive_private_key(int.from_bytes(scalar, "big"), curve)
    except (DerError, ValueError):
        return None


def _private_parts(der: bytes) -> tuple[bytes, EllipticCurve | None]:
    whole = Der(der)
    info = whole.inside(SEQUENCE)
    whole.end()
    version, algorithm, key = info.integer(), info.element(SEQUENCE), info.inside(OCTET_STRING)
    info.end()
    inside = key.inside(SEQUENCE)
    key.end()
    curve, first, scalar = _ALGORITHMS.get(algorithm), inside.integer(), inside.contents(OCTET_STRING)
    usual = curve is not None and (version, first, len(scalar)) == (0, 1, _octets(curve))
    return scalar, curve if usual else None
