"""Clients and transports of httpx2 over SPIFFE TLS: who is talked to, what is refused, what is said."""

from __future__ import annotations

import anyio
import httpx
import httpx2
import pytest

from spiffe_client.audit import Event
from spiffe_client.authorize import Authorizer, allow, custom, member_of
from spiffe_client.dev import DevTrustDomain
from spiffe_client.errors import (
    FirstUpdateTimeoutError,
    PeerNotAllowedError,
    SourceClosedError,
    TlsConfigurationError,
    find,
)
from spiffe_client.tls import SpiffeTls
from spiffe_client_httpx2 import AsyncClient, AsyncSpiffeTransport, Client, SpiffeTransport
from tests.support.shop import SHOP, WEB, Hold, MovingSource, Shop, shop_app
from tests.support.web_servers import serve_hypercorn, serve_proxy, serve_uvicorn

pytestmark = pytest.mark.anyio

ANYBODY = custom("anybody", lambda peer: True)


def kind(face: type) -> type:
    return AsyncClient if face.is_async else Client


def serving(source: MovingSource, app=None, *, http2: bool = False, authorize: Authorizer = ANYBODY):
    context = SpiffeTls(source, authorize).server_context()
    return (serve_hypercorn if http2 else serve_uvicorn)(app or shop_app(), context)


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
async def test_get(face: type, http2: bool, web: MovingSource, orders: MovingSource) -> None:
    """Both ends prove who they are; it is a client of httpx2, with its responses."""
    with serving(orders, http2=http2, authorize=allow(WEB)) as port:
        async with face(kind(face)(peer=SHOP, workload=web, http2=http2)) as http:
            response = await http.get(f"https://localhost:{port}/v1/orders")

    assert ("/v1/orders", "2" if http2 else "1.1") == (response.json()["path"], response.json()["http"])
    assert isinstance(response, httpx2.Response)
    assert isinstance(http.client, face.plain) and not isinstance(http.client, httpx.AsyncClient | httpx.Client)


async def test_a_transport_in_a_client_of_ones_own(face: type, web: MovingSource, orders: MovingSource) -> None:
    """httpx2 takes it, and what it gives."""
    tls = SpiffeTls(web, allow(SHOP))
    transport = (AsyncSpiffeTransport if face.is_async else SpiffeTransport)(tls, retries=1)
    with serving(orders) as port:
        async with face(face.plain(transport=transport, trust_env=False)) as http:
            for _ in range(2):
                assert 200 == (await http.get(f"https://localhost:{port}/")).status_code
            async with http.stream("GET", f"https://localhost:{port}/stream") as response:
                body = await response.read()

    assert body.endswith(b"4444end")
    assert 1 == tls.stats.handshakes


async def test_attack_another_peer(face: type, web: MovingSource, orders: MovingSource) -> None:
    """Another workload answers in the peer's place.

    It is refused before a byte of the request is written; the error is httpx2's, with ours in it.
    """
    seen: list[str] = []
    told: list[Event] = []
    with serving(orders, shop_app(seen=seen)) as port:
        async with face(kind(face)(peer="spiffe://shop.test/billing", workload=web, on_event=told.append)) as http:
            with pytest.raises(httpx2.ConnectError, match="shop.test/orders is not allowed") as caught:
                await http.get(f"https://localhost:{port}/")

    assert SHOP == str(find(caught.value, PeerNotAllowedError).peer)
    assert [("peer.refused", "not_allowed")] == [(event.name, event.attributes["reason"]) for event in told]
    assert "/" == caught.value.request.url.path
    assert [] == seen


async def test_the_other_side_refuses(face: type, web: MovingSource, orders: MovingSource) -> None:
    """TLS 1.3: the connection just ends, and a note says what that may mean."""
    with serving(orders, authorize=allow("spiffe://shop.test/billing")) as port:
        async with face(kind(face)(peer=SHOP, workload=web)) as http:
            with pytest.raises(httpx2.TransportError) as caught:
                await http.get(f"https://localhost:{port}/")

    assert f"it may have refused this one ({WEB})" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("drain", [0, 0.05], ids=["at once", "within a window"])
