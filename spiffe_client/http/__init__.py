"""HTTP clients whose connections prove who is at both ends, and are never older than their trust.

`AsyncClient` and `Client` are httpx's own clients with one more argument: who the peer must be.
The transports below them are for an `httpx.AsyncClient` or `httpx.Client` of your own making.
"""

from __future__ import annotations

from spiffe_client.http._async import AsyncSpiffeTransport
from spiffe_client.http._async_client import AsyncClient
from spiffe_client.http._blocking import SpiffeTransport
from spiffe_client.http._blocking_client import Client

__all__ = ["AsyncClient", "AsyncSpiffeTransport", "Client", "SpiffeTransport"]
