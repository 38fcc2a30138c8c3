"""A question as an agent's call asks it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from spiffe_client.ids import SpiffeId
from spiffe_client.policy import Question

__all__ = ["CLOSER", "NOON", "ask"]

CLOSER = SpiffeId.parse("spiffe://prod.example/agent/closer")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def ask(**facts: Any) -> Question:
    """May the closer read acme's invoice 7? With other facts where they are given."""
    whole: dict[str, Any] = {
        "agent": CLOSER,
        "task": "task-1",
        "action": "invoices:read",
        "resource": "tenants/acme/invoices/7",
        "tenant": "acme",
        "purpose": "close the March books",
        "environment": "prod",
        "params": {"month": "2026-03"},
        "arguments": "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        "classification": "internal",
        "at": NOON,
        **facts,
    }
    return Question(**whole)
