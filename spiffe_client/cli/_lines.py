"""Lines of text for people, with a meaning for each part instead of a colour."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Line", "Style", "line", "naming", "pair", "printable", "without_tokens"]

#: What a part of a line is, so that a terminal can show it; a pipe does not.
Style: TypeAlias = Literal["good", "bad", "name", "faint", "strong", "plain"]

_ID = re.compile(r"(spiffe://[A-Za-z0-9._/-]+)")
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        parts: Text without control characters, and what it is.
    """

    parts: tuple[tuple[str, Style], ...]

    def __str__(self) -> str:
        return "".join(text for text, _ in self.parts)


def line(*parts: str | tuple[str, Style]) -> Line:
    """Make a line of plain text and of (text, style) pairs."""
    pairs: list[tuple[str, Style]] = [(p, "plain") if isinstance(p, str) else p for p in parts]
    return Line(tuple((printable(text), style) for text, style in pairs))


def printable(text: str) -> str:
    """Escape what is not meant to be seen.

    Hints, subjects and messages of others come to a terminal here: none of them may move the
    cursor, colour the verdict, or turn the writing direction.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def naming(text: str, style: Style) -> tuple[tuple[str, Style], ...]:
    """Return the parts of a text, with the SPIFFE IDs in it as names."""
    parts = enumerate(_ID.split(text))
    return tuple((part, "name" if number % 2 else style) for number, part in parts if part)


def pair(label: str, value: str, style: Style = "plain") -> Line:
    """Make an indented line of a label and what it is."""
    return line("  ", (f"{label:<13} ", "faint"), (value, style))


def without_tokens(text: str) -> str:
    """Return text without anything that looks like a token, for messages that others had a hand in."""
    return _JWT.sub("(a token)", text)
