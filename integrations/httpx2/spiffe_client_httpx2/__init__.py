"""`spiffe_client.http` for httpx2: the same clients, transports and auths, and the same code behind them.

`AsyncClient` and `Client` are httpx2's own clients with one more argument: who the peer must be.
The transports below them are for an `httpx2.AsyncClient` or `httpx2.Client` of your own making.
`TokenAuth` and `JwtSvidAuth` authenticate requests of any of these with tokens, and of httpx's
clients, too; `adapt_auth` does so with what `Workload.auth` makes.

Errors are httpx2's, with ours among their causes: `spiffe_client.errors.find` gets them.
"""

from __future__ import annotations

from spiffe_client_httpx2._async import AsyncClient, AsyncSpiffeTransport
from spiffe_client_httpx2._auth import JwtSvidAuth, TokenAuth, adapt_auth
from spiffe_client_httpx2._blocking import Client, SpiffeTransport

__all__ = [
    "AsyncClient",
    "AsyncSpiffeTransport",
    "Client",
    "JwtSvidAuth",
    "SpiffeTransport",
    "TokenAuth",
    "adapt_auth",
]
