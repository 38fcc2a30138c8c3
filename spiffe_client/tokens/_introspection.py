"""What the token broker knows of a token now (RFC 7662)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TypeVar

from spiffe_client._clock import Clock
from spiffe_client._frames import async_border
from spiffe_client._redact import Secret
from spiffe_client.errors import TokenProtocolError
from spiffe_client.tokens._calls import Endpoints, call
from spiffe_client.tokens._reply import Reply, read_object, repeats
from spiffe_client.tokens._request import canonical_json
from spiffe_client.tokens._scrub import scrub

__all__ = ["Introspection", "introspect", "read_introspection"]

_T = TypeVar("_T")
_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Introspection:
    """What a token broker said of a token; of one that is not active it says nothing more.

    Of what it did not say, text is empty and times are None.

    Attributes:
        active: Whether it may be used now, for all the token broker knows.
        scope: What it permits.
        client_id: To whom it was issued.
        username: Of the person it was issued for, for people.
        token_type: How it is presented.
        subject: Whom it speaks for (`sub`).
        issuer: Who issued it (`iss`).
        audience: For whom it is (`aud`).
        token_id: Its `jti`.
        expires_at: When it expires, UTC.
        issued_at: When it was issued, UTC.
        not_before: From when on it is valid, UTC.
        actor: Who acts for the subject, and for whom before (`act`, RFC 8693 §4.1); for records: only
            the outermost one counts in decisions.
        confirmation: What it is bound to (`cnf`, RFC 7800 §3.1).
        authorization_details: What it permits, as canonical JSON (RFC 9396 §9.1).
        claims: All that was said, read-only.
    """

    active: bool
    scope: frozenset[str] = frozenset()
    client_id: str = ""
    username: str = ""
    token_type: str = ""
    subject: str = ""
    issuer: str = ""
    audience: frozenset[str] = frozenset()
    token_id: str = ""
    expires_at: datetime | None = None
    issued_at: datetime | None = None
    not_before: datetime | None = None
    actor: Mapping[str, object] = field(default_factory=lambda: _NOTHING, hash=False)
    confirmation: Mapping[str, object] = field(default_factory=lambda: _NOTHING, hash=False)
    authorization_details: str = ""
    claims: Mapping[str, object] = field(default_factory=lambda: _NOTHING, hash=False, repr=False)


@async_border
async def introspect(
    endpoints: Endpoints,
    token: Secret[str],
    *,
    timeout: float,  # noqa: ASYNC109 - a total deadline over several tries
    clock: Clock,
    hint: str = "access_token",
) -> Introspection:
    """Ask the token broker what it knows of a token.

    Whatever goes wrong raises: no failure reads as an active token.

    Args:
        endpoints: The token broker's, called as one client.
        token: The token.
        timeout: Seconds for everything.
        clock: Where the time comes from.
        hint: What kind of token it is (RFC 7662 §2.1); empty for none.

    Raises:
        UnsupportedByBrokerError: The token broker has no introspection endpoint.
        TokenProtocolError: The answer is malformed.
        TokenError: It was refused, or not answered in time.
        SourceError: There is no identity now.
    """
    form = [("token", token.reveal()), *([("token_type_hint", hint)] if hint else [])]
    return read_introspection(
        await call(endpoints, "introspection_endpoint", form, timeout=timeout, clock=clock)
    )


def read_introspection(reply: Reply) -> Introspection:
    """Read the answer to an introspection request (RFC 7662 §2.2).

    Nulls, and what repeats the token, count as not said; unknown members are kept in `claims`.

    Raises:
        TokenProtocolError: It is not such an answer, or a member of it has the wrong type.
    """
    claims = _said(reply)
    active = claims.get("active")
    if not isinstance(active, bool):
        raise _malformed(reply, "active")
    if not active:
        return Introspection(active=False)

    def read(name: str, parse: Callable[[object], _T | None], default: _T) -> _T:
        if name not in claims:
            return default
        value = parse(claims[name])
        if value is None:
            raise _malformed(reply, name)
        return value

    def time(name: str) -> datetime | None:
        return read(name, _time, None) if name in claims else None

    return Introspection(
        active=True,
        scope=read("scope", _scope, frozenset()),
        client_id=read("client_id", _text, ""),
        username=read("username", _text, ""),
        token_type=read("token_type", _text, ""),
        subject=read("sub", _text, ""),
        issuer=read("iss", _text, ""),
        audience=read("aud", _audience, frozenset()),
        token_id=read("jti", _text, ""),
        expires_at=time("exp"),
        issued_at=time("iat"),
        not_before=time("nbf"),
        actor=read("act", _object, _NOTHING),
        confirmation=read("cnf", _object, _NOTHING),
        authorization_details=read("authorization_details", _details, ""),
        claims=MappingProxyType(claims),
    )


def _said(reply: Reply) -> dict[str, object]:
    # An opaque token is its own `jti` to some: what repeats it is not said, or it would be shown.
    return {
        name: value
        for name, value in read_object(reply).items()
        if value is not None and not repeats(value, reply.sent)
    }


def _malformed(reply: Reply, name: str) -> TokenProtocolError:
    return TokenProtocolError(
        f"the answer of the introspection endpoint has no `{name}` of the right type (RFC 7662 §2.2)",
        status=reply.status,
        content_type=scrub(reply.headers.get("content-type", ""))[:100],
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _scope(value: object) -> frozenset[str] | None:
    return frozenset(value.split()) if isinstance(value, str) else None


def _audience(value: object) -> frozenset[str] | None:
    values = value if isinstance(value, list) else [value]
    names = [one for one in values if isinstance(one, str)]
    return frozenset(names) if len(names) == len(values) else None


def _time(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _object(value: object) -> Mapping[str, object] | None:
    return MappingProxyType(value) if isinstance(value, dict) else None


def _details(value: object) -> str | None:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        return None
    return canonical_json(value, "authorization_details")
