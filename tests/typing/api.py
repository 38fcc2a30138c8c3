"""User code as users write it; mypy --strict and pyright must accept every line."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime

import httpx

from spiffe_client import (
    AccessToken,
    AgentOptions,
    Authorizer,
    Call,
    Contract,
    DeniedError,
    ForeignToken,
    JsonlSink,
    JwtSource,
    JwtSvid,
    JwtSvidAuth,
    PeerError,
    SecurityToken,
    SpiffeId,
    StoppedError,
    Task,
    Ticket,
    TokenAuth,
    TokenBroker,
    TokenBrokerOptions,
    TokenError,
    TokenRequest,
    TrustDomain,
    Workload,
    WorkloadApiClient,
    X509Bundle,
    X509Context,
    X509Source,
    X509Svid,
    allow,
    any_of,
    current_task,
    custom,
    guard,
    member_of,
    sync,
    under,
)
from spiffe_client.errors import find
from spiffe_client.http import AsyncClient, Client
from spiffe_client.tls import Peer, peer_of
from spiffe_client.tokens import (
    ClientSecret,
    Introspection,
    JwtSpiffe,
    Metadata,
    Revocation,
    SecretFile,
    SpiffePeer,
    WebPki,
    X509SvidTls,
)


async def front_door() -> None:
    async with Workload() as me, me.http(peer="spiffe://prod.example/orders") as orders:
        response: httpx.Response = await orders.get("https://orders.internal/")
        who: Peer = peer_of(response)
        name: SpiffeId = who.id
        print(name, me.id, me.health.state)
        context: ssl.SSLContext = me.tls(peer=member_of("prod.example"))
        await asyncio.open_connection("orders.internal", 443, ssl=context)
        svid: X509Svid = me.x509_svid
        expiry: datetime = svid.not_after
        token: JwtSvid = await me.jwt_svid("https://reports.prod.example")
        print(expiry, token.token.reveal(), token.expires_at)
        async for snapshot in me.changes():
            snapshot_: X509Context = snapshot
            bundle: X509Bundle = snapshot_.bundles[TrustDomain("prod.example")]
            print(bundle.authorities)


def rules() -> Authorizer:
    return any_of(
        allow("spiffe://prod.example/a", SpiffeId.parse("spiffe://prod.example/b")),
        under("spiffe://prod.example/agents"),
        custom("readers", lambda peer: peer.path.endswith("/reader"), trust_domains={"prod.example"}),
    )


async def pieces() -> None:
    client = WorkloadApiClient("unix:///run/agent.sock")
    async with X509Source(client, hint="internal") as source, JwtSource(client) as tokens:
        source.svid.verify(source.x509_bundles, at=datetime.now(UTC))
        await tokens.fetch_jwt_svid("a", "b")
        async with AsyncClient(peer=rules(), workload=source, base_url="https://x.internal", http2=True) as http:
            await http.get("/")


def blocking() -> None:
    with sync.Workload() as me, me.http(peer="spiffe://prod.example/orders") as orders:
        try:
            orders.get("https://orders.internal/")
        except httpx.ConnectError as error:
            if refused := find(error, PeerError):
                print(refused.code, refused.peer)
    with Client(peer="spiffe://prod.example/orders", timeout=3.0) as http:
        http.get("https://orders.internal/")


async def tokens_page() -> None:
    orders = "https://orders.prod.example"
    async with Workload(token_broker="https://tokens.prod.example") as me:
        auth: TokenAuth = me.auth("orders:read", audience=orders)
        async with httpx.AsyncClient(auth=auth) as http:
            await http.get(f"{orders}/v1/orders")
        by_svid: JwtSvidAuth = me.jwt_auth("reports", origins=["https://reports.prod.example"])
        async with me.http(peer="spiffe://prod.example/orders", auth=by_svid) as both:
            await both.get("https://orders.internal/v1/orders", auth=auth)
        token: AccessToken = await me.token(
            "orders:read",
            "orders:refund",
            audience=orders,
            authorization_details=[{"type": "payment", "limit": 100}],
            purpose="close the books",
            exact=True,
        )
        print(token.scope, token.missing_scope, token.audience, token.expires_at, token.binding.method, token.purpose)
        known: Introspection = await me.tokens.introspect(token)
        outcome: Revocation = await me.tokens.revoke(token)
        print(known.active, outcome)
        me.stop("compromised")
        try:
            await me.token("orders:read", audience=orders)
        except (StoppedError, TokenError) as error:
            print(error.code, error.retryable)
        await me.aclose(revoke=True)


async def tokens_in_pieces(me: Workload, parent: AccessToken) -> None:
    metadata = Metadata(issuer="https://tokens.prod.example", token_endpoint="https://tokens.prod.example/token")
    Workload(token_broker=metadata)
    Workload(token_broker=TokenBrokerOptions("https://tokens.prod.example", binding="mtls", trust=WebPki()))
    TokenBroker(
        "https://tokens.prod.example",
        authentication=ClientSecret(SecretFile("/run/secrets/oauth"), client_id="billing"),
        client_id="billing",
        binding="none",
    )
    TokenBroker(
        metadata=metadata,
        identity=me,
        authentication=X509SvidTls(server=SpiffePeer("spiffe://prod.example/token-broker")),
        binding="mtls",
    )
    async with TokenBroker("https://tokens.prod.example", identity=me, authentication=JwtSpiffe()) as tokens:
        narrowed = TokenRequest.of("orders:read", audience="https://orders.prod.example", subject=parent)
        grant: AccessToken | SecurityToken = await tokens.exchange(narrowed)
        print(grant.issued_token_type, tokens.peek(narrowed), tokens.purge(parent))
        httpx.Client(auth=TokenAuth(tokens, narrowed, origins=["https://orders.prod.example:8443"]))
        JwtSvidAuth(me, "https://reports.prod.example")


def blocking_tokens() -> None:
    orders = "https://orders.prod.example"
    with sync.Workload(token_broker="https://tokens.prod.example") as me:
        token: AccessToken = me.token("orders:read", resource=orders, timeout=5.0)
        with httpx.Client(auth=me.auth("orders:read", audience=orders)) as http:
            http.get(orders)
        JwtSvidAuth(me, "https://reports.prod.example")
        print(me.introspect(token).active, me.revoke(token))
        me.stop("compromised")


def foreign(text: str) -> TokenRequest:
    from spiffe_client.tokens import Secret

    return TokenRequest.of("orders:read", audience="orders", subject=ForeignToken(Secret(text)), actor=None)


@guard(requires="invoices:read", resource="tenants/{tenant}/invoices/{invoice}")
async def read_invoice(tenant: str, invoice: str, http: httpx.AsyncClient) -> str:
    return (await http.get(f"https://billing.prod.example/v1/{tenant}/{invoice}")).text


@guard(requires="summarize")
def summarize(text: str, call: Call) -> int:
    return len(text) + len(call.id)


async def agents_page(contract: Contract) -> None:
    options = AgentOptions(contract, review="refuse", approval_timeout=60.0)
    async with JsonlSink("audit.jsonl", on_trouble="block", signer=lambda: me.x509_svid) as trail:
        async with Workload(contract=options, environment="prod", on_event=trail) as me:
            async with me.task("close the books", ["invoices:read"], tenant="acme", params={"m": "3"}, ttl=60) as task:
                held: Task = task
                assert held is current_task()
                async with task.call("invoices:read", "tenants/acme/invoices/7", arguments={"n": 1}) as call:
                    one: Call = call
                    response: httpx.Response = await one.http.get("https://billing.prod.example/v1", auth=one.auth)
                    print(response, one.digest, one.token)
                async with task.delegate("spiffe://prod.example/agent/auditor", ["invoices:read"], calls=3) as child:
                    print(child.parents)
                ticket: Ticket = await task.ticket("spiffe://prod.example/agent/auditor", ["invoices:read"], calls=3)
                try:
                    async with me.agent.redeem(ticket) as work:
                        print(work.id)
                except DeniedError as error:
                    print(error.reason)


def blocking_agents() -> None:
    with sync.Workload(contract="closer.toml", environment="prod") as me:
        with me.task("close the books", ["invoices:read"], tenant="acme") as task:
            ticket: Ticket = task.ticket_blocking("spiffe://prod.example/agent/auditor", ["invoices:read"], calls=3)
            with me.agent.redeem(ticket) as work:
                print(work.id)
            with task.call("invoices:read", "tenants/acme/invoices/7") as call:
                print(call.http_sync.get("https://billing.prod.example/v1").text)
            with task.delegate("spiffe://prod.example/agent/auditor", ["invoices:read"]) as child:
                print(child.id)


def not_without_async() -> None:
    with Workload() as me:  # type: ignore[attr-defined]
        print(me)
