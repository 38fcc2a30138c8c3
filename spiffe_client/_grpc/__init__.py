"""gRPC over HTTP/2 on any anyio byte stream: the client, and the server for development.

One connection carries one call on the client side, so nothing runs in the background, and giving
up is closing. Protocol and I/O are apart: `_frames`, `_gate`, `_status`, `_exchange` and `_call` see
bytes, `_wire`, `_outbox` and `_session` move them.
"""

from __future__ import annotations

from spiffe_client._lazy import load_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spiffe_client._grpc._call import Call, Handler
    from spiffe_client._grpc._client import Connector, server_stream, unary
    from spiffe_client._grpc._limits import Limits
    from spiffe_client._grpc._server import Server
    from spiffe_client._grpc._status import Status, StatusError

__all__ = [
    "Call",
    "Connector",
    "Handler",
    "Limits",
    "Server",
    "Status",
    "StatusError",
    "server_stream",
    "unary",
]

_HOMES = {
    "Call": "spiffe_client._grpc._call",
    "Connector": "spiffe_client._grpc._client",
    "Handler": "spiffe_client._grpc._call",
    "Limits": "spiffe_client._grpc._limits",
    "Server": "spiffe_client._grpc._server",
    "Status": "spiffe_client._grpc._status",
    "StatusError": "spiffe_client._grpc._status",
    "server_stream": "spiffe_client._grpc._client",
    "unary": "spiffe_client._grpc._client",
}


def __getattr__(name: str) -> object:
    return load_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
