"""JSON as security documents need it: one meaning for each text, or none."""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Literal, NoReturn

__all__ = ["decode_base64url", "parse_json_object"]

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*\Z")


def parse_json_object(
    text: bytes, *, repeated: Literal["refuse", "drop"] = "refuse"
) -> dict[str, object] | None:
    """Parse a UTF-8 JSON object, strictly; None if it is anything else.

    NaN, infinities and numbers that overflow are not JSON. A member name given twice means
    different things to different parsers (RFC 8259 §4), so such an object means nothing here.

    It returns None and raises nothing, because what a parser's exception holds of the text may
    be a secret.

    Args:
        text: The document; its size is the caller's to limit.
        repeated: What an object with a repeated member name is: the end of the whole document,
            or, with `drop`, a null in its place.
    """
    try:
        value = json.loads(
            text.decode(),
            object_pairs_hook=_unambiguous if repeated == "refuse" else _unambiguous_or_none,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _unambiguous_or_none(pairs: list[tuple[str, object]]) -> dict[str, object] | None:
    members = dict(pairs)
    return members if len(members) == len(pairs) else None


def _unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = _unambiguous_or_none(pairs)
    if members is None:
        raise ValueError("a member name is repeated")
    return members


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number overflows")
    return number


def decode_base64url(text: object) -> bytes | None:
    """Decode base64url without padding, in its one canonical spelling (RFC 7515 §2).

    Returns:
        The bytes, or None if `text` is not such a string: padding, white space, characters of
        another alphabet, or spare bits that are not zero.
    """
    if not isinstance(text, str) or not _BASE64URL.match(text) or len(text) % 4 == 1:
        return None
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # Spare bits: several spellings of one signature would be several tokens with one meaning.
    return data if base64.urlsafe_b64encode(data).rstrip(b"=").decode() == text else None
