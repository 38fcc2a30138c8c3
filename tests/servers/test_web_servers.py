"""One server context for every web server: good callers served, others refused, rotation without restart."""

from __future__ import annotations

import logging
import ssl
from contextlib import contextmanager
from functools import partial

import aiohttp.web
import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from spiffe_client.audit import Event
from spiffe_client.authorize import any_of, custom, member_of
from spiffe_client.bundle import BundleSet
from spiffe_client.errors import PeerError, find
from spiffe_client.http import Client
from spiffe_client.tls import SpiffeTls, peer_of
from tests.support.shop import SHOP, WEB, MovingSource, Shop, shop_app, static_client_context
from tests.support.web_servers import serve_aiohttp, serve_hypercorn, serve_uvicorn


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


@pytest.fixture
def orders(shop: Shop) -> MovingSource:
    return shop.source(SHOP)


class Served:
    """A running server, what its app was asked, and what was told about its callers."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[str] = []
        self.events: list[Event] = []
        self.tls: SpiffeTls

    @property
    def refusals(self) -> list[tuple[object, ...]]:
        return [
            (e.attributes["reason"], e.attributes["role"]) for e in self.events if e.name == "peer.refused"
        ]


def aiohttp_app(seen: list[str]):
    async def handler(request: aiohttp.web.Request) -> aiohttp.web.Response:
        seen.append(request.path)
        return aiohttp.web.Response(text=str(peer_of(request).id))

    return handler


SERVERS = {
    "uvicorn": (serve_uvicorn, lambda seen: shop_app(seen=seen)),
    "hypercorn on asyncio": (serve_hypercorn, lambda seen: shop_app(seen=seen)),
    "hypercorn on trio": (partial(serve_hypercorn, backend="trio"), lambda seen: shop_app(seen=seen)),
    "aiohttp": (serve_aiohttp, aiohttp_app),
}


@pytest.fixture(params=SERVERS)
def serve(request: pytest.FixtureRequest, orders: MovingSource):
    """A server for workloads of both trust domains called `web`, so that it has both bundles loaded."""
    start, make_app = SERVERS[request.param]
    rule = custom("web, of both domains", lambda peer: peer.path == "/web")

    @contextmanager
    def serve(**options):
        served = Served()
        served.tls = SpiffeTls(orders, rule, on_event=served.events.append, **options)
        with start(make_app(served.seen), served.tls.server_context()) as port:
            served.url = f"https://localhost:{port}/orders"
            yield served

    return serve


def call(shop: Shop, url: str, identity) -> httpx.Response:
    with Client(peer=SHOP, workload=shop.context(identity)) as client:
        return client.get(url)


class TestCallers:
    @pytest.mark.parametrize("identity", [WEB, "spiffe://other.test/web"])
    def test_good(self, serve, shop, identity) -> None:
        """Callers that the rule allows are served, also from the federated domain."""
        with serve() as served:
            assert 200 == call(shop, served.url, identity).status_code

        assert ["/orders"] == served.seen
        assert [] == served.refusals
        assert 1 == served.tls.stats.handshakes

    def test_unauthorised(self, serve, shop) -> None:
        """Proven, and not allowed: the app never hears of it, and we tell, since no server does."""
        with serve() as served, pytest.raises(httpx.TransportError):
            call(shop, served.url, "spiffe://shop.test/stranger")

        assert [] == served.seen
        assert [("not_allowed", "server")] == served.refusals
        assert "spiffe://shop.test/stranger" == served.events[0].attributes["peer"]
        assert logging.WARNING == served.events[0].level
        assert (0, 1) == (served.tls.stats.handshakes, served.tls.stats.refused)

    def test_forged_across_domains(self, serve, shop) -> None:
        """The federated authority signs an ID of ours: the attack of a pooled trust store."""
        forged = shop.other.forge_x509_svid(WEB)
        with serve() as served, pytest.raises(httpx.TransportError):
            call(shop, served.url, forged)

        assert [] == served.seen
        assert [("foreign_authority", "server")] == served.refusals

    def test_unknown_authority(self, serve, shop) -> None:
        """Signed by nobody we know."""
        stranger = Shop().ca.issue_x509_svid(WEB)
        with serve() as served, pytest.raises(httpx.TransportError):
            call(shop, served.url, stranger)

        assert [] == served.seen
        assert [("certificate_invalid", "server")] == served.refusals

    def test_no_certificate(self, serve, shop) -> None:
        """A TLS client that shows nothing gets nothing."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        roots = shop.ca.x509_bundle.authorities
        context.load_verify_locations(cadata=b"".join(a.public_bytes(Encoding.DER) for a in roots))
        with serve() as served, httpx.Client(verify=context) as client:
            with pytest.raises(httpx.TransportError):
                client.get(served.url)

        assert [] == served.seen
        assert [("no_certificate", "server")] == served.refusals

    def test_no_tls(self, serve) -> None:
        """Plaintext does not reach the app either."""
        with serve() as served:
            try:
                assert 400 == httpx.get(served.url.replace("https", "http")).status_code
            except httpx.TransportError:
                pass

        assert [] == served.seen

    def test_tls_1_2(self, serve, shop, tmp_path) -> None:
        """Where the older version is asked for, the same callers are served and refused."""
        with serve(minimum_version=ssl.TLSVersion.TLSv1_2) as served:
            for identity in (WEB, "spiffe://shop.test/stranger"):
                context = static_client_context(shop, shop.issue(identity), tmp_path)
                context.maximum_version = ssl.TLSVersion.TLSv1_2
                with httpx.Client(verify=context) as client:
                    if identity == WEB:
                        assert 200 == client.get(served.url).status_code
                    else:
                        with pytest.raises(httpx.TransportError):
                            client.get(served.url)

        assert ["/orders"] == served.seen
        assert [("not_allowed", "server")] == served.refusals


