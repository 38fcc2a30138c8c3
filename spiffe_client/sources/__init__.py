"""Identity and trust that stay fresh: entered once, read without waiting, renewed behind the back.

Each name is loaded at its first use: on the way to the first X509-SVID nothing of JWT is needed.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what type checkers read as typing.TYPE_CHECKING, without loading typing
if TYPE_CHECKING:
    from spiffe_client.sources._bundles import BundleSource
    from spiffe_client.sources._health import Health, State
    from spiffe_client.sources._jwt import JwtSource
    from spiffe_client.sources._terms import OnRedaction
    from spiffe_client.sources._x509 import X509Source

__all__ = ["BundleSource", "Health", "JwtSource", "OnRedaction", "State", "X509Source"]

_HOME = {
    "BundleSource": "_bundles",
    "Health": "_health",
    "JwtSource": "_jwt",
    "OnRedaction": "_terms",
    "State": "_health",
    "X509Source": "_x509",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value  # the next use is a plain attribute load
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
