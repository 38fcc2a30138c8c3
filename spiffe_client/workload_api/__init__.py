"""Speaking to the Workload API (SPIFFE Workload Endpoint, SPIFFE Workload API)."""

from __future__ import annotations

from spiffe_client._grpc import Limits
from spiffe_client.workload_api._client import WorkloadApiClient
from spiffe_client.workload_api._context import RotatingX509Source, X509Context, X509ContextSource
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
]