class TestRotation:
    def test_next_handshake_shows_the_new_identity(self, serve, shop, orders) -> None:
        """No restart: who connects after the rotation sees the new leaf."""
        with serve() as served:
            leaves = []
            for _ in range(3):
                leaves.append(peer_of(call(shop, served.url, WEB)).chain[0])
                orders.publish(shop.context(SHOP))
        assert 3 == len(set(leaves))
        assert leaves[0] != orders.x509_context.svid.ders[0]

    def test_removed_authority_is_refused_at_once(self, serve, shop, orders) -> None:
        """New callers in their handshake, connected ones with their next request."""
        with serve() as served:
            caller = shop.context("spiffe://other.test/web")
            with Client(peer=SHOP, workload=caller) as connected:
                assert 200 == connected.get(served.url).status_code

                orders.publish(shop.context(SHOP, bundles=BundleSet([shop.ca.x509_bundle])))

                # hypercorn on trio reads no more and says so only when the connection was idle for long.
                with pytest.raises(httpx.TransportError):
                    connected.get(served.url, timeout=httpx.Timeout(5, read=0.5))
            with pytest.raises(httpx.TransportError):
                call(shop, served.url, "spiffe://other.test/web")
            assert 200 == call(shop, served.url, WEB).status_code

        assert ["/orders", "/orders"] == served.seen
        assert (2, 1, 1) == (served.tls.stats.handshakes, served.tls.stats.refused, served.tls.stats.ended)
        assert [("anchor_withdrawn", "server"), ("certificate_invalid", "server")] == served.refusals


class TestPeerInTheApp:
    def test_aiohttp_handlers_know_the_caller(self, shop, orders) -> None:
        """`peer_of(request)`: who calls, proven."""
        tls = SpiffeTls(orders, any_of(member_of("shop.test"), member_of("other.test")))
        with serve_aiohttp(aiohttp_app([]), tls.server_context()) as port:
            for identity in (WEB, "spiffe://other.test/web"):
                assert identity == call(shop, f"https://localhost:{port}/", identity).text


def test_client_side_says_what_may_have_happened(shop, orders) -> None:
    """A refusal by the server is no refusal of ours; the note says which identity was shown."""
    tls = SpiffeTls(orders, member_of("other.test"))
    with serve_uvicorn(shop_app(), tls.server_context()) as port, pytest.raises(httpx.TransportError) as e:
        call(shop, f"https://localhost:{port}/", WEB)

    assert find(e.value, PeerError) is None
    assert any(WEB in note for note in e.value.__notes__)
