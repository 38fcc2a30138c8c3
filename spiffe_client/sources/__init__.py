"""Identity and trust that stay fresh: entered once, read without waiting, renewed behind the back."""

from spiffe_client.sources._bundles import BundleSource
from spiffe_client.sources._health import Health, State
from spiffe_client.sources._jwt import JwtSource
from spiffe_client.sources._terms import OnRedaction
from spiffe_client.sources._x509 import X509Source

__all__ = ["BundleSource", "Health", "JwtSource", "OnRedaction", "State", "X509Source"]
