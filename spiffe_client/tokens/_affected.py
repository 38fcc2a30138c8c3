"""Which tokens a security event is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from spiffe_client._frames import border
from spiffe_client._jose import parse_compact
from spiffe_client._redact import Secret
from spiffe_client.errors import TokenError
from spiffe_client.tokens._parties import ForeignToken, Subject
from spiffe_client.tokens._security_events import (
    CREDENTIAL_CHANGE,
    SESSION_REVOKED,
    TOKEN_CLAIMS_CHANGE,
    SecurityEvent,
    SubjectIdentifier,
)
from spiffe_client.tokens._tokens import AccessToken, SecurityToken

__all__ = ["Affected", "Ours", "affected_by", "identities_of"]

#: Actors inside of actors that are looked at (RFC 8693 §4.1), and tokens that one was made from.
_MAX_DEPTH: Final = 8
_NONE: Final[frozenset[int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Ours:
    """Who we are, by any name that an event may use.

    Attributes:
        issuer: The token broker that issues our tokens.
        names: The OAuth client and the SPIFFE ID.
    """

    issuer: str
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Affected:
    """Tokens that must not be used any more; called with one, it says whether it is among them.

    Attributes:
        all: Whether every token is.
        identities: Hashes of names of tokens, and of those they speak for.
    """

    all: bool = False
    identities: frozenset[int] = _NONE

    def __call__(self, token: AccessToken) -> bool:
        """Return whether this token is among them."""
        return self.all or not self.identities.isdisjoint(identities_of(token))

    def __or__(self, other: Affected) -> Affected:
        """Return those of both."""
        return Affected(all=self.all or other.all, identities=self.identities | other.identities)


def affected_by(event: SecurityEvent, ours: Ours) -> Affected | None:
    """Return which tokens have to go after an event; None if it is not of a kind that takes any.

    A subject of several parts is about each of them: a token too many costs one exchange, a token
    too few is what the event is there to prevent.
    """
    if not any(_takes(kind, members.get("change_type")) for kind, members in event.events.items()):
        return None
    subjects = list(event.subject.simple())
    if any(_is_us(subject, ours, event.issuer) for subject in subjects):
        return Affected(all=True)
    return Affected(identities=frozenset(one for subject in subjects for one in _said(subject)))


def _takes(kind: str, change: object) -> bool:
    # A credential that came in addition takes nothing from those that were there.
    return kind in (SESSION_REVOKED, TOKEN_CLAIMS_CHANGE) or (
        kind == CREDENTIAL_CHANGE and change != "create"
    )


def _is_us(subject: SubjectIdentifier, ours: Ours, transmitter: str) -> bool:
    said = subject.members
    if subject.format == "uri":
        return said.get("uri") in ours.names
    if subject.format == "opaque":
        return said.get("id") in ours.names
    if subject.format == "iss_sub":
        return said.get("sub") in ours.names and said.get("iss") in (ours.issuer, transmitter)
    return False


def _said(subject: SubjectIdentifier) -> Iterator[int]:
    """Iterate over what a token is known by if this identifier is about it."""
    said = subject.members
    if subject.format in ("uri", "opaque"):
        yield from _identity("name", said.get("uri" if subject.format == "uri" else "id"))
    elif subject.format in ("iss_sub", "jwt_id"):
        member = "sub" if subject.format == "iss_sub" else "jti"
        yield from _identity(member, said.get("iss"), said.get(member))


def _identity(kind: str, *names: object) -> Iterator[int]:
    # A hash: who prints a token's insides does not see whom it is about.
    if all(isinstance(name, str) for name in names):
        yield hash((kind, *names))


def identities_of(token: AccessToken) -> frozenset[int]:
    """Return what a token is known by to events, as hashes; worked out once for each token.

    That is its `jti` and whom it speaks for, as far as it can be read, and the same of the tokens
    that it was made from: where the token itself is opaque, they are all there is.
    """
    known = token._identities  # noqa: SLF001 - the slot is there for this function
    if known is None:
        known = _work_out(token)
        object.__setattr__(token, "_identities", known)
    return known


@border
def _work_out(token: AccessToken) -> frozenset[int]:
    found: set[int] = set()
    level: list[Subject | None] = [token]
    for _ in range(_MAX_DEPTH):
        held = [one for one in level if isinstance(one, AccessToken | SecurityToken | ForeignToken)]
        for one in held:
            if isinstance(one.token, Secret):  # else it is read from somewhere when it is needed
                found.update(_read(one.token.reveal()))
        made = [one for one in held if not isinstance(one, ForeignToken)]
        level = [above for one in made for above in (one.request.subject, one.request.actor)]
    return frozenset(found)


def _read(text: str) -> Iterable[int]:
    try:
        claims = parse_compact(text, error=TokenError).claims
    except TokenError:
        return ()  # opaque: nobody but its issuer can tell
    issuer = claims.get("iss")
    found = [*_identity("jti", issuer, claims.get("jti")), *_identity("name", claims.get("client_id"))]
    party: object = claims
    for _ in range(_MAX_DEPTH):
        if not isinstance(party, Mapping):
            break
        issuer, name = party.get("iss", issuer), party.get("sub")
        found += (*_identity("sub", issuer, name), *_identity("name", name))
        party = party.get("act")
    return found
