"""Speaking to the Workload API (SPIFFE Workload Endpoint, SPIFFE Workload API)."""

from __future__ import annotations

__all__: list[str] = []
