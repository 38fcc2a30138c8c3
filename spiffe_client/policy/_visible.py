"""Text that a model may have chosen, as it is safe and honest to show it to a person."""

from __future__ import annotations

from typing import Final

__all__ = ["visible"]

_MARK: Final = "…"


def visible(text: str, *, longest: int = 200, ascii_only: bool = False) -> str:
    r"""Return text on one line in which nothing hides: controls, escapes and bidi marks as `\x1b`.

    Args:
        text: Anything.
        longest: Characters to show at most; what is cut is said.
        ascii_only: Also letters of other alphabets are escaped, which may look like ones of ours: for
            names that are compared, not for words.
    """
    shown = "".join(
        c if c.isprintable() and c != "\\" and (c.isascii() or not ascii_only) else _escaped(c)
        for c in text[:longest]
    )
    cut = len(text) - longest
    return f"{shown}{_MARK} ({cut} more)" if cut > 0 else shown


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
