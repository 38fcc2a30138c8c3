"""Whether a JWT-SVID proves the SPIFFE ID in it, to us and now (JWT-SVID §3-4)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from spiffe_client._frames import border
from spiffe_client._jose import signed_by
from spiffe_client.bundle import BundleSet, JwtAuthority, JwtBundle, PublicKey
from spiffe_client.errors import AudienceError, ExpiredError, InvalidAudienceError, SignatureError
from spiffe_client.svid._jwt import JWT_RULES, JwtSvid, Token
from spiffe_client.svid._rules import Check, Rule, judge

__all__ = ["DEFAULT_LEEWAY", "check_signature", "check_times", "examine_jwt_svid", "verify_jwt_svid"]

#: How far the clocks of issuer and verifier may be apart.
DEFAULT_LEEWAY = timedelta(seconds=5)
#: Most keys tried on one token: a federated trust domain must not be able to buy unlimited work.
MAX_KEYS = 16
#: Larger public exponents only make verifying slow; 65537 is what everybody uses.
MAX_EXPONENT_BITS = 32


class _Presented(Token):
    """A token, and what it is verified against."""

    __slots__ = ("at", "bundles", "expected", "leeway")

    def __init__(
        self,
        text: str,
        bundles: BundleSet[JwtBundle],
        audience: str | Collection[str],
        at: datetime,
        leeway: timedelta,
    ) -> None:
        super().__init__(text)
        if at.tzinfo is None or leeway < timedelta():
            raise ValueError("at= must have a time zone, leeway= must not be negative")
        self.bundles = bundles
        self.expected = _expected(audience)
        self.at = at
        self.leeway = leeway


@border
def verify_jwt_svid(
    token: str,
    bundles: BundleSet[JwtBundle],
    *,
    audience: str | Collection[str],
    at: datetime,
    leeway: timedelta = DEFAULT_LEEWAY,
) -> JwtSvid:
    """Verify a token with the bundle of the trust domain of its own subject, and no other.

    Args:
        token: What a caller presented; at most 64 KiB.
        bundles: The trust domains that are trusted.
        audience: Who we are: the token must be for one of these.
        at: The time to verify for, aware.
        leeway: How far the issuer's clock may be off.

    Returns:
        The token with its claims: proven.

    Raises:
        SignatureError: No authority of the trust domain signed it.
        ExpiredError: It is past its `exp` or before its `nbf`.
        AudienceError: It is for somebody else.
        JwtSvidError: It is malformed or breaks another rule.
        BundleNotFoundError: There is no bundle for its trust domain.
        InvalidAudienceError: `audience` is empty: without one, anybody's token would do.
        ValueError: `at` has no time zone, or `leeway` is negative.
    """
    presented = _Presented(token, bundles, audience, at, leeway)
    for rule in _RULES:
        rule.check(presented)
    return JwtSvid.of(presented)


@border
def examine_jwt_svid(
    token: str,
    bundles: BundleSet[JwtBundle],
    *,
    audience: str | Collection[str],
    at: datetime,
    leeway: timedelta = DEFAULT_LEEWAY,
) -> list[Check]:
    """List each check that `verify_jwt_svid` makes, and how it came out; for people to read.

    Checks that make no sense because another failed are left out. The token is good if every
    check is. Arguments as for `verify_jwt_svid`.

    Raises:
        InvalidAudienceError: `audience` is empty.
        ValueError: `at` has no time zone, or `leeway` is negative.
    """
    presented = _Presented(token, bundles, audience, at, leeway)
    return [outcome.check for outcome in judge(_RULES, presented)]


def _expected(audience: str | Collection[str]) -> frozenset[str]:
    values = (audience,) if isinstance(audience, str) else tuple(audience)
    if not values or not all(isinstance(value, str) and value for value in values):
        raise InvalidAudienceError("the expected audience must be text, or several, and not empty")
    return frozenset(values)


def check_signature(token: Token, authorities: Collection[JwtAuthority]) -> None:
    """Check that one of the authorities of the token's trust domain signed it (JWT-SVID §4).

    A key is tried if type, curve and its own `alg` fit the token's, and if it has the `kid` that
    the token names, or has none, or the token names none. Of these the first 16 are tried, and
    no RSA key with an exponent of more than 32 bits.

    Raises:
        SignatureError: None did.
    """
    domain, alg, key_id = token.id.trust_domain, token.alg, token.key_id
    named = [a for a in authorities if key_id is None or a.key_id in (key_id, None)]
    fitting = [a for a in named if a.fits(alg)]
    if not fitting:
        which = f"the key ID {key_id[:80]!r}" if key_id is not None and not named else f"a key for {alg}"
        raise SignatureError(f"no authority of {domain} has {which}")
    quick = [a.public_key for a in fitting if _quick(a.public_key)]
    if not any(signed_by(key, alg, token.jws) for key in quick[:MAX_KEYS]):
        if len(quick) > MAX_KEYS:
            raise SignatureError(
                f"none of the first {MAX_KEYS} authorities of {domain} for {alg} made the signature, and "
                f"no more are tried: the token does not name one key of the {len(quick)} (`kid`)"
            )
        raise SignatureError(f"no authority of {domain} made the signature")


def _quick(key: PublicKey) -> bool:
    return not isinstance(key, RSAPublicKey) or key.public_numbers().e.bit_length() <= MAX_EXPONENT_BITS


def check_times(token: Token, at: datetime, leeway: timedelta) -> None:
    """Check `exp` (JWT-SVID §3.3) and `nbf` (RFC 7519 §4.1.5).

    Raises:
        ExpiredError: It is past the one or before the other.
    """
    # Not `time + leeway`: the end of the year 9999 is a valid `exp`.
    if at - token.expires_at >= leeway:
        raise ExpiredError(f"the token expired at {token.expires_at:%Y-%m-%dT%H:%M:%SZ}")
    not_before = token.time("nbf")
    if not_before is not None and not_before - at > leeway:
        raise ExpiredError(f"the token is not valid before {not_before:%Y-%m-%dT%H:%M:%SZ}")


def _for_us(token: _Presented) -> None:
    if token.audience.isdisjoint(token.expected):
        raise AudienceError(f"the token is for {_listed(token.audience)}, not for {_listed(token.expected)}")


def _listed(values: frozenset[str]) -> str:
    shown = ", ".join(repr(value[:80]) for value in sorted(values)[:3])
    return shown if len(values) <= 3 else f"{shown} and {len(values) - 3} more"


def _authorities(token: _Presented) -> tuple[JwtAuthority, ...]:
    return token.bundles[token.id.trust_domain].authorities


_RULES: tuple[Rule[_Presented], ...] = (
    *JWT_RULES,
    Rule(
        "bundle",
        "JWT-SVID §6",
        "there is a bundle for the trust domain of the subject",
        _authorities,
        frozenset({"subject"}),
    ),
    Rule(
        "signature",
        "JWT-SVID §4",
        "an authority of the bundle made the signature",
        lambda token: check_signature(token, _authorities(token)),
        frozenset({"bundle", "algorithm", "key_id"}),
    ),
    Rule(
        "in_time",
        "JWT-SVID §3.3",
        "it has not expired, and is valid already",
        lambda token: check_times(token, token.at, token.leeway),
        frozenset({"expiry", "not_before"}),
    ),
    Rule("for_us", "JWT-SVID §3.2", "it is for the expected audience", _for_us, frozenset({"audience"})),
)
