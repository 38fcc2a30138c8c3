"""An agent host without network: an identity that a test moves, a contract, an audit that is kept."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from spiffe_client.agents import AgentHost
from spiffe_client.audit import Event
from spiffe_client.bundle import BundleSet
from spiffe_client.dev import CertificateAuthority
from spiffe_client.errors import StaleError
from spiffe_client.policy import Contract
from spiffe_client.svid import X509Svid
from spiffe_client.workload_api import X509Context
from tests.support.manual_clock import ManualClock
from tests.support.shop import MovingSource

__all__ = ["AGENT", "AUDITOR", "AgentWorld", "Identity", "contract"]

AGENT = "spiffe://prod.example/agent/closer"
AUDITOR = "spiffe://prod.example/agent/auditor"
_CA = CertificateAuthority("prod.example")
_ACTIONS: Mapping[str, Mapping[str, Any]] = {
    "invoices:read": {"resources": ["tenants/{tenant}/invoices/*"], "classification": "confidential"},
    "orders:refund": {"resources": ["tenants/{tenant}/orders/*"], "approval": True},
    "summarize": {},
}


def contract(**parts: Any) -> Contract:
    """The closer's contract, with parts in place of its own."""
    agent = {
        "id": AGENT,
        "purpose": "close the monthly books",
        "owner": "finance@prod.example",
        "environment": "prod",
        "trust_domain": "prod.example",
    }
    whole = {
        "agent": {**agent, **parts.pop("agent", {})},
        "limits": {"task_seconds": 900, "calls_per_task": 200, "calls_per_minute": 1000, "delegation_depth": 2}
        | parts.pop("limits", {}),
        "actions": parts.pop("actions", _ACTIONS),
        "delegates": {AUDITOR: {"actions": ["invoices:read"]}},
        **parts,
    }
    return Contract.parse(json.dumps(whole).encode(), "json")


class Identity(MovingSource):
    """Who the agent is; `become` and `lose` change that, as the Workload API may."""

    def __init__(self, spiffe_id: str = AGENT) -> None:
        super().__init__(self._context_of(spiffe_id))

    @staticmethod
    def _context_of(spiffe_id: str) -> X509Context:
        svid = _CA.issue_x509_svid(spiffe_id)
        return X509Context((svid,), BundleSet([_CA.x509_bundle]), svid)

    @property
    def x509_svid(self) -> X509Svid:
        return self.x509_context.svids[0]

    def become(self, spiffe_id: str) -> None:
        self._context = self._context_of(spiffe_id)
        self._tell()

    def lose(self) -> None:
        self._context = StaleError("the issuer took it back", reason="withdrawn")
        self._tell()

    def _tell(self) -> None:
        for ref in self._after:
            if (notify := ref()) is not None:
                notify()


class AgentWorld:
    """An open host under a clock that stands still; `audit` is what was told."""

    def __init__(self, what: Contract | None = None, **options: Any) -> None:
        self.clock = ManualClock()
        self.identity = Identity()
        self.audit: list[Event] = []
        options.setdefault("environment", "prod")
        options.setdefault("on_event", self.audit.append)
        self.host = AgentHost(what or contract(), self.identity, clock=self.clock, **options)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[AgentWorld]:
        async with self.host:
            yield self

    def told(self, name: str) -> list[Mapping[str, Any]]:
        """The facts of all events of this name."""
        return [event.attributes for event in self.audit if event.name == name]

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.audit]

    @property
    def reasons(self) -> list[object]:
        """Why calls were denied, in their order."""
        return [facts["reason"] for facts in self.told("call.denied")]
