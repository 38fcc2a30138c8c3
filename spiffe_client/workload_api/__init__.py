"""Speaking to the Workload API (SPIFFE Workload Endpoint, SPIFFE Workload API)."""

from __future__ import annotations

from spiffe_client._lazy import load_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spiffe_client._grpc import Limits
    from spiffe_client.workload_api._client import WorkloadApiClient
    from spiffe_client.workload_api._context import (
        RotatingX509Source,
        X509Context,
        X509ContextSource,
        any_thread,
        is_any_thread,
    )
    from spiffe_client.workload_api._endpoint import ENDPOINT_VARIABLE, Endpoint
    from spiffe_client.workload_api._validated import ValidatedJwtSvid

__all__ = [
    "ENDPOINT_VARIABLE",
    "Endpoint",
    "Limits",
    "RotatingX509Source",
    "ValidatedJwtSvid",
    "WorkloadApiClient",
    "X509Context",
    "X509ContextSource",
    "any_thread",
    "is_any_thread",
]

_HOMES = {
    "ENDPOINT_VARIABLE": "spiffe_client.workload_api._endpoint",
    "Endpoint": "spiffe_client.workload_api._endpoint",
    "Limits": "spiffe_client._grpc",
    "RotatingX509Source": "spiffe_client.workload_api._context",
    "ValidatedJwtSvid": "spiffe_client.workload_api._validated",
    "WorkloadApiClient": "spiffe_client.workload_api._client",
    "X509Context": "spiffe_client.workload_api._context",
    "X509ContextSource": "spiffe_client.workload_api._context",
    "any_thread": "spiffe_client.workload_api._context",
    "is_any_thread": "spiffe_client.workload_api._context",
}


def __getattr__(name: str) -> object:
    return load_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
