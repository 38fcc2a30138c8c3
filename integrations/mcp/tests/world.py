"""An agent, its token broker, and a server of tools on loopback that takes the broker's tokens."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import uvicorn
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.settings import AuthSettings
from mcp.server.caching import CacheHint
from mcp.server.mcpserver import Context, MCPServer

from spiffe_client import Workload
from spiffe_client.agents import AgentOptions, Requires, ToolGate
from spiffe_client.audit import Event
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client as Rights
from spiffe_client.policy import Contract
from spiffe_client.tokens import TokenBrokerOptions
from spiffe_client_httpx2 import adapt_auth
from spiffe_client_mcp import (
    BrokerTokenVerifier,
    CheckedMethods,
    CheckedTools,
    Needs,
    ProofOfPossession,
    TaskTransport,
    bound_call,
)

AGENT, OTHER = "spiffe://prod.example/agent/closer", "spiffe://prod.example/agent/other"
READ, REFUND, LIST = "orders:read", "orders:refund", "tools:list"
ORDER = "tenants/{tenant}/orders/{order}"
GATE = ToolGate(
    {
        "read_order": Requires(READ, ORDER),
        "refund": Requires(REFUND, ORDER),
        "spill": Requires(READ, ORDER),
        "wait": Requires(READ, ORDER),
        "report": Requires(READ, ORDER),
        "unchecked": Requires(READ, ORDER),
        "away": "away",
        "resources/read": Requires(READ, "tenants/{tenant}/orders/all"),
        "prompts/get": Requires(READ, "tenants/{tenant}/orders/all"),
    }
)
NEEDS = {
    "read_order": Needs(READ, resource=ORDER),
    "refund": Needs(REFUND, resource=ORDER, bound=True),
    "spill": READ,
    "wait": READ,
    "report": READ,
}


def text_of(result: Any) -> str:
    return "\n".join(getattr(block, "text", "") for block in result.content)


@contextmanager
def serving(make: Callable[[], Any], listener: socket.socket):
    """Serve an ASGI app from a thread, where it is made: parts of it belong to an event loop from the start."""
    config = uvicorn.Config(make, factory=True, log_level="critical", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@dataclass
class World:
    me: Workload
    broker: DevTokenBroker
    url: str
    seen: list[dict[str, str]]
    domain: DevTrustDomain
    audit: list[Event] = field(default_factory=list)
    server_audit: list[Event] = field(default_factory=list)
    waiting: threading.Event = field(default_factory=threading.Event)

    def task(self, *actions: str, **terms: Any):
        return self.me.task("close the books", actions or [READ, REFUND, "away"], tenant="acme", **terms)

    def told(self, name: str) -> list[dict[str, Any]]:
        return [dict(event.attributes) for event in self.audit if event.name == name]

    @property
    def posts(self) -> int:
        return sum(headers["method"] == "POST" for headers in self.seen)

    @property
    def session(self) -> httpx2.Auth:
        return adapt_auth(self.me.auth(LIST, audience=self.origin))

    @property
    def origin(self) -> str:
        return self.url.removesuffix("/mcp")

    def transport(self, **options: Any) -> TaskTransport:
        options.setdefault("session", self.session)
        return TaskTransport(GATE, **options)

    @asynccontextmanager
    async def client(self, mode: str = "auto", transport: Any = None, auth: Any = None) -> AsyncIterator[Client]:
        async with httpx2.AsyncClient(transport=transport or self.transport(), auth=auth, timeout=20) as http:
            async with Client(streamable_http_client(self.url, http_client=http), mode=mode) as client:
                yield client


def _contract(origin: str) -> Contract:
    to = {"audience": [origin], "resources": ["tenants/{tenant}/orders/*"]}
    actions = {
        READ: {**to, "scopes": [READ]},
        REFUND: {**to, "scopes": [REFUND], "sensitive": True},
        LIST: {"audience": [origin], "scopes": [LIST]},
        "away": {"audience": ["https://elsewhere.example"], "scopes": [READ]},
    }
    whole = {
        "agent": {"id": AGENT, "purpose": "tests", "environment": "test", "trust_domain": "prod.example"},
        "limits": {"parallel_tasks": 10, "calls_per_task": 50},
        "actions": actions,
    }
    return Contract.parse(json.dumps(whole).encode(), "json")


def _tools(server: MCPServer, waiting: threading.Event, seen: list[dict[str, str]]) -> None:
    @server.tool()
    async def read_order(order: str, tenant: str = "acme") -> str:
        return f"order {order} of {tenant}"

    @server.tool()
    async def refund(order: str, amount: float, tenant: str = "acme") -> str:
        call = bound_call()
        assert call is not None
        return f"refunded {amount} for {call.resource} as {tenant} in {len(call.task)}"

    @server.tool()
    async def spill(order: str, tenant: str = "acme") -> str:
        return f"here: {seen[-1]['authorization'].split(' ')[1]} and eyJhbGciOiJub25lIn0.e30. end"

    @server.tool()
    async def report(order: str, ctx: Context, tenant: str = "acme") -> str:
        for step in range(3):
            await ctx.report_progress(step, 3, f"step {step} {seen[-1]['authorization'].split(' ')[1]}")
        return "reported"

    @server.tool()
    async def wait(order: str, ctx: Context, tenant: str = "acme") -> str:
        await ctx.report_progress(1, 2, "begun")
        waiting.set()
        await anyio.sleep(60)
        return "it went on"

    @server.tool()
    async def unchecked(order: str, tenant: str = "acme") -> str:
        return "it ran"

    @server.resource("orders://all")
    async def all_orders() -> str:
        return "all orders"

    @server.prompt()
    async def advice() -> str:
        return "sell"

    @server.tool()
    async def away() -> str:
        return "it ran"


class Watched:
    """An ASGI app that notes the headers of each request for a tool."""

    def __init__(self, app: Any, seen: list[dict[str, str]]) -> None:
        self._app, self._seen = app, seen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self._seen.append({name.decode(): value.decode() for name, value in scope["headers"]})
            self._seen[-1]["method"] = scope["method"]
        await self._app(scope, receive, send)


@asynccontextmanager
async def open_world(
    *,
    introspect: bool = False,
    binding: str = "dpop",
    proofs: bool = True,
    wrap: Callable[[Any], Any] = lambda app: app,
    json_response: bool = False,
    stateless: bool = False,
    **verifier: Any,
) -> AsyncIterator[World]:
    seen: list[dict[str, str]] = []
    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    tools_id = "spiffe://prod.example/tools"
    rules = [
        Rights.of(AGENT, audiences=["*"], scopes=f"{READ} {REFUND} {LIST}", details=["agent_call"]),
        Rights.of(OTHER, audiences=["*"], scopes=f"{READ} {LIST}"),
        Rights.of(tools_id, serves=[origin]),
    ]
    async with (
        DevTrustDomain("prod.example") as domain,
        DevTokenBroker(domain, rules=rules) as broker,
        Workload(
            await domain.endpoint_for(AGENT),
            token_broker=TokenBrokerOptions(broker.issuer, binding=binding),
            contract=AgentOptions(_contract(origin)),
            environment="test",
            on_event=(audit := []).append,
        ) as me,
    ):
        world = World(me, broker, f"{origin}/mcp", seen, domain, audit)
        endpoint = await domain.endpoint_for(tools_id)

        def make() -> Any:
            ours = Workload(endpoint, token_broker=broker.issuer) if introspect else None
            app = _application(world, ours, proofs, json_response, stateless, verifier)
            return Watched(wrap(app), seen)

        with serving(make, listener):
            yield world


def _application(
    world: World, ours: Workload | None, proofs: bool, json_response: bool, stateless: bool, options: dict[str, Any]
) -> Any:
    """The server; what it has open lives on its own event loop."""
    options = {"issuer": world.broker.issuer, "audience": world.origin, **options}
    verifier = BrokerTokenVerifier(
        **options, introspection=None if ours is None else ours.tokens, on_event=world.server_audit.append
    )
    auth = AuthSettings(
        issuer_url=world.broker.issuer, resource_server_url=world.origin, validate_token_resource=True
    )
    server = MCPServer(
        "tools",
        token_verifier=verifier,
        auth=auth,
        cache_hints={"resources/read": CacheHint(ttl_ms=60_000, scope="public")},
        extensions=[CheckedTools(NEEDS, on_event=world.server_audit.append)],
        middleware=[CheckedMethods({"resources/read": READ}, on_event=world.server_audit.append)],
    )
    _tools(server, world.waiting, world.seen)
    app = server.streamable_http_app(json_response=json_response, stateless_http=stateless)
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(of: Any) -> AsyncIterator[None]:
        async with verifier, inner(of):
            if ours is None:
                yield
            else:
                async with ours:
                    yield

    app.router.lifespan_context = lifespan
    return ProofOfPossession(app, world.origin, on_event=world.server_audit.append) if proofs else app
