"""Speaking to the Workload API (SPIFFE Workload Endpoint, SPIFFE Workload API)."""

from __future__ import annotations

from spiffe_client.workload_api._context import RotatingX509Source, X509Context, X509ContextSource
from spiffe_client.workload_api._endpoint import ENDPOINT_VARIABLE, Endpoint

__all__ = [
    "ENDPOINT_VARIABLE",
    "Endpoint",
    "RotatingX509Source",
    "X509Context",
    "X509ContextSource",
]
