"""What is asked of a token broker, as one value that can be compared, kept and asked again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Final, Self

from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens._parties import OwnSvid, Subject, key_of, kind_of
from spiffe_client.tokens._urns import CLIENT_CREDENTIALS, JWT_BEARER, TOKEN_EXCHANGE

__all__ = ["TokenRequest", "canonical_json"]

#: One scope (RFC 6749 §3.3): printable ASCII without space, quotation mark and backslash.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+\Z")
#: An absolute URI without fragment (RFC 8707 §2, RFC 3986 §4.3), as far as a client has to know.
_RESOURCE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21\x24-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e%]+\Z")
_NONE: Final[frozenset[str]] = frozenset()
_GRANTS: Final = (TOKEN_EXCHANGE, CLIENT_CREDENTIALS, JWT_BEARER)


def canonical_json(value: object, what: str) -> str:
    """Return the one JSON text of a value: members sorted, no spaces.

    Args:
        value: Objects, arrays, text, finite numbers, booleans, null.
        what: What to call it in the error.

    Raises:
        TokenRequestError: It is not JSON.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TokenRequestError(f"{what}: not JSON: {type(error).__name__}") from None


def _check(value: object, kind: type | UnionType, meant: str) -> None:
    if not isinstance(value, kind):
        raise TokenRequestError(f"{meant}, not {kind_of(value)}")


def _several(values: object, meant: str) -> tuple[object, ...]:
    if isinstance(values, Iterable) and not isinstance(
        values, str | bytes | bytearray | memoryview | Mapping
    ):
        try:
            return tuple(values)
        except TypeError:  # of what only looks as if it held something
            pass
    raise TokenRequestError(f"{meant}: not {kind_of(values)}")


def _words(scope: Iterable[object]) -> tuple[str, ...]:
    words: list[str] = []
    for text in scope:
        if not isinstance(text, str):
            raise TokenRequestError(
                'scopes are separate words: token("orders:read", "orders:audit"), not '
                + ("a list" if isinstance(text, list | tuple | set | frozenset) else kind_of(text))
            )
        words += text.split(" ")
    return tuple(words)


def _names(values: object, what: str, pattern: re.Pattern[str] | None) -> frozenset[str]:
    names: set[str] = set()
    for name in (values,) if isinstance(values, str) else _several(values, f"{what} is text, or several"):
        if not isinstance(name, str):
            raise TokenRequestError(f"{what} is text, or several: not {kind_of(name)} among them")
        if not name or (pattern and not pattern.match(name)):
            raise TokenRequestError(f"{what} {name!r:.200} is malformed")
        names.add(name)
    return frozenset(names) if names else _NONE


def _parameters(parameters: object) -> tuple[tuple[str, str], ...]:
    if parameters is None:
        return ()
    if not isinstance(parameters, Mapping):
        raise TokenRequestError(f"parameters is a mapping of text to text, not {kind_of(parameters)}")
    pairs = tuple(parameters.items())
    if not all(isinstance(name, str) and isinstance(value, str) for name, value in pairs):
        raise TokenRequestError("parameters: names and values are text")
    return tuple(sorted(pairs))


def _details(details: object, what: str) -> str:
    details = _several(details, f"{what} is a list of objects (RFC 9396 §2)")
    for number, detail in enumerate(details, start=1):
        kind = detail.get("type") if isinstance(detail, Mapping) else None
        if not isinstance(kind, str) or not kind:
            raise TokenRequestError(f"{what}, object {number}: needs a `type` (RFC 9396 §2)")
    return canonical_json(list(details), what) if details else ""


