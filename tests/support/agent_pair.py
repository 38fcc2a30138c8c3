"""A closer and an auditor, and a thief: workloads with keys of their own, at a real token broker and service."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from spiffe_client import Workload
from spiffe_client.audit import Event
from spiffe_client.dev import DevTokenBroker, DevTrustDomain, ProtectedService
from spiffe_client.dev.token_broker import Client
from spiffe_client.policy import Contract

__all__ = ["AUDITOR", "CLOSER", "ORDER", "READ", "REFUND", "THIEF", "Pair", "pair_of_agents", "pair_contract"]

CLOSER = "spiffe://prod.example/agent/closer"
AUDITOR = "spiffe://prod.example/agent/auditor"
THIEF = "spiffe://prod.example/agent/thief"
READ, REFUND, ORDER = "orders:read", "orders:refund", "tenants/acme/orders/7"

_DETAILS = ["agent_call", "agent_ticket"]
_ALL = "orders:read orders:refund"
RULES = [
    Client.of(CLOSER, audiences=["*"], scopes=_ALL, details=_DETAILS, may_delegate_to=[AUDITOR]),
    Client.of(AUDITOR, audiences=["*"], scopes="", details=_DETAILS),
    Client.of(THIEF, audiences=["*"], scopes=_ALL, details=_DETAILS),
]


@dataclass
class Pair:
    """What there is.

    Attributes:
        closer: Hands work on.
        auditor: Takes it.
        thief: May ask for tokens like the others, and has what it has from them.
        audit: What all three were told.
        service_audit: What the service has told.
    """

    closer: Workload
    auditor: Workload
    thief: Workload
    broker: DevTokenBroker
    service: ProtectedService
    audit: list[Event] = field(default_factory=list)
    service_audit: list[Event] = field(default_factory=list)

    def task(self, **terms: Any) -> Any:
        terms = {"tenant": "acme", "ttl": 300, **terms}
        return self.closer.task("close the books", [READ, REFUND], **terms)

    def told(self, name: str) -> list[Mapping[str, Any]]:
        return [event.attributes for event in self.audit if event.name == name]

    @property
    def refused(self) -> list[tuple[str, object]]:
        """What the service has told of tokens that it has not taken."""
        return [(event.name, event.attributes["reason"]) for event in self.service_audit]

    @property
    def reasons(self) -> list[object]:
        return [facts["reason"] for facts in self.told("call.denied")]


def pair_contract(service: ProtectedService, spiffe_id: str, **changes: Any) -> Contract:
    to = {"audience": [service.url], "resources": ["tenants/{tenant}/orders/*"]}
    whole = {
        "agent": {"id": spiffe_id, "purpose": "x", "environment": "prod", "trust_domain": "prod.example"},
        "limits": {"delegation_depth": 2, "task_seconds": 600, "parallel_tasks": 4},
        "actions": {
            READ: {**to, "scopes": [READ]},
            REFUND: {**to, "scopes": [REFUND], "sensitive": True},
        },
        "delegates": {AUDITOR: {"actions": [READ, REFUND]}} if spiffe_id == CLOSER else {},
        **changes,
    }
    return Contract.parse(json.dumps(whole).encode(), "json")


@asynccontextmanager
async def pair_of_agents(**changes: Any) -> AsyncIterator[Pair]:
    """Open all of it; changes are of the auditor's contract."""
    audit: list[Event] = []
    at_service: list[Event] = []
    async with DevTrustDomain("prod.example", jwt_ttl=3600) as dev:
        for spiffe_id in (CLOSER, AUDITOR, THIEF):
            dev.register(spiffe_id, any=True, ttl=3600, hint=spiffe_id.rpartition("/")[2])
        async with (
            DevTokenBroker(dev, rules=RULES) as broker,
            ProtectedService(broker, on_event=at_service.append) as service,
        ):

            def workload(spiffe_id: str, **more: Any) -> Workload:
                return Workload(
                    dev.endpoint,
                    token_broker=broker.issuer,
                    hint=spiffe_id.rpartition("/")[2],
                    contract=pair_contract(service, spiffe_id, **more),
                    environment="prod",
                    on_event=audit.append,
                )

            async with (
                workload(CLOSER) as closer,
                workload(AUDITOR, **changes) as auditor,
                workload(THIEF) as thief,
            ):
                yield Pair(closer, auditor, thief, broker, service, audit, at_service)
