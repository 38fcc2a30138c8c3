"""The Model Context Protocol with tasks: each call of a tool is decided, has its own token, and is checked again.

| for | what |
|---|---|
| a client | `TaskTransport`, which decides and has the token; `TaskAuth`, for who decides elsewhere |
| a server | `BrokerTokenVerifier`, `CheckedTools`, `CheckedMethods` and `Needs`; `ProofOfPossession` around its app |
| several processes of it | `SqliteReplayCache` on one machine; elsewhere your own `ReplayCache` |
"""

from __future__ import annotations

from spiffe_client_mcp._auth import TaskAuth
from spiffe_client_mcp._messages import SESSION_METHODS
from spiffe_client_mcp._methods import CheckedMethods
from spiffe_client_mcp._once import ReplayCache
from spiffe_client_mcp._possession import ProofOfPossession
from spiffe_client_mcp._sqlite import SqliteReplayCache
from spiffe_client_mcp._tools import BoundCall, CheckedTools, Needs, bound_call
from spiffe_client_mcp._transport import TaskTransport
from spiffe_client_mcp._verifier import BrokerTokenVerifier

__all__ = [
    "SESSION_METHODS",
    "BoundCall",
    "BrokerTokenVerifier",
    "CheckedMethods",
    "CheckedTools",
    "Needs",
    "ProofOfPossession",
    "ReplayCache",
    "SqliteReplayCache",
    "TaskAuth",
    "TaskTransport",
    "bound_call",
]
