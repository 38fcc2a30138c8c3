"""TLS where both ends are SPIFFE identities: contexts, and the proven peer of a connection."""

from __future__ import annotations

from spiffe_client._lazy import load_name
from spiffe_client.tls._context import SpiffeTls, client_context, server_context
from spiffe_client.tls._peer import Peer, Why, peer_of, verify_still_trusted
from spiffe_client.tls._settings import Configure
from spiffe_client.tls._stats import TlsStats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spiffe_client.tls._self_test import SelfTestResult, self_test
    from spiffe_client.tls._web import web_client_context

__all__ = [
    "Configure",
    "Peer",
    "SelfTestResult",
    "SpiffeTls",
    "TlsStats",
    "Why",
    "client_context",
    "peer_of",
    "self_test",
    "server_context",
    "verify_still_trusted",
    "web_client_context",
]

_HOMES = {
    "SelfTestResult": "spiffe_client.tls._self_test",
    "self_test": "spiffe_client.tls._self_test",
    "web_client_context": "spiffe_client.tls._web",
}


def __getattr__(name: str) -> object:
    return load_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
