"""The clock that a test moves; it is public."""

from __future__ import annotations

from spiffe_client.testing import ManualClock, settle

__all__ = ["ManualClock", "settle"]
