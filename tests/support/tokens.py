"""Signed tokens of every shape, right and wrong, made without the code under test."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

__all__ = [
    "AT",
    "ISSUED",
    "b64",
    "claims_for",
    "compact",
    "ec_key",
    "public_jwk",
    "rsa_key",
    "sign_input",
    "sign_token",
]

#: When everything here is verified.
AT = datetime(2030, 1, 1, tzinfo=UTC)
ISSUED = int(AT.timestamp()) - 60

_HASH = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "P-256K": ec.SECP256K1(),
}


@lru_cache(maxsize=None)
def rsa_key(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    """One of a few RSA keys for all: making one is slow."""
    return rsa.generate_private_key(65537, bits)


@lru_cache(maxsize=None)
def ec_key(curve: str = "P-256", number: int = 0) -> ec.EllipticCurvePrivateKey:
    """One of a few EC keys for all."""
    return ec.generate_private_key(_CURVES[curve])


def b64(data: bytes | str) -> str:
    data = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims_for(**changes: object) -> dict[str, object]:
    """Claims of a good JWT-SVID, with changes; a change to `...` leaves the claim out."""
    claims = {"sub": "spiffe://a.test/peer", "aud": ["orders"], "exp": ISSUED + 360, "iat": ISSUED, **changes}
    return {name: value for name, value in claims.items() if value is not ...}


def compact(header: object, claims: object, signature: bytes = b"signature") -> str:
    """A token as such, signed by nobody."""
    head, body = (part if isinstance(part, str) else json.dumps(part) for part in (header, claims))
    return f"{b64(head)}.{b64(body)}.{b64(signature)}"


def sign_token(
    key: object,
    alg: str,
    claims: Mapping[str, object] | str | None = None,
    *,
    how: str | None = None,
    **header: object,
) -> str:
    """Sign claims.

    `how` is the algorithm really used, where the header is to lie. Header members of `...` are
    left out.
    """
    members = {
        name: value for name, value in {"alg": alg, "kid": "one", **header}.items() if value is not ...
    }
    unsigned = compact(members, claims_for() if claims is None else claims, b"").rstrip(".")
    return f"{unsigned}.{b64(sign_input(key, how or alg, unsigned.encode()))}"


def sign_input(key: object, alg: str, data: bytes) -> bytes:
    digest = _HASH.get(alg[2:])
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.curve.key_size + 7) // 8
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if isinstance(key, bytes):
        mac = hmac.HMAC(key, digest)
        mac.update(data)
        return mac.finalize()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    scheme = (
        padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
        if alg.startswith("PS")
        else padding.PKCS1v15()
    )
    return key.sign(data, scheme, digest)


def public_jwk(key: object, kid: str | None = "one", **members: object) -> dict[str, object]:
    """The public JWK of a private key; a member of `...` is left out."""
    numbers = key.public_key().public_numbers()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.curve.key_size + 7) // 8
        name = next(name for name, curve in _CURVES.items() if curve.name == key.curve.name)
        jwk = {
            "kty": "EC",
            "crv": name,
            "x": b64(numbers.x.to_bytes(size, "big")),
            "y": b64(numbers.y.to_bytes(size, "big")),
        }
    else:
        n = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")
        jwk = {"kty": "RSA", "n": b64(n), "e": b64(numbers.e.to_bytes(3, "big"))}
    return {name: value for name, value in {**jwk, "kid": kid or ..., **members}.items() if value is not ...}
