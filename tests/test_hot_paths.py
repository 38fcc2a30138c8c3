"""What is done for each request and call, counted in instructions of Python's: no more than it was.

Times are measured by `nox -s bench`; here is what does not depend on the machine. A gate that a change for
the better makes too wide is to be narrowed with it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from tests.support.web_servers import serve_uvicorn
from tests.support.work import counted

from spiffe_client import Workload
from spiffe_client.agents import guard
from spiffe_client.audit import MemorySink
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from spiffe_client.policy import Contract

pytestmark = pytest.mark.anyio

AGENT = "spiffe://prod.example/agent/closer"
ORDERS = "https://orders.prod.example"
OURS = "/spiffe_client/"
#: Instructions between which a path may be: more is slower, less means that the gate is to be narrowed.
GUARDED, TOKEN = (900, 1520), (300, 950)
#: What a request over mutual TLS may cost of ours, of what it costs in httpx and what that is made of.
SHARE = 0.05


def contract() -> Contract:
    whole = {
        "agent": {"id": AGENT, "purpose": "tests", "environment": "prod", "trust_domain": "prod.example"},
        "actions": {
            "orders:read": {
                "audience": [ORDERS],
                "scopes": ["orders:read"],
                "resources": ["tenants/{tenant}/orders/*"],
            }
        },
    }
    return Contract.parse(json.dumps(whole).encode(), "json")


@asynccontextmanager
async def agent() -> AsyncIterator[Workload]:
    rules = [Client.of(AGENT, audiences=["*"], scopes="orders:read")]
    async with DevTrustDomain("prod.example") as dev:
        dev.register(AGENT, any=True, ttl=3600)
        async with DevTokenBroker(dev, rules=rules) as broker:
            async with Workload(
                dev.endpoint,
                token_broker=broker.issuer,
                contract=contract(),
                environment="prod",
                on_event=MemorySink(),
            ) as me:
                yield me


@guard(requires="orders:read", resource="tenants/{tenant}/orders/{order}")
async def read(order: str) -> str:
    return order


async def test_a_guarded_call() -> None:
    """Its token cached, decided by the contract, recorded in memory."""
    async with agent() as me, me.task("tests", ["orders:read"], tenant="acme"):
        for _ in range(2):
            await read(order="7")
        with counted(OURS) as work:
            await read(order="7")
    assert GUARDED[0] < work.count < GUARDED[1]


async def test_a_cached_token() -> None:
    """From the cache to the headers of a request, with a proof of possession made for it (RFC 9449)."""
    async with agent() as me:
        auth = me.auth("orders:read", audience=ORDERS)
        requests = [httpx.Request("GET", f"{ORDERS}/v1/orders") for _ in range(3)]

        async def sent(request: httpx.Request) -> None:
            flow = auth.async_auth_flow(request)
            await anext(flow)
            await flow.aclose()

        for request in requests[:2]:
            await sent(request)
        with counted(OURS) as work:
            await sent(requests[2])
    assert requests[2].headers["Authorization"]
    assert TOKEN[0] < work.count < TOKEN[1]


async def test_a_request_over_mutual_tls() -> None:
    """On a connection that is there, beside what httpx, httpcore, h11 and anyio do for it."""

    async def hello(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async with DevTrustDomain("prod.example") as dev:
        dev.register(AGENT, any=True, ttl=3600)
        async with Workload(dev.endpoint) as me:
            with serve_uvicorn(hello, me.server_tls(peer=AGENT)) as port:
                async with me.http(peer=AGENT) as http:
                    for _ in range(2):
                        await http.get(f"https://localhost:{port}/")
                    with counted(OURS) as ours:
                        await http.get(f"https://localhost:{port}/")
                    with counted("/httpx/", "/httpcore/", "/h11/", "/anyio/") as theirs:
                        assert (await http.get(f"https://localhost:{port}/")).text == "ok"
    assert 0 < ours.count < SHARE * theirs.count, f"{ours.count} beside {theirs.count}"
