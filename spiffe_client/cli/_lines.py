"""Lines of text for people, with a meaning for each part instead of a colour."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Line", "Style", "line", "naming", "pair", "printable", "verbatim", "without_tokens", "wrapped"]

#: What a part of a line is, so that a terminal can show it; a pipe does not.
Style: TypeAlias = Literal["good", "bad", "name", "faint", "strong", "plain"]

_ID = re.compile(r"(spiffe://[A-Za-z0-9._/-]+)")
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Attributes:
        parts: Text without control characters, and what it is.
        hang: The column at which it goes on where a terminal is too narrow for it; None for what
            is to be copied as it is and never wrapped.
    """

    parts: tuple[tuple[str, Style], ...]
    hang: int | None = 0

    def __str__(self) -> str:
        return "".join(text for text, _ in self.parts)


def line(*parts: str | tuple[str, Style], hang: int | None = 0) -> Line:
    """Make a line of plain text and of (text, style) pairs."""
    pairs: list[tuple[str, Style]] = [(p, "plain") if isinstance(p, str) else p for p in parts]
    return Line(tuple((printable(text), style) for text, style in pairs), hang)


def verbatim(text: str) -> Line:
    """Make a line that is to be copied as it is: a token, a line of PEM, a command."""
    return line(text, hang=None)


def wrapped(whole: Line, width: int) -> Iterator[Line]:
    """Yield the lines that a line becomes where there are so many columns: broken between words.

    A word that is longer than a line stays whole, so that it can be copied.
    """
    if whole.hang is None:
        yield whole
        return
    text, start, indent = str(whole), 0, 0
    while len(text) - start > width - indent:
        # The label before the value is not torn from it.
        first = whole.hang if start == 0 else start
        end = text.rfind(" ", first + 1, start + width - indent + 1)
        end = text.find(" ", max(first + 1, start + width - indent)) if end == -1 else end
        if end == -1:
            break
        yield _piece(whole, start, end, indent)
        start, indent = end + 1, whole.hang
    yield _piece(whole, start, len(text), indent)


def _piece(whole: Line, start: int, end: int, indent: int) -> Line:
    parts: list[tuple[str, Style]] = [(" " * indent, "plain")]
    at = 0
    for text, style in whole.parts:
        parts.append((text[max(0, start - at) : max(0, end - at)], style))
        at += len(text)
    return Line(tuple(part for part in parts if part[0]), None)


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
    return line("  ", (f"{label:<13} ", "faint"), (value, style), hang=16)


def without_tokens(text: str) -> str:
    """Return text without anything that looks like a token, for messages that others had a hand in."""
    return _JWT.sub("(a token)", text)
