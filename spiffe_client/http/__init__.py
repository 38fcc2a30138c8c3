"""HTTP clients whose connections prove who is at both ends, and are never older than their trust.

`AsyncClient` and `Client` are httpx's own clients with one more argument: who the peer must be.
The transports below them are for an `httpx.AsyncClient` or `httpx.Client` of your own making.
`TokenAuth` and `JwtSvidAuth` authenticate requests of any of these with tokens.
"""

from __future__ import annotations

from spiffe_client._lazy import load_name
from spiffe_client.http._async import AsyncSpiffeTransport
from spiffe_client.http._async_client import AsyncClient
from spiffe_client.http._blocking import SpiffeTransport
from spiffe_client.http._blocking_client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spiffe_client.http._jwt_svid_auth import BlockingJwtSvidSource, JwtSvidAuth, JwtSvidSource
    from spiffe_client.http._token_auth import TokenAuth

__all__ = [
    "AsyncClient",
    "AsyncSpiffeTransport",
    "BlockingJwtSvidSource",
    "Client",
    "JwtSvidAuth",
    "JwtSvidSource",
    "SpiffeTransport",
    "TokenAuth",
]

# Connections alone need nothing of tokens.
_HOMES = {
    "BlockingJwtSvidSource": "spiffe_client.http._jwt_svid_auth",
    "JwtSvidAuth": "spiffe_client.http._jwt_svid_auth",
    "JwtSvidSource": "spiffe_client.http._jwt_svid_auth",
    "TokenAuth": "spiffe_client.http._token_auth",
}


def __getattr__(name: str) -> object:
    return load_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
