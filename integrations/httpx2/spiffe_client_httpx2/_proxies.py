"""Proxies of the environment, as the clients of this httpx2 find them."""

from __future__ import annotations

try:
    # Nothing public reads it, and the rules for NO_PROXY have changed from version to version.
    from httpx2._utils import get_environment_proxies as environment_proxies
except ImportError:  # pragma: no cover - a later httpx2
    from spiffe_client.http._proxies import environment_proxies

__all__ = ["environment_proxies"]
