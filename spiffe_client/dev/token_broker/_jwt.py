"""Tokens of others: taken apart, and their signatures checked (RFC 7515, RFC 7519).

Over `cryptography` alone, as `dev._jws` is: what the client is made of is another implementation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from spiffe_client._json import decode_base64url
from spiffe_client.bundle import JwtAuthority
from spiffe_client.dev.token_broker._document import parse_document
from spiffe_client.dev.token_broker._messages import thumbprint
from spiffe_client.errors import BundleError

__all__ = [
    "ALGORITHMS",
    "Jwt",
    "Key",
    "NotAcceptableError",
    "check_times",
    "for_others",
    "key_thumbprint",
    "parse_key",
    "verify",
]

#: Longest token that is read, in characters.
MAX_LENGTH = 64 << 10
#: How far the clocks of others may be off, in seconds.
LEEWAY = 5.0
#: How much of an audience a refusal names.
_LONGEST_NAME = 200
_MOST_NAMES = 5

PublicKey: TypeAlias = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}
_CURVES: Mapping[str, str] = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
#: What is understood, all of it asymmetric.
ALGORITHMS: tuple[str, ...] = (
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "PS256",
    "PS384",
    "PS512",
    "RS256",
    "RS384",
    "RS512",
)


class NotAcceptableError(Exception):
    """A token, assertion or proof is not accepted; the message says why and holds nothing of it but whom it is for."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, and what it is called.

    Attributes:
        key: The key.
        key_id: Its `kid`, if it has one.
        alg: The one algorithm it is for, None for all that fit it.
    """

    key: PublicKey = field(repr=False)
    key_id: str | None = None
    alg: str | None = None

    @classmethod
    def of(cls, authority: JwtAuthority) -> Key:
        """Return the key of a trust bundle."""
        return cls(authority.public_key, authority.key_id, authority.alg)


@dataclass(frozen=True, slots=True)
class Jwt:
    """A token taken apart; nothing about it is verified.

    Attributes:
        header: The protected header.
        claims: The payload.
        signed: What the signature is over.
        signature: As it came.
    """

    header: Mapping[str, object]
    claims: Mapping[str, object] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, token: str) -> Jwt:
        """Take a token apart.

        Raises:
            NotAcceptableError: It is malformed, or has an extension that nobody here understands.
        """
        parts = token.split(".") if len(token) <= MAX_LENGTH else []
        if len(parts) != 3:
            raise NotAcceptableError("it is not a JWS in compact form")
        header, claims, signature = map(decode_base64url, parts)
        members = (None if part is None else parse_document(part) for part in (header, claims))
        head, body = members
        if head is None or body is None or not signature:
            raise NotAcceptableError("it is not a JWS over a JSON object")
        if "crit" in head:
            raise NotAcceptableError("its header has `crit`, and nothing of that is understood here")
        return cls(head, body, f"{parts[0]}.{parts[1]}".encode(), signature)

    def text(self, claim: str) -> str:
        """Return a claim that must be text.

        Raises:
            NotAcceptableError: It is missing or something else.
        """
        value = self.claims.get(claim)
        if not isinstance(value, str) or not value:
            raise NotAcceptableError(f"`{claim}` is missing or not text")
        return value

    def time(self, claim: str) -> float | None:
        """Return a NumericDate (RFC 7519 §2), None if it is not there.

        Raises:
            NotAcceptableError: It is no number.
        """
        value = self.claims.get(claim)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise NotAcceptableError(f"`{claim}` is not a number of seconds")
        return float(value)

    @property
    def audience(self) -> tuple[str, ...]:
        """For whom it is, perhaps nobody in particular (RFC 7519 §4.1.3)."""
        value = self.claims.get("aud")
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            return ()
        return tuple(values)

    def type_is(self, *names: str) -> bool:
        """Whether `typ` is one of these media types (RFC 7515 §4.1.9)."""
        typ = self.header.get("typ")
        return isinstance(typ, str) and typ.lower().removeprefix("application/") in names


def parse_key(jwk: Mapping[str, object]) -> Key:
    """Read a public JSON Web Key (RFC 7517 §4).

    Raises:
        NotAcceptableError: It is malformed, of another kind, or a private one.
    """
    if "d" in jwk or "k" in jwk:
        raise NotAcceptableError("the key is a private one")
    if jwk.get("kty") == "OKP":
        x = decode_base64url(jwk.get("x"))
        key_id = jwk.get("kid")
        if jwk.get("crv") != "Ed25519" or x is None or len(x) != 32 or not isinstance(key_id, str | None):
            raise NotAcceptableError("the key is no Ed25519 key")
        return Key(ed25519.Ed25519PublicKey.from_public_bytes(x), key_id, "EdDSA")
    try:
        return Key.of(JwtAuthority.parse(jwk))
    except BundleError as error:
        raise NotAcceptableError(f"the key cannot be used: {error}") from error


def key_thumbprint(jwk: Mapping[str, object]) -> str:
    """Return the thumbprint of a key (RFC 7638 §3), the `jkt` of what is bound to it."""
    names = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}
    members = {name: jwk[name] for name in names[str(jwk["kty"])]}
    return thumbprint(json.dumps(members, separators=(",", ":"), sort_keys=True).encode())


def verify(jwt: Jwt, keys: Iterable[Key]) -> None:
    """Check that one of these keys made the signature, with an algorithm that fits it.

    Raises:
        NotAcceptableError: None did.
    """
    alg, key_id = jwt.header.get("alg"), jwt.header.get("kid")
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        raise NotAcceptableError("its algorithm is not an accepted one")
    for key in keys:
        named = key_id is None or key.key_id in (None, key_id)
        if named and key.alg in (None, alg) and _check(key.key, alg, jwt):
            return
    raise NotAcceptableError("its signature is not of a key that is trusted here")


def _check(key: PublicKey, alg: str, jwt: Jwt) -> bool:
    method = _METHODS[alg[:2]]
    try:
        return method(key, alg, jwt)
    except InvalidSignature:
        return False


def _ecdsa(key: PublicKey, alg: str, jwt: Jwt) -> bool:
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != _CURVES[alg]:
        return False
    half = (key.curve.key_size + 7) // 8
    if len(jwt.signature) != 2 * half:
        return False
    r, s = (int.from_bytes(part, "big") for part in (jwt.signature[:half], jwt.signature[half:]))
    key.verify(encode_dss_signature(r, s), jwt.signed, ec.ECDSA(_HASHES[alg[2:]]))
    return True


def _rsa(key: PublicKey, alg: str, jwt: Jwt) -> bool:
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    digest = _HASHES[alg[2:]]
    pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
    key.verify(jwt.signature, jwt.signed, pss if alg.startswith("PS") else padding.PKCS1v15(), digest)
    return True


def _eddsa(key: PublicKey, _alg: str, jwt: Jwt) -> bool:
    if not isinstance(key, ed25519.Ed25519PublicKey):
        return False
    key.verify(jwt.signature, jwt.signed)
    return True


_METHODS: Mapping[str, Callable[[PublicKey, str, Jwt], bool]] = {
    "ES": _ecdsa,
    "Ed": _eddsa,
    "PS": _rsa,
    "RS": _rsa,
}


def check_times(jwt: Jwt, now: float, *, required: Collection[str] = ("exp",)) -> None:
    """Check `exp`, `nbf` and `iat` (RFC 7519 §4.1).

    Args:
        jwt: The token.
        now: Seconds since the epoch.
        required: Which of them must be there.

    Raises:
        NotAcceptableError: It has expired, is not valid yet, or one that is required is missing.
    """
    for name in required:
        if jwt.time(name) is None:
            raise NotAcceptableError(f"`{name}` is missing")
    expires_at, *begins = (jwt.time(name) for name in ("exp", "nbf", "iat"))
    if expires_at is not None and now - expires_at >= LEEWAY:
        raise NotAcceptableError("it has expired")
    if any(begin is not None and begin - now > LEEWAY for begin in begins):
        raise NotAcceptableError("it is not valid yet")


def for_others(jwt: Jwt, us: Iterable[str]) -> NotAcceptableError:
    """Return the refusal of a token by its audience: for whom it is, and for whom not."""
    return NotAcceptableError(f"it is for {_listed(jwt.audience)}, not for {_listed(sorted(us))}")


def _listed(names: Collection[str]) -> str:
    """Name a few, in characters that a challenge may hold (RFC 6750 §3)."""
    shown = [re.sub(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]", "?", name[:_LONGEST_NAME]) for name in names]
    more = [f"{len(shown) - _MOST_NAMES} more"] if len(shown) > _MOST_NAMES else []
    return ", ".join(shown[:_MOST_NAMES] + more) or "nobody"
