"""Where requests that carry secrets may go: https, or this very machine."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from spiffe_client.errors import SpiffeError, TokenRequestError
from spiffe_client.tokens._origin import is_loopback, origin_of

__all__ = ["check_url"]

#: What a URL is written with (RFC 3986 §2), without the `#` of a fragment.
_CHARACTERS = re.compile(r"[\x21\x24-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]+\Z")
_LONGEST = 2048


def check_url(url: object, what: str, *, error: type[SpiffeError]) -> str:
    """Return a URL that secrets may be sent to.

    Args:
        url: Absolute, without user information and fragment; https, or http to a loopback address.
        what: What to call it in the error.
        error: What to raise.

    Raises:
        SpiffeError: `error`: it is something else.
    """
    if not isinstance(url, str) or len(url) > _LONGEST or not _CHARACTERS.match(url):
        raise error(f"{what} {url!r:.200} is no absolute URL without fragment")
    try:
        origin = origin_of(url)
    except TokenRequestError as reason:
        raise error(f"{what} {url!r:.200} is refused: {reason}") from None
    if "@" in urlsplit(url).netloc or not origin.port:
        raise error(f"{what} is refused: it holds user information, or port 0")
    if origin.scheme != "https" and not is_loopback(origin.host):
        raise error(f"{what} {url!r:.200} is refused: only https protects what is sent (http: loopback only)")
    return url
