"""Where questions may be sent: https, or this very machine."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from spiffe_client.errors import PolicyError

__all__ = ["check_address", "is_here", "origin_of"]

#: What a URL is written with (RFC 3986 §2), without query, fragment and user information.
_URL: Final = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[\x21\x24-\x3b\x3d\x40-\x5b\x5d\x5f\x61-\x7a\x7e]*)?\Z")  # fmt: skip
_LONGEST: Final = 2048


def check_address(url: object, what: str) -> str:
    """Return a URL that may be asked for decisions.

    Args:
        url: Absolute, without user information, query and fragment; https, or http to a loopback
            address.
        what: What to call it in the error.

    Raises:
        PolicyError: It is something else.
    """
    found = _URL.match(url) if isinstance(url, str) and len(url) <= _LONGEST else None
    if not isinstance(url, str) or found is None:
        raise PolicyError(f"{what} {url!r:.200} is not a URL with https:// and a host alone, and a path")
    if found[3] is not None and not 0 < int(found[3][1:]) < 1 << 16:
        raise PolicyError(f"{what} {url!r:.200} has a port that there is not")
    if found[1] == "http" and not _is_loopback(found[2].strip("[]")):
        raise PolicyError(
            f"{what} {url!r:.200} is refused: who can change the answers on their way decides everything, "
            f"so it has to be https (http: loopback only)"
        )
    return url


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL that `check_address` has seen, in one spelling."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or {'https': 443, 'http': 80}[parts.scheme]}"


def is_here(address: object) -> bool:
    """Whether a connected socket's remote address is this machine's: names and resolvers may lie.

    Args:
        address: Host and port, or what a unix socket has in their place.
    """
    if not isinstance(address, tuple):
        return True
    return bool(address) and _is_loopback(str(address[0]))


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
