"""JSON Web Signatures in compact form (RFC 7515). The one file that knows pyjwt."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from spiffe_client._frames import border
from spiffe_client._json import decode_base64url, parse_json_object
from spiffe_client._redact import Secret
from spiffe_client.bundle import JwtAuthority, PublicKey
from spiffe_client.errors import BundleError, SpiffeError, TokenRequestError

__all__ = [
    "MAX_TOKEN_BYTES",
    "Jws",
    "Signer",
    "SigningKey",
    "parse_compact",
    "parse_jwks",
    "parse_private_jwk",
    "sign_bytes",
    "sign_compact",
    "signed_by",
    "verify_compact",
]

#: Longest token that is parsed, in bytes.
MAX_TOKEN_BYTES = 64 << 10
#: Longest JWK Set that is parsed, in bytes, and the most of its keys that are looked at.
_MAX_JWKS_BYTES = 1 << 20
_MAX_JWKS_KEYS = 1000
#: Most keys tried on one token, and the longest public exponent: verifying stays cheap.
_MAX_TRIED = 16
_MAX_EXPONENT_BITS = 32

#: What signs: EC on P-256, P-384 or P-521, RSA of at least 2048 bits, Ed25519.
SigningKey: TypeAlias = EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey

_BY_CURVE: Mapping[str, tuple[str, hashes.HashAlgorithm]] = {
    "secp256r1": ("ES256", hashes.SHA256()),
    "secp384r1": ("ES384", hashes.SHA384()),
    "secp521r1": ("ES512", hashes.SHA512()),
}
_compact_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


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


def parse_compact(token: object, *, error: type[SpiffeError]) -> Jws:
    """Take a token apart.

    Raises:
        SpiffeError: `error`: it is too large or malformed; nothing of the token is in it.
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


def parse_jwks(text: bytes, *, error: type[SpiffeError]) -> tuple[JwtAuthority, ...]:
    """Parse a JWK Set of keys that verify signatures (RFC 7517 §5).

    Keys of another use, of unknown types, too weak or broken are left out: they verify nothing.

    Args:
        text: JSON, UTF-8, at most 1 MiB and 1000 keys.
        error: What to raise.

    Raises:
        SpiffeError: `error`: it is no JWK Set, or too large.
    """
    document = parse_json_object(text, repeated="drop") if len(text) <= _MAX_JWKS_BYTES else None
    entries = document.get("keys") if document is not None else None
    if not isinstance(entries, list) or len(entries) > _MAX_JWKS_KEYS:
        raise error("not a JWK Set, or too large a one: `keys` must be an array of at most 1000 keys")
    keys: list[JwtAuthority] = []
    for entry in entries:
        if isinstance(entry, dict) and entry.get("use") in (None, "sig"):
            try:
                keys.append(JwtAuthority.parse(entry))
            except BundleError:
                continue
    return tuple(keys)


@border
def verify_compact(
    token: object,
    keys: Sequence[JwtAuthority],
    *,
    algorithms: Collection[str],
    typ: Collection[str],
    error: type[SpiffeError],
) -> Jws:
    """Verify type, algorithm and signature of a token; what its claims mean is the caller's to check.

    A key is tried if its type, curve and own `alg` fit the token's `alg`, and if it has the `kid` that the
    token names, or has none, or the token names none; of these the first 16.

    Args:
        token: In compact serialisation, at most 64 KiB.
        keys: Whose signatures count.
        algorithms: The only `alg` values taken; `none` and MACs fit no key.
        typ: The only `typ` values taken, such as `secevent+jwt`; RFC 7515 §4.1.9 says how they
            are compared.
        error: What to raise.

    Raises:
        SpiffeError: `error`: it is malformed, of another type, or signed by none of the keys;
            nothing of the token is in it.
    """
    jws = parse_compact(token, error=error)
    alg, kid, kind = (jws.header.get(name) for name in ("alg", "kid", "typ"))
    if not isinstance(kind, str) or _media_type(kind) not in {_media_type(one) for one in typ}:
        raise error(f"the token's `typ` is not {' or '.join(sorted(typ))}")
    if not isinstance(alg, str) or alg not in algorithms:
        raise error(f"the token's `alg` is none of {', '.join(sorted(algorithms))}")
    if "crit" in jws.header:  # RFC 7515 §4.1.11: what must be understood is not
        raise error("the token's header has `crit`, and no extension is known here")
    if not isinstance(kid, str | None):
        raise error("the token's `kid` is not text")
    fitting = [key.public_key for key in keys if kid is None or key.key_id in (kid, None) if key.fits(alg)]
    quick = [key for key in fitting if _quick(key)][:_MAX_TRIED]
    if not any(signed_by(key, alg, jws) for key in quick):
        raise error(
            "none of the keys made the token's signature" if quick else "there is no key for the token"
        )
    return jws


