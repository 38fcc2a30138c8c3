"""The way to the token broker: direct, or through the proxy that the environment names."""

from __future__ import annotations

import ssl
from urllib.request import getproxies, proxy_bypass

import httpx

from spiffe_client.errors import TlsConfigurationError, TokenBrokerClosedError
from spiffe_client.tokens._origin import is_loopback

__all__ = ["Route"]


class Route(httpx.AsyncBaseTransport):
    """Sends each request on its way, under one TLS context.

    What goes to this machine never goes through a proxy: it may be in the clear.

    Args:
        context: For TLS with the token broker, also within a proxy's tunnel.

    Attributes:
        is_closed: Whether nothing can be sent any more.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.is_closed = False
        self._context = context
        self._ways: dict[str | None, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; see `httpx.AsyncBaseTransport`.

        Raises:
            TokenBrokerClosedError: It is closed.
            TlsConfigurationError: The proxy that the environment names cannot be used.
        """
        if self.is_closed:
            raise TokenBrokerClosedError("the connections to the token broker were closed meanwhile")
        return await self._way(_proxy_for(request.url)).handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections, also those in use."""
        self.is_closed = True
        ways, self._ways = list(self._ways.values()), {}
        for way in ways:
            await way.aclose()

    def _way(self, proxy: str | None) -> httpx.AsyncHTTPTransport:
        way = self._ways.get(proxy)
        if way is None:
            try:
                way = httpx.AsyncHTTPTransport(verify=self._context, trust_env=False, proxy=proxy)
            except (ImportError, ValueError, httpx.InvalidURL) as error:
                # Without the text: a proxy's URL may hold its password.
                reason = type(error).__name__
            else:
                self._ways[proxy] = way
                return way
            raise TlsConfigurationError(f"the proxy that the environment names cannot be used: {reason}")
        return way


def _proxy_for(url: httpx.URL) -> str | None:
    """Return the URL of the proxy to use, as httpx finds it, None for none."""
    if is_loopback(url.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(f"{url.host}:{url.port or 443}"):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
