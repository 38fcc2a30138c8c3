"""`httpx.AsyncClient` and `httpx.Client`, speaking SPIFFE TLS."""

from __future__ import annotations
