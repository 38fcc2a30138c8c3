"""The sample contract of the docs, whole and with something else in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spiffe_client.policy import Contract, Question, load_contract

__all__ = ["CLOSER", "MONDAY", "TEXT", "changed", "closer", "question"]

CLOSER = Path(__file__).parents[2] / "docs" / "closer.toml"
TEXT = CLOSER.read_text()
#: A working day of the sample's window, at eleven in Zurich.
MONDAY = datetime(2026, 11, 30, 10, 0, tzinfo=UTC)


def closer() -> Contract:
    return load_contract(CLOSER)


def changed(*pairs: tuple[str, str]) -> Contract:
    """The sample with these texts replaced, each of which has to be there."""
    text = TEXT
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return Contract.parse(text.encode())


def question(**other: Any) -> Question:
    """One that the sample allows, but for what is said otherwise."""
    asked: dict[str, Any] = {
        "agent": closer().agent.id, "task": "t-1", "action": "invoices:read", "resource": "tenants/acme/invoices/7",
        "tenant": "acme", "purpose": "close the March books", "environment": "prod", "params": {}, "arguments": "",
        "classification": "internal", "at": MONDAY,
    }  # fmt: skip
    return Question(**{**asked, **other})
