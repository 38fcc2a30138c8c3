"""What a server says in words, as it may be shown: short, printable, without what looks like a token."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote_plus

__all__ = ["scrub"]

_MASK = "…"
_LONGEST = 200
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\xa1-\uffff]+")
#: Compact JWTs, and parts of them: base64url of `{"` begins like this.
_JWT = re.compile(r"eyJ[\w.+/=~-]*")
#: Runs of letters and digits such as random tokens are; words have no digits.
_RUN = re.compile(r"(?=[A-Za-z_~+=-]*\d)(?=[\d_~+=-]*[A-Za-z])[\w~+=-]{20,}", re.ASCII)


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """Return text of a server as it may be shown.

    Args:
        text: Anything.
        secrets: What was sent to the server: it may come back in it.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        for spelling in _spellings(secret):
            text = text.replace(spelling, _MASK)
    text = _UNPRINTABLE.sub(" ", text)
    text = _RUN.sub(_MASK, _JWT.sub(_MASK, text)).strip()
    # Shortened last: half a token would not look like one.
    return text if len(text) <= _LONGEST else text[:_LONGEST] + _MASK


def _spellings(secret: str) -> list[str]:
    """Return how a secret may come back, the longest first: as it is, or as forms and URLs encode it."""
    escape = {
        quote(secret, safe=""),
        quote_plus(secret),
        quote(secret),
        unquote_plus(secret),
        html.escape(secret),
        json.dumps(secret)[1:-1],
    }
    lower = {_ESCAPE.sub(lambda found: found[0].lower(), spelling) for spelling in escape}
    return sorted({secret, *escape, *lower} - {""}, key=len, reverse=True)