async def test_no_request_fails_while_both_ends_rotate(
    face: type, drain: float, shop: Shop, web: MovingSource, orders: MovingSource
) -> None:
    """A rotation follows as soon as a request has finished since the one before."""
    tls = SpiffeTls(orders, member_of("shop.test"))
    statuses: list[int] = []
    finished = anyio.Event()
    with serve_uvicorn(shop_app(), tls.server_context()) as port:
        async with face(kind(face)(peer=SHOP, workload=web, drain=drain)) as http, anyio.create_task_group() as tasks:

            async def work() -> None:
                while len(statuses) < 60:
                    statuses.append((await http.get(f"https://localhost:{port}/")).status_code)
                    finished.set()

            for _ in range(3):
                tasks.start_soon(work)
            for number in range(10):
                finished = anyio.Event()
                source, identity = ((web, WEB), (orders, SHOP))[number % 2]
                source.publish(shop.context(identity))
                await finished.wait()

    assert {200} == set(statuses)
    assert 0 == tls.stats.refused
    if drain == 0:
        assert 5 <= tls.stats.handshakes


async def test_a_withdrawn_identity_cuts_a_response(face: type, web: MovingSource, orders: MovingSource) -> None:
    """Its reader learns why, from an error of httpx2; a later request cannot start."""
    hold = Hold()
    with serving(orders, shop_app(hold)) as port:
        async with face(kind(face)(peer=SHOP, workload=web)) as http:
            async with http.stream("GET", f"https://localhost:{port}/hold") as response:
                web.publish(SourceClosedError("the source is closed"))
                with pytest.raises(httpx2.ReadError, match="the source is closed") as caught:
                    await response.read()
            hold.go_on.set()
            with pytest.raises(httpx2.ConnectError, match="the source is closed"):
                await http.get(f"https://localhost:{port}/")

    assert find(caught.value, SourceClosedError)


async def test_a_response_that_is_left_early(face: type, web: MovingSource, orders: MovingSource) -> None:
    """Its connection is closed, and the pool goes on."""
    tls = SpiffeTls(orders, ANYBODY)
    with serve_uvicorn(shop_app(), tls.server_context()) as port:
        async with face(kind(face)(peer=SHOP, workload=web)) as http:
            async with http.stream("GET", f"https://localhost:{port}/stream"):
                pass
            assert 200 == (await http.get(f"https://localhost:{port}/")).status_code

    assert 2 == tls.stats.handshakes


async def test_an_identity_of_its_own(face: type) -> None:
    """Opened with the client, or with the first request."""
    async with DevTrustDomain("shop.test") as dev:
        web, orders = await dev.endpoint_for(WEB), MovingSource(await _context(dev))
        with serving(orders, authorize=allow(WEB)) as port:
            url = f"https://localhost:{port}/"
            async with face(kind(face)(peer=SHOP, endpoint=web)) as http:
                assert 200 == (await http.get(url)).status_code
            late = face(kind(face)(peer=SHOP, endpoint=web))
            assert 200 == (await late.get(url)).status_code
            await late.aclose()


async def _context(dev: DevTrustDomain):
    from spiffe_client import Workload

    async with Workload(await dev.endpoint_for(SHOP)) as me:
        return me.x509_context


async def test_no_identity_in_time(face: type, web: MovingSource) -> None:
    """That takes too long is a timeout of httpx2."""
    async with face(kind(face)(peer=SHOP, workload=web)) as http:
        web.publish(FirstUpdateTimeoutError("no SVID within 1 s"))
        with pytest.raises(httpx2.ConnectTimeout, match="no SVID within"):
            await http.get("https://localhost:1/")


async def test_plaintext_is_refused(face: type, web: MovingSource) -> None:
    """Also by httpx2's own error."""
    async with face(kind(face)(peer=SHOP, workload=web)) as http:
        with pytest.raises(httpx2.UnsupportedProtocol, match="use https://"):
            await http.get("http://localhost:1/")


