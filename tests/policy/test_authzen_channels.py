"""A decision point behind mutual TLS or on a unix socket: the caller's client leads there, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.abc
import httpx
import pytest

from spiffe_client.authorize import allow
from spiffe_client.http import AsyncClient
from spiffe_client.policy import AuthZenPdp
from spiffe_client.tls import SpiffeTls
from tests.support.questions import ask
from tests.support.raw_broker import json_reply
from tests.support.shop import SHOP, WEB, Shop
from tests.support.web_servers import serve_hypercorn, serve_uvicorn

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


async def _app(scope, receive, send) -> None:
    asked, more = b"", True
    while more:
        message = await receive()
        asked, more = asked + message["body"], message["more_body"]
    answer = {"decision": json.loads(asked)["resource"]["properties"]["tenant"] == "acme"}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


@pytest.fixture(scope="module", params=["h1", "h2"])
def url(request: pytest.FixtureRequest, shop: Shop) -> Iterator[str]:
    """Where a decision point is whose SPIFFE ID is the shop's, and which only the web may ask."""
    serve: Callable = serve_uvicorn if request.param == "h1" else serve_hypercorn
    with serve(_app, SpiffeTls(shop.context(SHOP), allow(WEB)).server_context()) as port:
        yield f"https://localhost:{port}"


async def test_mutual_tls(shop: Shop, url: str) -> None:
    """It is known by its SPIFFE ID, and so are we."""
    async with AsyncClient(peer=SHOP, workload=shop.source(WEB)) as http:
        pdp = AuthZenPdp(url, client=http, timeout=10)
        assert (await pdp.decide(ask())).allowed
        assert "decision_point_denied" == (await pdp.decide(ask(tenant="umbrella"))).reason


async def test_attack_impostor(shop: Shop, url: str) -> None:
    """Whoever else serves at its address is not asked."""
    async with AsyncClient(peer=f"{SHOP}/pdp", workload=shop.source(WEB)) as http:
        decision = await AuthZenPdp(url, client=http, timeout=10).decide(ask())

    assert (("cause", "unreachable"), ("error", "peer_not_allowed")) == decision.evidence[:2]


async def test_caller_it_does_not_know(shop: Shop, url: str) -> None:
    """Gets no decision."""
    async with AsyncClient(peer=SHOP, workload=shop.source(f"{WEB}/other")) as http:
        decision = await AuthZenPdp(url, client=http, timeout=10).decide(ask())

    assert "decision_point_unavailable" == decision.reason


async def test_unix_socket(tmp_path: Path) -> None:
    """On this machine, without TLS, by a client whose transport leads there."""
    path = tmp_path / "pdp.sock"

    async def answer(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            head = await stream.receive()
            assert head.startswith(b"POST /access/v1/evaluation HTTP/1.1\r\n")
            await stream.send(json_reply({"decision": True}))

    async with await anyio.create_unix_listener(path) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as http:
            decision = await AuthZenPdp("http://localhost", client=http, timeout=10).decide(ask())
        group.cancel_scope.cancel()

    assert decision.allowed
