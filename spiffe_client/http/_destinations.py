"""To whom a credential may go: a few origins, and nobody else (RFC 6750 §5.2)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from spiffe_client.errors import TokenOriginError, TokenRequestError
from spiffe_client.tokens._origin import Origin, is_loopback, origin_of
from spiffe_client.tokens._unprinted import UnprintedBytes

if TYPE_CHECKING:
    import httpx

__all__ = ["Destinations", "origin_of_url"]

_PORTS = {"https": 443, "http": 80}
_CREDENTIALS = frozenset({b"authorization", b"dpop"})
#: What most requests have, as httpx spells it: these need no second look.
_USUAL = frozenset(
    {
        b"Host",
        b"Accept",
        b"Accept-Encoding",
        b"Connection",
        b"User-Agent",
        b"Content-Length",
        b"Content-Type",
    }
)


def origin_of_url(url: httpx.URL) -> Origin:
    """Return the origin of a URL as httpx connects to it; its host is ASCII already."""
    return _origin(url.scheme, url.raw_host, url.port)


@lru_cache(maxsize=1024)
def _origin(scheme: str, host: bytes, port: int | None) -> Origin:
    return Origin(scheme, host.decode("ascii").lower(), port or _PORTS.get(scheme, 0))


class Destinations:
    """The origins that a credential is meant for.

    Args:
        what: What it is, for messages, such as `a token for https://orders.prod.example`.
        named: Whom it is for; those that are URLs of web servers say an origin.
        origins: Origins in place of those; paths in them mean nothing.

    Raises:
        TokenRequestError: There is no origin at all, or one of `origins` is none, or has no TLS and is not
            this machine.
    """

    __slots__ = ("_by_url", "allowed", "what")

    def __init__(self, what: str, named: Iterable[str], origins: Collection[str]) -> None:
        given = [origins] if isinstance(origins, str) else list(origins)
        self.what = what
        self.allowed = frozenset(map(_protected, given or filter(_is_web, named)))
        if not self.allowed:
            raise TokenRequestError(
                f"{what} names no origin it may be sent to: give origins=, such as "
                f'["https://orders.prod.example"]'
            )
        # By what httpx says of a URL: it leaves out the usual port.
        self._by_url: dict[tuple[str, bytes, int | None], Origin] = {
            (to.scheme, to.host.encode("ascii"), None if to.port == _PORTS[to.scheme] else to.port): to
            for to in self.allowed
        }

    def origin(self, request: httpx.Request) -> Origin:
        """Return the origin of a request that goes to one of these.

        Raises:
            TokenOriginError: It goes somewhere else.
        """
        url = request.url
        known = self._by_url.get((url.scheme, url.raw_host, url.port))
        return self._named(origin_of_url(url)) if known is None else known

    def _named(self, origin: Origin) -> Origin:
        """Return an origin that is one of these, though httpx says it otherwise: it keeps the case of IPv6."""
        if origin not in self.allowed:
            known = ", ".join(sorted(map(str, self.allowed)))
            raise TokenOriginError(
                f"{origin} did not get {self.what}, which goes to {known}; {self._advice(origin)}"
            )
        return origin

    def _advice(self, origin: Origin) -> str:
        for known in self.allowed:
            if known.host == origin.host and (known.scheme, origin.scheme) == ("https", "http"):
                return f"say {known}"
        if origin.scheme != "https" and not is_loopback(origin.host):
            return "it has no TLS, so it gets none"
        return f'ask for one with audience="{origin}", or name it in origins='

    def left(self, response: httpx.Response) -> Iterator[Origin]:
        """Yield other origins that a request came to by redirects: there it had no credential any more."""
        for one in (*response.history, response):
            origin = origin_of_url(one.request.url)
            if origin not in self.allowed:
                yield origin

    def check(self, request: httpx.Request) -> Origin:
        """Return the origin of a request that may have the credential.

        Raises:
            TokenOriginError: It goes somewhere else.
            TokenRequestError: It has a credential already, which is not ours.
        """
        origin = self.origin(request)
        for name, value in request.headers.raw:
            if name not in _USUAL and name.lower() in _CREDENTIALS and type(value) is not UnprintedBytes:
                raise TokenRequestError(
                    f"the request to {origin} has its own {name.decode('ascii', 'replace')} header; send it "
                    f"with auth=None, or without the header"
                )
        return origin


def _is_web(name: str) -> bool:
    return name[:8].lower().startswith(("https://", "http://"))


def _protected(url: str) -> Origin:
    origin = origin_of(url)
    if origin.scheme != "https" and not is_loopback(origin.host):
        raise TokenRequestError(f"{origin} has no TLS: credentials go over https, or to this very machine")
    return origin
