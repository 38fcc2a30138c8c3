"""SPIFFE IDs and trust domains, by the full grammar of the standard (SPIFFE-ID §2).

Scheme and trust domain compare case-insensitively (§2.4). This module is the one place that
decides what a mixed-case spelling becomes: lower case, the canonical form. Paths keep their case.
"""

from __future__ import annotations

import re
from functools import total_ordering

from spiffe_client._values import dataclass
from spiffe_client.errors import InvalidIdError

__all__ = ["SpiffeId", "TrustDomain"]

#: Longest SPIFFE ID accepted or made, in bytes (SPIFFE-ID §2.3).
MAX_ID_BYTES = 2048
#: Longest trust domain name, in bytes (SPIFFE-ID §2.1).
MAX_TRUST_DOMAIN_BYTES = 255

_NOT_IN_TRUST_DOMAIN = re.compile(r"[^a-z0-9._-]")
_NOT_IN_SEGMENT = re.compile(r"[^a-zA-Z0-9._-]")
_SCHEME = "spiffe://"


def _lower_ascii(text: str) -> str:
    # str.lower() would turn U+212A (Kelvin sign) into "k" and so let a look-alike in.
    return text.lower() if text.isascii() else text


def _refuse(kind: str, text: str, why: str) -> InvalidIdError:
    shown = text if len(text) <= 120 else text[:120] + "…"
    return InvalidIdError(f"not a {kind}: {shown!r}: {why}")


def _trust_domain_name(text: str, whole: str, kind: str) -> str:
    name = _lower_ascii(text)
    if not name:
        raise _refuse(kind, whole, "the trust domain is empty")
    if bad := _NOT_IN_TRUST_DOMAIN.search(name):
        raise _refuse(
            kind, whole, f"the trust domain may not hold {bad[0]!r} (at {bad.start()}), only a-z 0-9 . _ -"
        )
    if len(name) > MAX_TRUST_DOMAIN_BYTES:
        raise _refuse(kind, whole, f"the trust domain has more than {MAX_TRUST_DOMAIN_BYTES} bytes")
    return name


def _check_path(path: str, whole: str) -> None:
    for segment in path.split("/")[1:]:
        if not segment:
            raise _refuse("SPIFFE ID", whole, "the path has an empty segment or a trailing slash")
        if segment in (".", ".."):
            raise _refuse("SPIFFE ID", whole, f"the path has a {segment!r} segment")
        if bad := _NOT_IN_SEGMENT.search(segment):
            raise _refuse(
                "SPIFFE ID", whole, f"a path segment may not hold {bad[0]!r}, only a-z A-Z 0-9 . _ -"
            )


@total_ordering
@dataclass(frozen=True, slots=True)
class TrustDomain:
    """The name of a trust domain, in canonical lower case (SPIFFE-ID §2.1).

    Attributes:
        name: 1 to 255 characters of `a-z 0-9 . _ -`.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise InvalidIdError(f"not a trust domain: expected str, got {type(self.name).__name__}")
        object.__setattr__(self, "name", _trust_domain_name(self.name, self.name, "trust domain"))

    @classmethod
    def parse(cls, value: TrustDomain | SpiffeId | str) -> TrustDomain:
        """Make a trust domain from its name, from its own SPIFFE ID, or from any ID within it.

        Raises:
            InvalidIdError: It is none of these.
        """
        if isinstance(value, TrustDomain):
            return value
        if isinstance(value, SpiffeId):
            return value.trust_domain
        if isinstance(value, str) and "://" in value:
            return SpiffeId.parse(value).trust_domain
        return cls(value)

    @property
    def id(self) -> SpiffeId:
        """The trust domain's own SPIFFE ID: no path, names an authority and never a workload."""
        return SpiffeId(self, "")

    def __str__(self) -> str:
        return self.name

    def __lt__(self, other: object) -> bool:
        return self.name < other.name if isinstance(other, TrustDomain) else NotImplemented


@total_ordering
@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A SPIFFE ID: who a workload or an authority is (SPIFFE-ID §2).

    Attributes:
        trust_domain: The authority that vouches for it.
        path: `""` for the trust domain's own ID, else `/segment[/segment…]`, case-sensitive.
    """

    trust_domain: TrustDomain
    path: str

    def __post_init__(self) -> None:
        if not isinstance(self.trust_domain, TrustDomain) or not isinstance(self.path, str):
            raise InvalidIdError(
                "a SpiffeId is made of a TrustDomain and a path; for text use SpiffeId.parse"
            )
        whole = f"{_SCHEME}{self.trust_domain}{self.path}"
        if self.path and not self.path.startswith("/"):
            raise _refuse("SPIFFE ID", whole, "the path must begin with '/'")
        _check_path(self.path, whole)
        if len(whole) > MAX_ID_BYTES:
            raise _refuse("SPIFFE ID", whole, f"it has more than {MAX_ID_BYTES} bytes")

    @classmethod
    def parse(cls, value: SpiffeId | str) -> SpiffeId:
        """Make a SPIFFE ID from its text.

        Args:
            value: `spiffe://trust-domain[/path]`; scheme and trust domain in any case.

        Raises:
            InvalidIdError: It breaks the grammar of SPIFFE-ID §2; the message says where.
        """
        if isinstance(value, SpiffeId):
            return value
        if not isinstance(value, str):
            raise InvalidIdError(f"not a SPIFFE ID: expected str, got {type(value).__name__}")
        if len(value) > MAX_ID_BYTES:  # before any work is put into it
            raise _refuse("SPIFFE ID", value, f"it has more than {MAX_ID_BYTES} bytes")
        if _lower_ascii(value[: len(_SCHEME)]) != _SCHEME:
            raise _refuse("SPIFFE ID", value, f"it must begin with {_SCHEME}")
        name, slash, path = value[len(_SCHEME) :].partition("/")
        return cls(TrustDomain(_trust_domain_name(name, value, "SPIFFE ID")), slash + path)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain.name}{self.path}"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, SpiffeId):
            return NotImplemented
        return (self.trust_domain.name, self.path) < (other.trust_domain.name, other.path)
