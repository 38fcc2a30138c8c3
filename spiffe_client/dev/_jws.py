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

from spiffe_client.bundle import JwtAuthority
from spiffe_client.dev._certificates import new_key

__all__ = ["ALGORITHM", "JwsAuthority", "private_jwk"]

ALGORITHM = "ES256"
_COORDINATE = 32  # bytes of a P-256 coordinate


def _b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class JwsAuthority:
    """A key that signs tokens, under a key ID.

    Attributes:
        key_id: The `kid` in tokens and bundles; random.
        key: The signing key.
    """

    key_id: str = field(default_factory=lambda: secrets.token_hex(16))
    key: ec.EllipticCurvePrivateKey = field(default_factory=new_key, repr=False)

    @property
    def public(self) -> JwtAuthority:
        """What bundles hold of it."""
        return JwtAuthority(self.key_id, self.key.public_key(), ALGORITHM)

    def sign(self, claims: Mapping[str, object], *, typ: str) -> str:
        """Return the compact token over these claims, with `alg`, `kid` and `typ` in its header."""
        header = {"alg": ALGORITHM, "kid": self.key_id, "typ": typ}
        signed = ".".join(_b64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_b64(r.to_bytes(_COORDINATE, 'big') + s.to_bytes(_COORDINATE, 'big'))}"


def private_jwk(key: ec.EllipticCurvePrivateKey) -> str:
    """Return the JSON Web Key of a P-256 private key (RFC 7518 §6.2.2): a secret."""
    d = key.private_numbers().private_value.to_bytes(_COORDINATE, "big")
    return json.dumps({**JwtAuthority(None, key.public_key(), ALGORITHM).to_jwk(), "d": _b64(d)})