@pytest.mark.parametrize(
    "options",
    [{"verify": True}, {"cert": "x"}, {"transport": None}, {"mounts": {"https://": httpx2.MockTransport(print)}}],
    ids=["verify", "cert", "transport", "mounts"],
)
def test_what_gets_around_spiffe_tls_is_refused(options: dict, web: MovingSource) -> None:
    """As by the clients of httpx."""
    for client in (AsyncClient, Client):
        with pytest.raises(TlsConfigurationError):
            client(peer=SHOP, workload=web, **options)


@pytest.mark.parametrize("where", ["argument", "environment"])
async def test_through_a_proxy(
    face: type, where: str, web: MovingSource, orders: MovingSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tunnel, with SPIFFE TLS inside; only to whom the client is for."""
    with serving(orders) as port, serve_proxy() as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        if where == "environment":
            monkeypatch.setenv("HTTPS_PROXY", address)
        options = {"proxy": address} if where == "argument" else {}
        async with face(kind(face)(peer=SHOP, workload=web, **options)) as http:
            assert 200 == (await http.get(f"https://localhost:{port}/")).status_code

    assert [f"localhost:{port}"] == [target for target, _ in proxy.tunnels]


@pytest.mark.parametrize(
    "direct", ["localhost", "*.test", "[::1]", "10.0.0.0/8,fe80::/10", "a.test, .b.test", "http://c.test", "x,*"]
)
def test_the_environment_is_read_as_httpx2_reads_it(
    direct: str, web: MovingSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same patterns with a proxy and without; whatever it makes of an odd one."""
    monkeypatch.setenv("ALL_PROXY", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", direct)
    for ours, plain in ((AsyncClient, httpx2.AsyncClient), (Client, httpx2.Client)):
        expected = _routes(plain)
        assert expected == _routes(ours, peer=SHOP, workload=web)


def _routes(kind: type, **options) -> list[tuple[str, bool]] | type[Exception]:
    try:
        return [(pattern.pattern, way is not None) for pattern, way in kind(**options)._mounts.items()]
    except httpx2.InvalidURL as error:
        return type(error)


@pytest.mark.skipif(not hasattr(httpx2.AsyncClient, "sse"), reason="this httpx2 has none")
async def test_server_sent_events(face: type, web: MovingSource, orders: MovingSource) -> None:
    """A feature of httpx2's clients, over SPIFFE TLS, with nothing done for it."""

    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        await send({"type": "http.response.body"})

    with serving(orders, app) as port:
        async with face(kind(face)(peer=SHOP, workload=web)) as http:
            url = f"https://localhost:{port}/"
            if face.is_async:
                async with http.client.sse(url) as events:
                    got = [event.data async for event in events]
            else:
                got = await anyio.to_thread.run_sync(_events, http.client, url)

    assert ["0", "1", "2"] == got


def _events(client: Client, url: str) -> list[str]:
    with client.sse(url) as events:
        return [event.data for event in events]


@pytest.mark.skipif(not hasattr(httpx2.AsyncClient, "websocket"), reason="this httpx2 has none")
async def test_web_sockets(face: type, web: MovingSource, orders: MovingSource) -> None:
    """The same for these: `wss://` to the peer, and to nobody else."""

    async def app(scope, receive, send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        said = (await receive())["text"]
        await send({"type": "websocket.send", "text": said.upper()})
        await send({"type": "websocket.close"})

    async def talk(peer: str) -> str:
        async with face(kind(face)(peer=peer, workload=web)) as http:
            if not face.is_async:
                return await anyio.to_thread.run_sync(_talk, http.client, url)
            async with http.client.websocket(url) as socket:
                await socket.send_text("hello")
                return await socket.receive_text()

    context = SpiffeTls(orders, allow(WEB)).server_context()
    with serve_uvicorn(app, context, ws="wsproto") as port:
        url = f"wss://localhost:{port}/"
        assert "HELLO" == await talk(SHOP)
        with pytest.raises(httpx2.ConnectError, match="is not allowed"):
            await talk("spiffe://shop.test/billing")


def _talk(client: Client, url: str) -> str:
    with client.websocket(url) as socket:
        socket.send_text("hello")
        return socket.receive_text()
