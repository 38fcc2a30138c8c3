"""User code as users write it; mypy --strict and pyright must accept every line."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime

import httpx

from spiffe_client import (
    Authorizer,
    JwtSource,
    JwtSvid,
    PeerError,
    SpiffeId,
    TrustDomain,
    Workload,
    WorkloadApiClient,
    X509Bundle,
    X509Context,
    X509Source,
    X509Svid,
    allow,
    any_of,
    custom,
    member_of,
    sync,
    under,
)
from spiffe_client.errors import find
from spiffe_client.http import AsyncClient, Client
from spiffe_client.tls import Peer, peer_of


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