def _subject_of(grant: object, subject: Subject | None, actor: Subject | None) -> Subject | None:
    """Return whose token is exchanged with a grant.

    Raises:
        TokenRequestError: The grant is none of those known, or does not go with subject and actor.
    """
    _check(grant, str, "the grant is text")
    if grant not in _GRANTS:
        raise TokenRequestError(f"the grant {grant!r:.200} is none of {', '.join(_GRANTS)}")
    if grant != CLIENT_CREDENTIALS:
        if subject is None:
            raise TokenRequestError(f"{grant} needs a subject")
        return subject
    own = isinstance(subject, OwnSvid) and subject == OwnSvid()
    if actor is not None or not (subject is None or own):
        raise TokenRequestError("client_credentials has neither subject nor actor")
    return None


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is asked of a token broker; made by `TokenRequest.of`.

    Two requests are the same if all of this is the same; order and repetition mean nothing.

    Attributes:
        grant: How it is asked for, as OAuth 2 names it.
        scope: What the token is to permit.
        audience: Logical names of whom it is for (RFC 8693 §2.1).
        resource: Absolute URIs of whom it is for (RFC 8707 §2).
        authorization_details: Canonical JSON of what it is to permit (RFC 9396 §2); empty for none.
        purpose: What for, in words; empty for none.
        subject: Whose token is exchanged, or the assertion of a jwt-bearer grant.
        actor: Who acts for the subject; None where nobody does.
        requested_token_type: A URN; None leaves it to the token broker.
        parameters: Further form parameters, sorted; experimental grants use them.
        exact: Whether less than what is asked for is refused; else it is visible in the token.
        partition: Whose it is, of those whom this workload works for; never sent, and nobody else's.
        max_ttl: Seconds after which a token is not used any more, whatever its issuer says; None for
            the client's own limit. Never sent.
        key: SHA-256 over all of it.
    """

    grant: str
    scope: frozenset[str]
    audience: frozenset[str]
    resource: frozenset[str]
    authorization_details: str
    purpose: str
    subject: Subject | None
    actor: Subject | None
    requested_token_type: str | None
    parameters: tuple[tuple[str, str], ...]
    exact: bool
    partition: str
    max_ttl: float | None
    key: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self.purpose, str, "the purpose is text")
        _check(self.exact, bool, "exact is True or False")
        _check(self.partition, str, "the partition is text")
        if self.max_ttl is not None and not self.max_ttl > 0:
            raise TokenRequestError(f"max_ttl is a number of seconds, not {self.max_ttl!r:.40}")
        whole = [
            self.grant,
            *(sorted(names) for names in (self.scope, self.audience, self.resource)),
            self.authorization_details,
            self.purpose,
            key_of(self.subject),
            key_of(self.actor),
            self.requested_token_type,
            self.parameters,
            self.exact,
            self.partition,
            self.max_ttl,
        ]
        # JSON, not joined text: no value can be made to look like two.
        try:
            text = json.dumps(whole)
        except (TypeError, ValueError, RecursionError):
            raise TokenRequestError("a member of the subject or the actor is not text") from None
        object.__setattr__(self, "key", hashlib.sha256(text.encode()).digest())

    @classmethod
    def of(
        cls,
        *scope: str,
        audience: str | Collection[str] = (),
        resource: str | Collection[str] = (),
        authorization_details: Sequence[Mapping[str, object]] = (),
        purpose: str = "",
        subject: Subject | None = OwnSvid(),  # noqa: B008 - a frozen value
        actor: Subject | None = None,
        grant: str = TOKEN_EXCHANGE,
        requested_token_type: str | None = None,
        parameters: Mapping[str, str] | None = None,
        exact: bool = False,
        partition: str = "",
        max_ttl: float | None = None,
    ) -> Self:
        """Make a request.

        Args:
            scope: What the token is to permit, one or more to a text, divided by spaces.
            audience: For whom: names. One that is an absolute URI is an audience all the same.
            resource: For whom: absolute URIs without fragment.
            authorization_details: Objects with a `type` each.
            purpose: What for, in words.
            subject: Whose token is exchanged; None only with `client_credentials`.
            actor: Who acts for the subject.
            grant: token exchange, `client_credentials`, or jwt-bearer with `subject` as assertion.
            requested_token_type: A URN.
            parameters: Further form parameters.
            exact: Refuse less than what is asked for.
            partition: Whose it is, of those whom this workload works for; stays here.
            max_ttl: Seconds after which a token is not used any more.

        Raises:
            TokenRequestError: Something of it is malformed, or does not fit the grant.
        """
        subject = _subject_of(grant, subject, actor)
        _check(requested_token_type, str | None, "requested_token_type is a URN")
        return cls(
            grant=grant,
            scope=_names(_words(scope), "scope", _SCOPE),
            audience=_names(audience, "audience", None),
            resource=_names(resource, "resource", _RESOURCE),
            authorization_details=_details(authorization_details, "authorization_details"),
            purpose=purpose,
            subject=subject,
            actor=actor,
            requested_token_type=requested_token_type,
            parameters=_parameters(parameters),
            exact=exact,
            partition=partition,
            max_ttl=max_ttl,
        )
