"""Signing JSON Web Signatures with P-256 keys (RFC 7515, RFC 7518 §3.4), compact serialisation.

Written over `cryptography` alone on purpose: what verifies tokens elsewhere in this package is
another implementation, so the tests of one are a check of the other.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from spiffe_client.dev._certificates import new_key

__all__ = ["JwsAuthority", "private_jwk", "public_jwk"]

_COORDINATE = 32  # bytes of a P-256 coordinate


def _b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _b64_number(value: int) -> str:
    return _b64(value.to_bytes(_COORDINATE, "big"))


def public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """Return the JSON Web Key of a P-256 public key (RFC 7518 §6.2.1)."""
    point = key.public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": _b64_number(point.x), "y": _b64_number(point.y)}


def private_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """Return the JSON Web Key of a P-256 private key (RFC 7518 §6.2.2): a secret."""
    return {**public_jwk(key.public_key()), "d": _b64_number(key.private_numbers().private_value)}


@dataclass(frozen=True, slots=True)
class JwsAuthority:
    """A key that signs tokens, under a key ID.

    Attributes:
        key_id: The `kid` in tokens and bundles; random.
        key: The signing key.
    """

    key_id: str = field(default_factory=lambda: secrets.token_hex(16))
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key, repr=False)

    def sign(self, claims: Mapping[str, object], *, typ: str) -> str:
        """Return the compact token over these claims, with ES256, `kid` and `typ` in its header."""
        header = {"alg": "ES256", "kid": self.key_id, "typ": typ}
        signed = ".".join(_b64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_b64(r.to_bytes(_COORDINATE, 'big') + s.to_bytes(_COORDINATE, 'big'))}"