def _media_type(typ: str) -> str:
    return typ.lower().removeprefix("application/")


def _quick(key: PublicKey) -> bool:
    return not isinstance(key, RSAPublicKey) or key.public_numbers().e.bit_length() <= _MAX_EXPONENT_BITS


def _encoded(part: Mapping[str, object] | bytes) -> bytes:
    octets = part if isinstance(part, bytes) else _compact_json(part).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def _ecdsa(key: EllipticCurvePrivateKey, digest: hashes.HashAlgorithm) -> Callable[[bytes], bytes]:
    how, size = ECDSA(digest), (key.key_size + 7) // 8

    def make(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, how))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")  # RFC 7518 §3.4, not DER

    return make


def _ways(key: object) -> Mapping[str, Callable[[bytes], bytes]]:
    """Return how this key signs, by `alg`; the preferred one first, none if it cannot."""
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _BY_CURVE:
        alg, digest = _BY_CURVE[key.curve.name]
        return {alg: _ecdsa(key, digest)}
    if isinstance(key, RSAPrivateKey) and key.key_size >= 2048:
        digest = hashes.SHA256()
        return {
            "RS256": lambda data: key.sign(data, PKCS1v15(), digest),
            "PS256": lambda data: key.sign(data, PSS(MGF1(digest), PSS.DIGEST_LENGTH), digest),
        }
    if isinstance(key, Ed25519PrivateKey):
        return {"EdDSA": key.sign}
    return {}


def sign_bytes(data: bytes, key: SigningKey) -> tuple[str, bytes]:
    """Sign bytes as they are; return the `alg` that fits the key, and a signature in its form.

    Raises:
        TokenRequestError: The key cannot sign.
    """
    ways = _ways(key)
    if not ways:
        raise TokenRequestError(f"a {type(key).__name__:.40} of this size or curve does not sign")
    alg = next(iter(ways))
    return alg, ways[alg](data)


class Signer:
    """Signs claims with one key under one header, which is encoded once.

    Args:
        key: EC on P-256, P-384 or P-521, RSA of at least 2048 bits, or Ed25519.
        header: The protected header. Its `alg`, if there is one, must be one that fits the key; the default
            is ES256, ES384, ES512, RS256 or EdDSA (RFC 7518 §3.1, RFC 8037 §3.1).

    Raises:
        TokenRequestError: The key cannot sign, or not with this `alg`.
    """

    __slots__ = ("_prefix", "_sign", "alg")

    def __init__(self, key: SigningKey, header: Mapping[str, object]) -> None:
        ways = _ways(key)
        alg = header.get("alg", next(iter(ways), None))
        if not isinstance(alg, str) or alg not in ways:
            kind = type(key).__name__.removeprefix("_")
            raise TokenRequestError(f"a {kind:.40} of this size or curve does not sign with {alg!r:.40}")
        self.alg = alg
        self._sign = ways[alg]
        self._prefix = _encoded({"alg": alg, **header}) + b"."

    def sign(self, claims: Mapping[str, object]) -> str:
        """Return the token in compact serialisation."""
        signed = self._prefix + _encoded(claims)
        return (signed + b"." + _encoded(self._sign(signed))).decode()


def sign_compact(header: Mapping[str, object], claims: Mapping[str, object], key: SigningKey) -> str:
    """Sign claims once; arguments and errors as `Signer`."""
    return Signer(key, header).sign(claims)
