"""A trail with a story in it: two tasks, a delegation, denials, an approval, credentials."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from spiffe_client.audit import Event
from tests.support.manual_clock import ManualClock

__all__ = ["AUDITOR", "CLOSER", "call", "denied", "scene"]

CLOSER = "spiffe://prod.example/agent/closer"
AUDITOR = "spiffe://prod.example/agent/auditor"


def call(task: str = "t-books", resource: str = "tenants/acme/invoices/7", /, **facts: object) -> Event:
    """A call that was made."""
    about = {"workload": CLOSER, "agent": CLOSER, "task": task, "action": "invoices:read", "resource": resource}
    how = {"decision": "allow", "reason": "allowed", "outcome": "ok", "duration_ms": 12.5}
    return Event("call.finished", f"read {resource}", {**about, **how, **facts})  # type: ignore[arg-type]


def denied(task: str = "t-books", reason: str = "tenant_boundary", /, **facts: object) -> Event:
    """A call that was refused."""
    how = {"decision": "deny", "reason": reason, "outcome": "denied"}
    facts = {**call(task, "tenants/globex/invoices/1").attributes, **how, **facts}
    return Event("call.denied", "not this tenant's", facts, 30)  # type: ignore[arg-type]


def scene(clock: ManualClock) -> Iterator[Event]:
    """Yield the events; time passes between them."""

    def later(seconds: float, name: str, message: str, **facts: object) -> Event:
        clock.skew += timedelta(seconds=seconds)
        return Event(name, message, facts)  # type: ignore[arg-type]

    def expiry(seconds: float) -> str:
        return (clock.now() + timedelta(seconds=seconds)).isoformat()

    books = {"task": "t-books", "agent": CLOSER, "tenant": "acme", "purpose": "close the March books"}
    audit = {"task": "t-audit", "agent": AUDITOR, "tenant": "acme", "purpose": "look it over", "parents": "t-books"}
    yield later(0, "svid.updated", "new SVID", serial="5a17", expires_at=expiry(3600))
    yield later(1, "task.started", "close the March books", **books)
    yield later(1, "token.issued", "token", fingerprint="abcdef012345", expires_at=expiry(300))
    for number in range(5):
        clock.skew += timedelta(seconds=2)
        yield call("t-books", f"tenants/acme/invoices/{number}")
    clock.skew += timedelta(seconds=1)
    yield denied()
    yield later(1, "approval.granted", "a human said yes", task="t-books", action="orders:refund", approval="ap-1")
    clock.skew += timedelta(seconds=1)
    yield call("t-books", "tenants/acme/orders/3", action="orders:refund", approval="ap-1", outcome="error")
    yield later(1, "delegation.granted", "to the auditor", task="t-books", to=AUDITOR, child="t-audit", action="invoices:read")
    yield later(1, "task.started", "look it over", **audit)
    yield later(1, "token.issued", "token", fingerprint="0123456789ab", expires_at=expiry(60))
    clock.skew += timedelta(seconds=4)
    yield call("t-audit", agent=AUDITOR, parents="t-books")
    clock.skew += timedelta(seconds=1)
    yield denied("t-audit", "missing_scope", agent=AUDITOR, action="orders:refund")
    yield denied("t-audit", "missing_scope", agent=AUDITOR, action="orders:refund")
    yield later(2, "task.ended", "done", **audit, outcome="ok")
    yield later(3, "anomaly.cross_tenant", "another tenant's", task="t-books", action="invoices:read")
    yield later(5, "task.ended", "stopped", **books, reason="stopped")
    yield later(0, "task.started", "reconcile the bank", task="t-bank", agent=CLOSER, purpose="reconcile the bank")
    yield later(9, "svid.updated", "new SVID", serial="5a18", expires_at=expiry(3600))
