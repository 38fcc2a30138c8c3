"""Identity and trust that stay fresh: entered once, read without waiting, renewed behind the back."""

from __future__ import annotations

from spiffe_client._lazy import load_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spiffe_client.sources._bundles import BundleSource
    from spiffe_client.sources._health import Health, State
    from spiffe_client.sources._jwt import JwtSource
    from spiffe_client.sources._terms import OnRedaction
    from spiffe_client.sources._x509 import X509Source

__all__ = ["BundleSource", "Health", "JwtSource", "OnRedaction", "State", "X509Source"]

_HOMES = {
    "BundleSource": "spiffe_client.sources._bundles",
    "Health": "spiffe_client.sources._health",
    "JwtSource": "spiffe_client.sources._jwt",
    "OnRedaction": "spiffe_client.sources._terms",
    "State": "spiffe_client.sources._health",
    "X509Source": "spiffe_client.sources._x509",
}


def __getattr__(name: str) -> object:
    return load_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
