"""Origins: to whom a token may go, and whose a nonce is (RFC 6454 §4)."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from spiffe_client.errors import TokenRequestError

__all__ = ["Origin", "is_loopback", "origin_of"]

_PORTS = {"https": 443, "http": 80}
#: Up to here parsers agree (RFC 3986 §3.2): what follows a bracket and is no port is a port to some.
_AUTHORITY = re.compile(r"(?:[^@\[\]]*@)?(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|[A-Za-z0-9._-]+)(?::[0-9]{0,5})?\Z")


class Origin(NamedTuple):
    """Scheme, host and port of a URL, in one spelling.

    Attributes:
        scheme: `https` or `http`.
        host: Lower case ASCII; an IPv6 address without brackets. A trailing dot stays: to TLS and to
            cookies that is another host.
        port: The default one where the URL names none.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS.get(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def is_loopback(host: str) -> bool:
    """Whether a host is meant to be this machine: `localhost`, 127.0.0.0/8, ::1.

    Where `localhost` is a resolver says: who sends secrets there without TLS looks at the address that
    it got connected to.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin_of(url: str) -> Origin:
    """Return the origin of an absolute URL.

    Args:
        url: With scheme `https` or `http`; its host in ASCII (an internationalised one as `xn--`). What it
            has beside scheme, host and port does not matter.

    Raises:
        TokenRequestError: It has another scheme, no host, or characters that parsers disagree on.
    """
    # Parsers disagree on these, and who disagrees about an origin sends a token to the wrong one.
    if not url.isascii() or not url.isprintable() or "\\" in url or " " in url:
        raise TokenRequestError("a URL with spaces, controls, backslashes or other than ASCII has no origin")
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
        authority = _AUTHORITY.match(parts.netloc)
        if authority is not None and authority["six"] is not None:
            ipaddress.IPv6Address(authority["six"])
    except ValueError:
        raise TokenRequestError("not a URL: its host or port is malformed") from None
    if scheme not in _PORTS or not host or authority is None:
        raise TokenRequestError("not a URL with https:// (or http://) and a host")
    return Origin(scheme, host, _PORTS[scheme] if port is None else port)
