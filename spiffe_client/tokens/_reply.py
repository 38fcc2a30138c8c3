"""What a token broker answers: read strictly, and nothing of the body in an error."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Literal

from spiffe_client._frames import border
from spiffe_client._json import parse_json_object
from spiffe_client._redact import Secret
from spiffe_client.errors import (
    InvalidAuthorizationDetailsError,
    InvalidClientError,
    InvalidGrantError,
    InvalidScopeError,
    InvalidTargetError,
    OAuthError,
    TokenBrokerUnavailableError,
    TokenError,
    TokenProtocolError,
    UnacceptableTokenError,
)
from spiffe_client.tokens._request import canonical_json
from spiffe_client.tokens._scrub import scrub

if TYPE_CHECKING:
    from spiffe_client.tokens._channel import Shown

__all__ = ["Issued", "Reply", "error_of", "issued", "read_object", "repeats", "unavailable"]


_KINDS: Final[Mapping[str, type[OAuthError]]] = {
    "invalid_client": InvalidClientError,
    "invalid_grant": InvalidGrantError,
    "invalid_scope": InvalidScopeError,
    "invalid_target": InvalidTargetError,
    "invalid_authorization_details": InvalidAuthorizationDetailsError,
}
#: What to look at, by code.
_HINTS: Final[Mapping[str, str]] = {
    "invalid_client": "are its ID, its secret or key, and the way it authenticates those registered there?",
    "invalid_scope": "ask for less, or have it permitted there",
    "invalid_target": "is this audience or resource known there?",
    "unauthorized_client": "is what it asks for permitted to it there?",
}
#: An error code (RFC 6749 §5.2), no longer than any reasonable one.
_CODE: Final = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,100}\Z")
_MEDIA_TYPE: Final = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9]{1,12}\Z")
#: A token that fits into a header; `N_A` ones may hold spaces.
_PRESENTABLE: Final = re.compile(r"[\x21-\x7e]+\Z")
_TEXT: Final = re.compile(r"[\x20-\x7e]+\Z")
#: Token types are compared without case (RFC 6749 §5.1).
_TOKEN_TYPES: Final[Mapping[str, Literal["Bearer", "DPoP", "N_A"]]] = {
    "bearer": "Bearer",
    "dpop": "DPoP",
    "n_a": "N_A",
}
#: Characters that a secret has at least.
_LONG: Final = 16
#: Seconds: more than this is a mistake, and nothing is known.
_LONGEST_LIFE: Final = 10 * 365 * 86400
_LONGEST_WAIT: Final = 86400


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response, read to its end.

    Attributes:
        status: HTTP status.
        headers: By lower-case name; of a repeated one all values, joined by a comma.
        body: At most 64 KiB.
        shown: The client certificate it was got with; None for none.
        sent: Secrets that were in the request, which must not come back in an error.
        url: Who answered.
        client: The OAuth client that asked; empty if that is not known.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    shown: Shown | None = field(default=None, repr=False)
    sent: tuple[Secret[str], ...] = field(default=(), repr=False)
    url: str = field(default="", repr=False)
    client: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Issued:
    """A successful answer of a token endpoint (RFC 6749 §5.1, RFC 8693 §2.2.1).

    Attributes:
        token: The token.
        token_type: `Bearer`, `DPoP` or `N_A`.
        issued_token_type: A URN; None if it does not say.
        expires_in: Seconds; None if it does not say, or nothing that makes sense.
        scope: What was granted; None if it does not say, which means what was asked for.
        authorization_details: Canonical JSON of what was granted; None if it does not say.
        refresh_in: Seconds after which the token broker wants to be asked again; None if it does not say.
    """

    token: Secret[str] = field(repr=False)
    token_type: Literal["Bearer", "DPoP", "N_A"]
    issued_token_type: str | None
    expires_in: float | None
    scope: frozenset[str] | None
    authorization_details: str | None
    refresh_in: float | None


@border
def read_object(reply: Reply) -> dict[str, object]:
    """Return the JSON object in a reply.

    Raises:
        TokenProtocolError: It is not `application/json`, or not an object with each member once.
    """
    media_type = _media_type(reply)
    if media_type != "application/json":
        raise _no_oauth(reply, f"with {scrub(media_type) or 'no media type'} instead of application/json")
    document = parse_json_object(reply.body)
    if document is None:
        raise _no_oauth(reply, "with what is not a JSON object with each member once")
    return document


@border
def error_of(reply: Reply, *, now: datetime) -> TokenError:
    """Return the error that a reply is.

    Args:
        reply: Any that is not what was hoped for.
        now: For a Retry-After that is a date.

    Returns:
        An `OAuthError` of the kind its code is (RFC 6749 §5.2); where it has no code, a
        `TokenBrokerUnavailableError` if the status says to come again, else a `TokenProtocolError`.
    """
    document = parse_json_object(reply.body) if _media_type(reply) == "application/json" else None
    code = (document or {}).get("error")
    if document is None or not isinstance(code, str) or not _CODE.match(code):
        return unavailable(reply, now=now) or _no_oauth(reply, "and no OAuth error")
    secrets = [secret.reveal() for secret in reply.sent]
    code = scrub(code, secrets)
    said = document.get("error_description")
    description = scrub(said, secrets) if isinstance(said, str) else ""
    hint = f"; {_HINTS[code]}" if code in _HINTS else ""
    return _KINDS.get(code, OAuthError)(
        f"{_who(reply)} answered {code}{f' to {reply.client}' if reply.client else ''}"
        f"{f': {description}' if description else ''} "
        f"(HTTP status {reply.status}){hint}",
        error=code,
        status=reply.status,
        description=description,
        retry_after=_retry_after(reply, now),
    )


def unavailable(reply: Reply, *, now: datetime) -> TokenBrokerUnavailableError | None:
    """Return the error for a status that says to come again later; None for any other."""
    if reply.status < 500 and reply.status not in (408, 425, 429):
        return None
    return TokenBrokerUnavailableError(
        f"{_who(reply)} answered with HTTP status {reply.status}", retry_after=_retry_after(reply, now)
    )


@border
def issued(reply: Reply, *, now: datetime) -> Issued:
    """Read a successful answer of a token endpoint.

    Raises:
        TokenError: As `error_of`, if it is none.
        TokenProtocolError: It is malformed.
        UnacceptableTokenError: A token of an unknown `token_type`: nobody knows how to present it.
    """
    if reply.status != 200:
        raise error_of(reply, now=now)
    document = read_object(reply)
    token = document.get("access_token")
    if token is None and "error" in document:  # some say so with status 200
        raise error_of(reply, now=now)
    token_type = _token_type(reply, document.get("token_type"))
    fits = _TEXT if token_type == "N_A" else _PRESENTABLE
    if not isinstance(token, str) or not fits.match(token):
        raise _no_oauth(reply, "without an access_token that can be presented")
    kind = document.get("issued_token_type")
    if not isinstance(kind, str | None):
        raise _no_oauth(reply, "with an issued_token_type that is not text")
    issued_token = Secret(token)
    shown = [kind, document.get("scope"), document.get("authorization_details")]
    if repeats(shown, (issued_token, *reply.sent)):
        raise _no_oauth(reply, "with a secret in a member that is no secret")
    return Issued(
        token=issued_token,
        token_type=token_type,
        issued_token_type=kind,
        expires_in=_seconds(document.get("expires_in")),
        scope=_scope(reply, document.get("scope")),
        authorization_details=_details(reply, document.get("authorization_details")),
        refresh_in=_seconds(document.get("refresh_in")),
    )


def repeats(value: object, secrets: Iterable[Secret[str]]) -> bool:
    """Whether something in JSON holds one of these secrets; short ones, which may be words, do not count."""
    text = json.dumps(value)
    held = (secret.reveal() for secret in secrets)
    return any(len(secret) >= _LONG and json.dumps(secret)[1:-1] in text for secret in held)


def _token_type(reply: Reply, value: object) -> Literal["Bearer", "DPoP", "N_A"]:
    if not isinstance(value, str):
        raise _no_oauth(reply, "without a token_type")
    known = _TOKEN_TYPES.get(value.lower())
    if known is None:
        raise UnacceptableTokenError(
            f"{_who(reply)} issued a token of type {scrub(value)[:40]!r}, and nobody knows how to present it",
            why="token_type",
        )
    return known


def _seconds(value: object) -> float | None:
    """Return a duration; None for whatever makes no sense, which is never taken for `for ever`."""
    if isinstance(value, str) and _DIGITS.match(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Compared before it is made a float: an integer may be too large for that.
    return float(value) if 0 < value <= _LONGEST_LIFE and math.isfinite(value) else None


def _scope(reply: Reply, value: object) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _no_oauth(reply, "with a scope that is not text")
    return frozenset(value.split())


def _details(reply: Reply, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(
        isinstance(item, dict) and isinstance(item.get("type"), str) for item in value
    ):
        raise _no_oauth(reply, "with authorization_details that are not a list of objects with a type")
    return canonical_json(value, "authorization_details") if value else ""


def _retry_after(reply: Reply, now: datetime) -> float | None:
    """Return how long to wait (RFC 9110 §10.2.3), None if it does not say so."""
    value = reply.headers.get("retry-after", "").strip()
    if _DIGITS.match(value):
        return float(min(int(value), _LONGEST_WAIT))
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - now).total_seconds()), float(_LONGEST_WAIT))


def _who(reply: Reply) -> str:
    where = reply.url.partition("?")[0]
    return f"the token broker at {where}" if where else "the token broker"


def _media_type(reply: Reply) -> str:
    match = _MEDIA_TYPE.match(reply.headers.get("content-type", ""))
    return match[0].lower() if match else ""


def _no_oauth(reply: Reply, what: str) -> TokenProtocolError:
    return TokenProtocolError(
        f"{_who(reply)} answered with HTTP status {reply.status} {what}",
        status=reply.status,
        content_type=scrub(_media_type(reply)),
    )
