"""The JWT-SVID: a token that says who its bearer is (JWT-SVID §2-4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from spiffe_client._frames import border
from spiffe_client._jose import Jws, parse_compact
from spiffe_client._redact import Secret
from spiffe_client._values import dataclass
from spiffe_client.bundle import SIGNATURE_ALGORITHMS
from spiffe_client.errors import InvalidIdError, JwtSvidError, SvidError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid._rules import Rule

__all__ = ["JWT_RULES", "TOKEN_RULES", "JwtSvid", "Token"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Token:
    """What the rules look at, filled in by the first of them.

    Args:
        text: The token.
        error: What a broken rule raises.
    """

    __slots__ = ("error", "jws", "text")

    def __init__(self, text: str, error: type[SvidError] = JwtSvidError) -> None:
        self.text: str = text
        self.error: type[SvidError] = error
        self.jws: Jws = Jws({}, {}, b"", b"")

    def read(self) -> None:
        """Take the token apart."""
        self.jws = parse_compact(self.text, error=self.error)

    @property
    def alg(self) -> str:
        """The algorithm, one of the allowed ones (§2.1)."""
        alg = self.jws.header.get("alg")
        if not isinstance(alg, str) or alg not in SIGNATURE_ALGORITHMS:
            raise self.error(f"the algorithm {_shown(alg)} is not an allowed one")
        return alg

    @property
    def key_id(self) -> str | None:
        """The key that it names, if it names one (§2.2)."""
        key_id = self.jws.header.get("kid")
        if key_id is not None and not isinstance(key_id, str):
            raise self.error("`kid` is not text")
        return key_id

    @property
    def id(self) -> SpiffeId:
        """Whom it is about (§3.1)."""
        subject = self.jws.claims.get("sub")
        if not isinstance(subject, str):
            raise self.error("`sub` is missing or not text")
        try:
            spiffe_id = SpiffeId.parse(subject)
        except InvalidIdError as error:
            raise self.error(f"`sub` is not a SPIFFE ID: {error}") from error
        if not spiffe_id.path:
            raise self.error(f"`sub` is {spiffe_id}, which names a trust domain and no workload")
        return spiffe_id

    @property
    def audience(self) -> frozenset[str]:
        """For whom it is; at least one (§3.2)."""
        audience = self.jws.claims.get("aud")
        values = [audience] if isinstance(audience, str) else audience
        if not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):
            raise self.error("`aud` is missing, empty, or neither text nor a list of text")
        return frozenset(values)

    @property
    def expires_at(self) -> datetime:
        """From when on it must not be accepted (§3.3)."""
        time = self.time("exp")
        if time is None:
            raise self.error("`exp` is missing")
        return time

    def time(self, claim: str) -> datetime | None:
        """Return a NumericDate (RFC 7519 §2), None if it is not there."""
        value = self.jws.claims.get(claim)
        if value is None and claim not in self.jws.claims:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"`{claim}` is not a number of seconds")
        try:
            return _EPOCH + timedelta(seconds=value)
        except (OverflowError, ValueError):
            raise self.error(f"`{claim}` is no date before the year 10000") from None


def _shown(value: object) -> str:
    return repr(value[:20]) if isinstance(value, str) else f"of type {type(value).__name__}"


def _type(token: Token) -> None:
    if "typ" in token.jws.header and token.jws.header["typ"] not in ("JWT", "JOSE"):
        raise token.error(f"the type {_shown(token.jws.header['typ'])} is neither JWT nor JOSE")


def _critical(token: Token) -> None:
    # No extension is understood here, and an empty list is not allowed (RFC 7515 §4.1.11).
    if "crit" in token.jws.header:
        raise token.error("the header has `crit`: an extension that is not understood")


_READ = frozenset({"compact"})

#: What each kind of token must be, whoever signed it.
TOKEN_RULES: tuple[Rule[Token], ...] = (
    Rule("compact", "JWT-SVID §5.1", "the token is well-formed, in compact serialisation", Token.read),
    Rule("algorithm", "JWT-SVID §2.1", "the algorithm is an allowed one", lambda token: token.alg, _READ),
    Rule("key_id", "JWT-SVID §2.2", "the key ID is text or absent", lambda token: token.key_id, _READ),
    Rule("critical_headers", "RFC 7515 §4.1.11", "there is no critical header extension", _critical, _READ),
    Rule("subject", "JWT-SVID §3.1", "the subject is a SPIFFE ID with a path", lambda token: token.id, _READ),
    Rule("expiry", "JWT-SVID §3.3", "there is an expiry", lambda token: token.expires_at, _READ),
    Rule("not_before", "RFC 7519 §4.1.5", "`nbf` is a date or absent", lambda t: t.time("nbf"), _READ),
    Rule("issued_at", "RFC 7519 §4.1.6", "`iat` is a date or absent", lambda t: t.time("iat"), _READ),
)

#: What a JWT-SVID must be, whoever signed it.
JWT_RULES: tuple[Rule[Token], ...] = (
    *TOKEN_RULES,
    Rule("type", "JWT-SVID §2.3", "the type is JWT, JOSE or absent", _type, _READ),
    Rule("audience", "JWT-SVID §3.2", "there is an audience", lambda token: token.audience, _READ),
)


@dataclass(frozen=True, slots=True)
class JwtSvid:
    """A JWT-SVID and what it says.

    `verify_jwt_svid` returns one whose claims are proven; those of `parse_unverified` are as good
    as where the token came from.

    Attributes:
        token: The token itself.
        id: Whom it is about.
        audience: For whom it is; at least one.
        expires_at: From when on it must not be accepted, UTC.
        issued_at: When it was made, UTC, if it says so.
        claims: All claims, read-only.
        hint: What the issuer says it is for; empty if nothing.
        key_id: The authority's key that it names, if it names one.
    """

    token: Secret[str]
    id: SpiffeId = field(compare=False)
    audience: frozenset[str] = field(compare=False)
    expires_at: datetime = field(compare=False)
    issued_at: datetime | None = field(compare=False)
    claims: Mapping[str, object] = field(compare=False, repr=False)
    hint: str = ""
    key_id: str | None = field(default=None, compare=False)

    @classmethod
    @border
    def parse_unverified(cls, token: str, *, hint: str = "") -> JwtSvid:
        """Parse a token whose signature is not checked, such as one that the Workload API issued.

        Args:
            token: Compact serialisation, at most 64 KiB.
            hint: What the issuer says it is for.

        Raises:
            JwtSvidError: It is malformed, or breaks a rule for header or claims.
        """
        parsed = Token(token)
        for rule in JWT_RULES:
            rule.check(parsed)
        return cls.of(parsed, hint)

    @classmethod
    def of(cls, token: Token, hint: str = "") -> JwtSvid:
        """Make the value of a token that keeps all `JWT_RULES`."""
        return cls(
            token=Secret(token.text),
            id=token.id,
            audience=token.audience,
            expires_at=token.expires_at,
            issued_at=token.time("iat"),
            claims=MappingProxyType(dict(token.jws.claims)),
            hint=hint,
            key_id=token.key_id,
        )
