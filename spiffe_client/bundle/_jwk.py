"""One public key as a JSON Web Key (RFC 7517, 7518 §6), and the algorithms it may verify."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import field
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from spiffe_client._ec import public_der
from spiffe_client._json import decode_base64url
from spiffe_client._values import dataclass
from spiffe_client.errors import BundleError

__all__ = ["SIGNATURE_ALGORITHMS", "JwtAuthority", "PublicKey", "key_members"]

PublicKey: TypeAlias = EllipticCurvePublicKey | RSAPublicKey

_CURVES: Mapping[str, EllipticCurve] = {"P-256": SECP256R1(), "P-384": SECP384R1(), "P-521": SECP521R1()}
_CURVE_NAMES: Mapping[str, str] = {curve.name: name for name, curve in _CURVES.items()}
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_BY_CURVE: Mapping[str, frozenset[str]] = {
    "secp256r1": frozenset({"ES256"}),
    "secp384r1": frozenset({"ES384"}),
    "secp521r1": frozenset({"ES512"}),
}
_RSA_BITS = range(2048, 16384 + 1)
_EXPONENT_BYTES = 32  # FIPS 186-5 §A.1.1; a longer one only makes verifying slow

#: The only `alg` values a JWT-SVID or WIT-SVID may have (JWT-SVID §2.1, WIT-SVID §2.3).
SIGNATURE_ALGORITHMS: frozenset[str] = _RSA.union(*_BY_CURVE.values())


@dataclass(frozen=True, slots=True)
class JwtAuthority:
    """A public key that vouches for JWT-SVIDs.

    Attributes:
        key_id: Its `kid`, if it has one.
        public_key: EC on P-256, P-384 or P-521, or RSA of 2048 to 16384 bits.
        alg: The one algorithm it is for, None for all that fit the key.
        spki: The key in DER, which is what two authorities are compared by.
    """

    key_id: str | None
    public_key: PublicKey = field(compare=False, repr=False)
    alg: str | None = None
    spki: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        algorithms = _algorithms(self.public_key)
        if self.alg is not None and self.alg not in algorithms:
            raise BundleError(f"a key of this kind is not for the algorithm {self.alg[:20]!r}")
        object.__setattr__(self, "spki", public_der(self.public_key) or _rsa_der(self.public_key))

    @classmethod
    def parse(cls, jwk: Mapping[str, object]) -> JwtAuthority:
        """Parse a JWK.

        Args:
            jwk: As decoded from JSON. `use` is the caller's business.

        Raises:
            BundleError: The key type is unknown, or a member is missing or wrong.
        """
        key_id, alg, operations = jwk.get("kid"), jwk.get("alg"), jwk.get("key_ops")
        if not isinstance(key_id, str | None) or not isinstance(alg, str | None):
            raise BundleError("`kid` and `alg` of a key must be text")
        if operations is not None and not (isinstance(operations, list) and "verify" in operations):
            raise BundleError("the key is not for verifying signatures (`key_ops`)")
        if jwk.get("kty") == "EC":
            return cls(key_id, _ec(jwk), alg)
        if jwk.get("kty") == "RSA":
            return cls(key_id, _rsa(jwk), alg)
        raise BundleError("the key type is neither EC nor RSA")

    def fits(self, alg: str) -> bool:
        """Whether a signature made with `alg` can be this key's: type, curve and its own `alg`."""
        return alg == self.alg if self.alg is not None else alg in _algorithms(self.public_key)

    def to_jwk(self) -> dict[str, str]:
        """Return the key as a JWK, without `use`."""
        jwk = key_members(self.public_key)
        if self.key_id is not None:
            jwk["kid"] = self.key_id
        if self.alg is not None:
            jwk["alg"] = self.alg
        return jwk


def _algorithms(key: PublicKey) -> frozenset[str]:
    """Return the algorithms that fit the key's type, curve and size.

    Raises:
        BundleError: There are none.
    """
    if isinstance(key, RSAPublicKey) and key.key_size in _RSA_BITS:
        return _RSA
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _BY_CURVE:
        return _BY_CURVE[key.curve.name]
    raise BundleError("a key must be EC on P-256, P-384 or P-521, or RSA of 2048 to 16384 bits")


def _rsa_der(key: PublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _ec(jwk: Mapping[str, object]) -> EllipticCurvePublicKey:
    name = jwk.get("crv")
    curve = _CURVES.get(name) if isinstance(name, str) else None
    if curve is None:
        raise BundleError("the curve is none of P-256, P-384, P-521")
    size = (curve.key_size + 7) // 8
    x, y = decode_base64url(jwk.get("x")), decode_base64url(jwk.get("y"))
    if x is None or y is None or len(x) != size or len(y) != size:
        raise BundleError(f"`x` and `y` of a key on {name} must be base64url of {size} bytes")
    try:
        return EllipticCurvePublicNumbers(
            int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve
        ).public_key()
    except ValueError as error:
        raise BundleError(f"the point is not on {name}") from error


def _rsa(jwk: Mapping[str, object]) -> RSAPublicKey:
    n, e = decode_base64url(jwk.get("n")), decode_base64url(jwk.get("e"))
    if n is None or e is None or len(n) > _RSA_BITS[-1] // 8 or len(e) > _EXPONENT_BYTES:
        raise BundleError("`n` and `e` of an RSA key must be base64url, at most 16384 and 256 bits")
    try:
        return RSAPublicNumbers(int.from_bytes(e, "big"), int.from_bytes(n, "big")).public_key()
    except ValueError as error:
        raise BundleError("`n` and `e` make no RSA key") from error


def key_members(key: object) -> dict[str, str]:
    """Return the members of a JWK that make up a public key.

    Raises:
        BundleError: It is not an EC key on a NIST curve, not RSA, not Ed25519.
    """
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVE_NAMES:
        point, size = key.public_numbers(), (key.curve.key_size + 7) // 8
        return {
            "kty": "EC",
            "crv": _CURVE_NAMES[key.curve.name],
            "x": _base64url(point.x, size),
            "y": _base64url(point.y, size),
        }
    if isinstance(key, RSAPublicKey):
        numbers = key.public_numbers()
        return {"kty": "RSA", "n": _base64url(numbers.n), "e": _base64url(numbers.e)}
    if isinstance(key, Ed25519PublicKey):
        x = int.from_bytes(key.public_bytes_raw(), "big")
        return {"kty": "OKP", "crv": "Ed25519", "x": _base64url(x, 32)}
    raise BundleError(f"a {type(key).__name__} has no JSON form here")


def _base64url(number: int, size: int | None = None) -> str:
    octets = number.to_bytes((number.bit_length() + 7) // 8 if size is None else size, "big")
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
