"""Security event tokens: what somebody wants us to know about tokens, sessions and credentials (RFC 8417)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from spiffe_client._frames import border
from spiffe_client._jose import parse_compact, verify_compact
from spiffe_client.bundle import SIGNATURE_ALGORITHMS, JwtAuthority
from spiffe_client.errors import SecurityEventError

__all__ = [
    "CREDENTIAL_CHANGE",
    "SESSION_REVOKED",
    "TOKEN_CLAIMS_CHANGE",
    "VERIFICATION",
    "SecurityEvent",
    "SubjectIdentifier",
    "verify_security_event",
]

_CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
#: OpenID Continuous Access Evaluation Profile 1.0 §3.
SESSION_REVOKED: Final = f"{_CAEP}session-revoked"
TOKEN_CLAIMS_CHANGE: Final = f"{_CAEP}token-claims-change"
CREDENTIAL_CHANGE: Final = f"{_CAEP}credential-change"
#: OpenID Shared Signals Framework 1.0 §8.1.4.
VERIFICATION: Final = "https://schemas.openid.net/secevent/ssf/event-type/verification"

_TYPES: Final = frozenset({"secevent+jwt"})
#: How far the transmitter's clock may be ahead.
_LEEWAY: Final = timedelta(seconds=60)
#: Longest `jti` that is remembered and repeated in an acknowledgement, and most events in a token.
_MAX_ID: Final = 1024
_MAX_EVENTS: Final = 16


@dataclass(frozen=True, slots=True)
class SubjectIdentifier:
    """Whom or what an event is about (RFC 9493; complex ones: Shared Signals Framework §3.2).

    Attributes:
        format: Its format, such as `iss_sub`, `opaque`, `uri`, `jwt_id`; an open set.
        members: The members that are text.
        parts: The identifiers that a `complex` or `aliases` one is made of.
    """

    format: str
    members: Mapping[str, str] = field(default_factory=dict, hash=False)
    parts: tuple[SubjectIdentifier, ...] = ()

    def simple(self) -> Iterator[SubjectIdentifier]:
        """Iterate over all identifiers in it that have no parts."""
        if self.parts:
            for part in self.parts:
                yield from part.simple()
        else:
            yield self


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """A verified security event token.

    Attributes:
        token_id: Its `jti`: the same event may be delivered more than once.
        issuer: Who says so.
        audience: To whom.
        issued_at: When the token was made, UTC.
        subject: Whom or what it is about.
        events: What happened: the members of each event by the URI of its type.
        transaction: Its `txn`, the same in all tokens about one occasion; empty for none.
    """

    token_id: str
    issuer: str
    audience: frozenset[str]
    issued_at: datetime
    subject: SubjectIdentifier
    events: Mapping[str, Mapping[str, object]] = field(hash=False)
    transaction: str = ""


@border
def verify_security_event(
    token: object,
    keys: Sequence[JwtAuthority],
    *,
    issuer: str,
    audience: str,
    at: datetime,
) -> SecurityEvent:
    """Verify a security event token.

    Args:
        token: In compact serialisation.
        keys: The transmitter's.
        issuer: The transmitter (`iss`).
        audience: Who we are to it (`aud`).
        at: The time, aware.

    Raises:
        SecurityEventError: It is malformed, of another type, by somebody else, for somebody else, of the
            future, or none of the keys signed it; nothing of it is in the error.
    """
    jws = parse_compact(token, error=SecurityEventError)
    try:
        verify_compact(token, keys, algorithms=SIGNATURE_ALGORITHMS, typ=_TYPES, error=SecurityEventError)
    except SecurityEventError as error:
        raise _told(error, "invalid_key") from None
    claims = jws.claims
    if claims.get("iss") != issuer:
        raise _told(SecurityEventError(f"the event is not issued by {issuer}"), "invalid_issuer")
    named = claims.get("aud")
    audiences = [one for one in (named if isinstance(named, list) else [named]) if isinstance(one, str)]
    if audience not in audiences:
        raise _told(SecurityEventError(f"the event is not for {audience}"), "invalid_audience")
    for name in ("sub", "exp"):
        # What has them could be another kind of JWT, or be taken for one (Shared Signals Framework §4.1).
        if name in claims:
            raise SecurityEventError(f"the event has a `{name}`, which no security event has")
    return SecurityEvent(
        token_id=_id(claims.get("jti")),
        issuer=issuer,
        audience=frozenset(audiences),
        issued_at=_issued_at(claims.get("iat"), at),
        subject=_subject(claims.get("sub_id")),
        events=_events(claims.get("events")),
        transaction=_text(claims.get("txn", ""), "txn"),
    )


def _told(error: SecurityEventError, err: str) -> SecurityEventError:
    error.err = err
    return error


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_ID:
        raise SecurityEventError(f"the event's `{what}` is not text of at most {_MAX_ID} characters")
    return value


def _id(value: object) -> str:
    if not (text := _text(value, "jti")):
        raise SecurityEventError("the event's `jti` is empty")
    return text


def _issued_at(value: object, at: datetime) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SecurityEventError("the event's `iat` is not a number")
    try:
        issued_at = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise SecurityEventError("the event's `iat` is no time") from None
    if issued_at - at > _LEEWAY:
        raise SecurityEventError("the event is of the future")
    return issued_at


def _subject(value: object, *, inside: bool = False) -> SubjectIdentifier:
    kind = value.get("format") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(kind, str):
        raise SecurityEventError(
            "the event's `sub_id` is not a subject identifier with a format (RFC 9493 §3)"
        )
    if kind not in ("complex", "aliases"):
        members = {n: v for n, v in value.items() if isinstance(v, str) and n != "format"}
        return SubjectIdentifier(kind, MappingProxyType(members))
    if inside:
        raise SecurityEventError(f"the event's `sub_id` has a {kind} one inside of another")
    listed = value.get("identifiers") if kind == "aliases" else [v for v in value.values() if v != kind]
    if not isinstance(listed, list) or not listed:
        raise SecurityEventError(f"the event's `sub_id` is {kind}, and has no parts")
    return SubjectIdentifier(kind, parts=tuple(_subject(part, inside=True) for part in listed))


def _events(value: object) -> Mapping[str, Mapping[str, object]]:
    if not isinstance(value, dict) or not 0 < len(value) <= _MAX_EVENTS:
        raise SecurityEventError(f"the event's `events` is not an object of 1 to {_MAX_EVENTS} events")
    if not all(isinstance(event, dict) for event in value.values()):
        raise SecurityEventError("one of `events` is not an object")
    return MappingProxyType({name: MappingProxyType(event) for name, event in value.items()})
