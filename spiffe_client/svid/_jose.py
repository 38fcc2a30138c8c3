"""JSON Web Signatures in compact form (RFC 7515). The one file that knows pyjwt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spiffe_client.bundle import PublicKey, decode_base64url, parse_json_object

__all__ = ["MAX_TOKEN_BYTES", "Jws", "parse_compact", "signed_by"]

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


def parse_compact(token: str) -> Jws | str:
    """Take a token apart.

    Returns:
        The parts; or what is wrong, without anything of the token in it.
    """
    if len(token) > MAX_TOKEN_BYTES:
        return f"it has {len(token)} characters; at most {MAX_TOKEN_BYTES} are read"
    parts = token.split(".")
    if len(parts) != 3:
        return f"it has {len(parts)} parts, compact serialisation has three"
    decoded = [decode_base64url(part) for part in parts]
    if None in decoded:
        return "a part of it is not base64url"
    header, claims = (parse_json_object(part or b"") for part in decoded[:2])
    if header is None:
        return "its header is not a JSON object with each member once"
    if claims is None:
        return "its claims are not a JSON object with each member once"
    return Jws(header, claims, f"{parts[0]}.{parts[1]}".encode(), decoded[2] or b"")


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
