"""JSON Web Signatures in compact form (RFC 7515). The one file that knows pyjwt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from spiffe_client._redact import Secret
from spiffe_client.bundle import PublicKey, decode_base64url, parse_json_object
from spiffe_client.errors import SvidError

__all__ = ["MAX_TOKEN_BYTES", "Jws", "parse_compact", "parse_private_jwk", "signed_by"]

#: Longest token that is parsed, in bytes.
MAX_TOKEN_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Jws:
    """A token taken apart; nothing about it is verified.

    Attributes:
        header: The protected header.
        claims: The payload.
        signed: The text that the signature is over.
        signature: As it came.
    """

    header: Mapping[str, object]
    claims: Mapping[str, object]
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse_compact(token: object, *, error: type[SvidError]) -> Jws:
    """Take a token apart.

    Raises:
        SvidError: `error`: it is too large or malformed; nothing of the token is in it.
    """
    if not isinstance(token, str):
        how = "; pass what its reveal() returns" if isinstance(token, Secret) else ""
        raise error(f"the token is {type(token).__name__}, not text{how}")
    if token[:7].lower() == "bearer ":
        raise error("the token begins with `Bearer `: strip that, it belongs to the Authorization header")
    if len(token) > MAX_TOKEN_BYTES:
        raise error(f"the token has {len(token)} characters; at most {MAX_TOKEN_BYTES} are read")
    parts = token.split(".")
    if len(parts) != 3:
        raise error(f"the token has {len(parts)} parts, compact serialisation has three")
    decoded = [part for part in map(decode_base64url, parts) if part is not None]
    if len(decoded) != 3:
        raise error("a part of the token is not base64url")
    header, claims = parse_json_object(decoded[0]), parse_json_object(decoded[1])
    if header is None or claims is None:
        which = "header is" if header is None else "claims are"
        raise error(f"the token's {which} not a JSON object with each member once")
    if not decoded[2]:
        raise error("the token has no signature")
    return Jws(header, claims, f"{parts[0]}.{parts[1]}".encode(), decoded[2])


def signed_by(key: PublicKey, alg: str, jws: Jws) -> bool:
    """Whether this key made the signature.

    Args:
        key: One that fits `alg`; that is the caller's to check.
        alg: One of the allowed algorithms.
        jws: The token.
    """
    # Imported at the first verification: a workload that verifies no token should not pay for it.
    from jwt.algorithms import get_default_algorithms

    return get_default_algorithms()[alg].verify(jws.signed, key, jws.signature)


def parse_private_jwk(jwk: Mapping[str, object]) -> EllipticCurvePrivateKey | RSAPrivateKey | None:
    """Return the private key in a JWK; None if there is none, and nothing about what was wrong."""
    from jwt.algorithms import ECAlgorithm, RSAAlgorithm

    algorithm = ECAlgorithm if jwk.get("kty") == "EC" else RSAAlgorithm
    try:
        key = algorithm.from_jwk(dict(jwk))
    except Exception:  # noqa: BLE001 - border: pyjwt's parser meets a key we cannot show
        return None
    return key if isinstance(key, EllipticCurvePrivateKey | RSAPrivateKey) else None
