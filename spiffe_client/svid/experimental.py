"""WIT-SVIDs: tokens bound to a key. Experimental: the standard is incubating, this changes with it.

A WIT-SVID is never a bearer token. To make it, there is no way to hold one without its key, and no
way to verify one without checking that its holder has the key (WIT-SVID §5, §7.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from spiffe_client._frames import border
from spiffe_client._jose import parse_private_jwk
from spiffe_client._json import parse_json_object
from spiffe_client._redact import Secret
from spiffe_client._values import dataclass
from spiffe_client.bundle import BundleSet, JwtAuthority, PublicKey
from spiffe_client.bundle.experimental import WitBundle
from spiffe_client.errors import BundleError, JwtSvidError, WitSvidError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid._jwt import TOKEN_RULES, Token
from spiffe_client.svid._jwt_verify import DEFAULT_LEEWAY, check_signature, check_times
from spiffe_client.svid._rules import Rule

__all__ = ["Wit", "WitSvid", "verify_wit_svid"]

_MAX_KEY_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Wit:
    """What a WIT-SVID says.

    Attributes:
        id: Whom it is about.
        key: The public key that its holder must prove to have.
        key_alg: The algorithm to prove it with.
        expires_at: From when on it must not be accepted, UTC.
        issued_at: When it was made, UTC, if it says so; for records.
        key_id: The authority's key that it names.
        claims: All claims, read-only. `jti` is for records and no protection against replay (§3.3).
    """

    id: SpiffeId
    key: PublicKey = field(compare=False, repr=False)
    key_alg: str
    expires_at: datetime
    issued_at: datetime | None
    key_id: str
    claims: Mapping[str, object] = field(hash=False, repr=False)


@dataclass(frozen=True, slots=True)
class WitSvid:
    """A WIT-SVID of this workload with the key it is bound to.

    Attributes:
        token: To be presented with a proof of possession, never in an `Authorization` header.
        wit: What it says.
        private_key: To make the proof with.
        hint: What the issuer says it is for; empty if nothing.
    """

    token: Secret[str]
    wit: Wit = field(compare=False)
    private_key: EllipticCurvePrivateKey | RSAPrivateKey = field(repr=False, compare=False)
    hint: str = ""

    @property
    def id(self) -> SpiffeId:
        """Whose it is."""
        return self.wit.id

    @property
    def expires_at(self) -> datetime:
        """From when on it must not be used, UTC."""
        return self.wit.expires_at

    @classmethod
    @border
    def parse_unverified(cls, token: str, key: str, *, hint: str = "") -> WitSvid:
        """Parse what the Workload API sends; the signature is not checked.

        Args:
            token: Compact serialisation, at most 64 KiB.
            key: The private key as a JWK in JSON, at most 16 KiB.
            hint: What the issuer says it is for.

        Raises:
            WitSvidError: Something is malformed, a rule is broken, or the key is another's.
        """
        wit = _wit(_checked(token))
        return cls(Secret(token), wit, _private_key(key, wit.key), hint)


def verify_wit_svid(
    token: str,
    bundles: BundleSet[WitBundle],
    *,
    possession: Callable[[PublicKey, str], None],
    at: datetime,
    leeway: timedelta = DEFAULT_LEEWAY,
) -> Wit:
    """Verify a WIT-SVID and that whoever presents it has its key.

    Args:
        token: What a caller presented; at most 64 KiB.
        bundles: The trust domains that are trusted.
        possession: Called last, with the key that must have been used and its algorithm; raises
            if what came with the token does not prove that it was. There is no default (§4).
        at: The time to verify for, aware.
        leeway: How far the issuer's clock may be off.

    Raises:
        WitSvidError: It is malformed, breaks a rule, has expired, or no authority of its trust
            domain signed it.
        BundleNotFoundError: There is no bundle for its trust domain.
        ValueError: `at` has no time zone, or `leeway` is negative.
    """
    if at.tzinfo is None or leeway < timedelta():
        raise ValueError("at= must have a time zone, leeway= must not be negative")
    # Not a border: `possession` is the caller's and its errors keep their frames, this one too.
    secret = Secret(token)
    del token
    wit = _verified(secret, bundles, at, leeway)
    possession(wit.key, wit.key_alg)
    return wit


@border
def _verified(token: Secret[str], bundles: BundleSet[WitBundle], at: datetime, leeway: timedelta) -> Wit:
    checked = _checked(token.reveal())
    bundle = bundles[checked.id.trust_domain]
    try:
        check_signature(checked, bundle.authorities)
        check_times(checked, at, leeway)
    except JwtSvidError as error:
        raise WitSvidError(str(error)) from error
    return _wit(checked)


def _checked(token: str) -> Token:
    checked = Token(token, WitSvidError)
    for rule in _RULES:
        rule.check(checked)
    return checked


def _wit(token: Token) -> Wit:
    confirmation = _confirmation(token)
    return Wit(
        id=token.id,
        key=confirmation.public_key,
        key_alg=confirmation.alg or "",
        expires_at=token.expires_at,
        issued_at=token.time("iat"),
        key_id=token.key_id or "",
        claims=MappingProxyType(dict(token.jws.claims)),
    )


def _confirmation(token: Token) -> JwtAuthority:
    confirmation = token.jws.claims.get("cnf")
    jwk = confirmation.get("jwk") if isinstance(confirmation, dict) else None
    if not isinstance(jwk, dict):
        raise WitSvidError("`cnf.jwk` is missing: the token is bound to no key")
    try:
        key = JwtAuthority.parse(jwk)
    except BundleError as error:
        raise WitSvidError(f"`cnf.jwk` cannot be used: {error}") from error
    if key.alg is None:
        raise WitSvidError("`cnf.jwk` does not say its `alg`")
    return key


def _private_key(text: str, public: PublicKey) -> EllipticCurvePrivateKey | RSAPrivateKey:
    jwk = parse_json_object(text.encode(errors="replace")) if len(text) <= _MAX_KEY_BYTES else None
    key = None if jwk is None else parse_private_jwk(jwk)
    if key is None:
        raise WitSvidError("the private key cannot be read: a JWK of at most 16 KiB is expected")
    if key.public_key() != public:
        raise WitSvidError("the private key is not the one that the token is bound to")
    return key


def _type(token: Token) -> None:
    if token.jws.header.get("typ") != "wit+jwt":
        raise WitSvidError("the type is not wit+jwt")


def _key_id(token: Token) -> None:
    if not token.key_id:
        raise WitSvidError("`kid` is missing")


def _no_audience(token: Token) -> None:
    # A token with one could be taken for a bearer token somewhere else (§7.1).
    if "aud" in token.jws.claims:
        raise WitSvidError("the token has an `aud`")


_RULES: tuple[Rule[Token], ...] = (
    *TOKEN_RULES,
    Rule("type", "WIT-SVID §2.2", "the type is wit+jwt", _type),
    Rule("key_id_present", "WIT-SVID §2.1", "there is a key ID", _key_id),
    Rule("no_audience", "WIT-SVID §3", "there is no audience", _no_audience),
    Rule("confirmation", "WIT-SVID §3.2", "it is bound to a key with an algorithm", _confirmation),
)
