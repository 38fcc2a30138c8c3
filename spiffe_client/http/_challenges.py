"""What a server wants of whom it refuses: `WWW-Authenticate` (RFC 9110 §11.6.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

__all__ = ["Challenge", "parse_challenges"]

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER: Final = re.compile(
    rf'({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")(?=[ \t]*(?:,|\Z))'
)
_SCHEME: Final = re.compile(rf"({_TOKEN})(?= +[^ ,]|[ \t]*(?:,|\Z))")
_TOKEN68: Final = re.compile(r" +[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|\Z))")
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
#: Longer ones are not for machines.
_MAX_LENGTH: Final = 8192


class Challenge(NamedTuple):
    """One way to authenticate, as a server offers it.

    Attributes:
        scheme: In lower case, such as `bearer`.
        parameters: By name in lower case.
    """

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """Parse the challenges of one answer.

    What comes after something malformed is left out, and so is a challenge that says a thing twice
    (RFC 6750 §3): what it means would be a guess.

    Args:
        values: Each `WWW-Authenticate` header; one may hold several challenges.
    """
    return [challenge for value in values for challenge in _parse(value[:_MAX_LENGTH])]


def _parse(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    twice: set[int] = set()
    at = _skip(text, 0)
    while at < len(text):
        parameter = _PARAMETER.match(text, at)
        if parameter and found:
            name, plain, quoted = parameter.groups()
            known = found[-1].parameters
            if name.lower() in known:
                twice.add(len(found) - 1)
            value = plain if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
            found[-1] = Challenge(found[-1].scheme, {**known, name.lower(): value})
            at = _skip(text, parameter.end())
            continue
        scheme = _SCHEME.match(text, at)
        if scheme is None:
            break
        found.append(Challenge(scheme[1].lower(), {}))
        at = scheme.end()
        credentials = _TOKEN68.match(text, at)
        at = _skip(text, credentials.end() if credentials else at)
    return [challenge for number, challenge in enumerate(found) if number not in twice]


def _skip(text: str, at: int) -> int:
    return len(text) - len(text[at:].lstrip(" \t,"))
