"""Which proxy for which URLs: what httpx does, as mounts of our transports.

httpx builds its own transports for proxies. They would speak to the peer with another TLS context,
so the table is made here, from the same inputs and by the same rules (a test compares).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any
from urllib.request import getproxies

import httpx

from spiffe_client.http._library import Library
from spiffe_client.http._options import Options

__all__ = ["environment_proxies", "take_proxies"]


def environment_proxies() -> dict[str, str | None]:
    """Return URL patterns with the URLs of their proxies as the environment has them, None for no proxy."""
    settings = getproxies()
    patterns: dict[str, str | None] = {}
    for scheme in ("http", "https", "all"):
        if url := settings.get(scheme):
            patterns[f"{scheme}://"] = url if "://" in url else f"http://{url}"
    direct = [host.strip() for host in settings.get("no", "").split(",")]
    if "*" in direct:
        return {}
    patterns.update({_direct_pattern(host): None for host in direct if host})
    return patterns


def take_proxies(
    options: Options,
    library: Library = httpx,
    environment: Callable[[], Mapping[str, str | None]] = environment_proxies,
) -> dict[str, httpx.Proxy | None]:
    """Move `proxy` out of a client's arguments, or look into the environment as `trust_env` says.

    Args:
        options: The client's.
        library: Whose proxies are wanted.
        environment: Reads the environment as that library does.

    Returns:
        URL patterns in httpx's form, each with its proxy or None for a direct connection.
    """
    proxy: Any = options.pop("proxy", None)
    if proxy is not None:
        return {"all://": proxy if isinstance(proxy, library.Proxy) else library.Proxy(proxy)}
    found = environment() if options.get("trust_env", True) else {}
    return {pattern: None if url is None else library.Proxy(url) for pattern, url in found.items()}


def _direct_pattern(host: str) -> str:
    if "://" in host:
        return host
    version = _ip_version(host.split("/", maxsplit=1)[0])
    if version == 4 or host.lower() == "localhost":
        return f"all://{host}"
    # NO_PROXY=example.com is for its subdomains too, .example.com for them alone.
    return f"all://[{host}]" if version == 6 else f"all://*{host}"


def _ip_version(host: str) -> int | None:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None
