"""Connections are never older than their trust: they drain after a rotation, and are cut after a withdrawal."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from datetime import UTC, datetime

import aiohttp.web
import anyio
import httpx
import pytest
from anyio.lowlevel import checkpoint

from spiffe_client.audit import Event
from spiffe_client.authorize import custom, member_of
from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.errors import PeerError, SourceClosedError, SourceError, StaleError, find
from spiffe_client.http import AsyncSpiffeTransport, SpiffeTransport
from spiffe_client.tls import SpiffeTls, peer_of
from tests.support.shop import SHOP, WEB, shop_app
from tests.support.stepping_clock import SteppingClock
from tests.support.web_servers import serve_aiohttp

pytestmark = pytest.mark.anyio

DRAIN = 30.0


@pytest.fixture
def clock() -> SteppingClock:
    return SteppingClock(datetime.now(UTC))


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def connect(face, web, clock, events, http2):
    """A client on a transport of its own, with a clock of the test's."""

    def connect(*, drain: float = DRAIN, source=web, rule=member_of("shop.test"), **options):
        kind = AsyncSpiffeTransport if face.is_async else SpiffeTransport
        tls = SpiffeTls(source, rule)
        transport = kind(tls, drain=drain, clock=clock, on_event=events.append, http2=http2, **options)
        transport._pools._jitter = lambda low, high: low + 2 / 3 * (high - low)
        client = face(face.plain(transport=transport))
        client.transport = transport
        client.tls = tls
        return client

    return connect


def connection_of(response: httpx.Response) -> object:
    return response.extensions["network_stream"]


def is_open(connection) -> bool:
    return connection.get_extra_info("socket").fileno() != -1


async def until_closed(*connections) -> None:
    """Wait for the closing that was just set off; hangs, and so fails, if it was not."""
    with anyio.fail_after(10):
        while any(map(is_open, connections)):
            await checkpoint()


class TestOrdinaryRotation:
    async def test_nothing_changed(self, connect, serve, http2) -> None:
        """A pooled connection is used again."""
        url = serve(SHOP, shop_app())
        async with connect() as client:
            first = await client.get(url)
            second = await client.get(url)

        assert connection_of(first) is connection_of(second)
        assert ("HTTP/2" if http2 else "HTTP/1.1") == second.http_version

    async def test_pool_serves_within_the_window(self, connect, serve, shop, web, clock, events) -> None:
        """A fleet that rotates together does not reconnect together: the old connection is good for a while."""
        url = serve(SHOP, shop_app())
        async with connect() as client:
            first = await client.get(url)
            web.publish(shop.context(WEB))
            clock.step(19.9)
            second = await client.get(url)
            clock.step(0.2)
            third = await client.get(url)
            await until_closed(connection_of(first))

            assert connection_of(first) is connection_of(second)
            assert connection_of(third) is not connection_of(first)
            assert is_open(connection_of(third))
        assert ["connection.retired"] == [e.name for e in events]
        assert "1 pooled connection(s) retire within 30 s: identity or bundles changed" == events[0].message

    async def test_idle_pool_closes_though_nobody_asks(self, connect, serve, shop, web, clock) -> None:
        """The window holds for a client that has nothing to send, too."""
        url = serve(SHOP, shop_app())
        async with connect() as client:
            first = await client.get(url)
            web.publish(shop.context(WEB))
            await anyio.wait_all_tasks_blocked()
            assert is_open(connection_of(first))

            clock.step(DRAIN)
            await until_closed(connection_of(first))

    async def test_no_window(self, connect, serve, shop, web) -> None:
        """`drain=0` takes no time."""
        url = serve(SHOP, shop_app())
        async with connect(drain=0) as client:
            first = await client.get(url)
            web.publish(shop.context(WEB))
            await until_closed(connection_of(first))
            second = await client.get(url)

        assert connection_of(first) is not connection_of(second)

    async def test_window_is_not_extended(self, connect, serve, shop, web, clock) -> None:
        """Rotations in quick succession do not keep an old pool alive."""
        url = serve(SHOP, shop_app())
        async with connect() as client:
            first = await client.get(url)
            for _ in range(4):
                web.publish(shop.context(WEB))
                clock.step(DRAIN / 4)
            await until_closed(connection_of(first))

    async def test_response_in_flight_finishes(self, connect, serve, shop, web, hold) -> None:
        """What has begun ends on its old connection, which closes after it."""
        url = serve(SHOP, shop_app(hold))
        async with connect(drain=0) as client:
            async with client.stream("GET", f"{url}/hold") as stream:
                web.publish(shop.context(WEB))
                other = await client.get(url)
                assert connection_of(other) is not connection_of(stream.response)
                assert is_open(connection_of(stream.response))
                hold.go_on.set()
                assert b"first last" == await stream.read()
            assert not is_open(connection_of(stream.response))
            assert is_open(connection_of(other))

    async def test_additions_withdraw_nothing(self, connect, serve, shop, web) -> None:
        """A new root in the bundle, as before each change of authority, is an ordinary rotation."""
        both = (*shop.ca.x509_bundle.authorities, *shop.other.x509_bundle.authorities)
        more = X509Bundle(shop.ca.trust_domain, both)
        url = serve(SHOP, shop_app())
        async with connect() as client:
            first = await client.get(url)
            web.publish(shop.context(WEB, bundles=BundleSet([more])))
            second = await client.get(url)

        assert connection_of(first) is connection_of(second)

    async def test_source_that_does_not_tell(self, connect, serve, shop, web, clock) -> None:
        """Without hooks, each request looks."""

        class Quiet:
            @property
            def x509_context(self):
                return web.x509_context

        url = serve(SHOP, shop_app())
        async with connect(source=Quiet(), drain=0) as client:
            first = await client.get(url)
            web.publish(shop.context(WEB))
            second = await client.get(url)

            assert not is_open(connection_of(first))
            assert connection_of(first) is not connection_of(second)

    async def test_transport_is_not_kept_alive(self, connect, web) -> None:
        """A source holds its listeners weakly: a client that is gone is forgotten."""
        transport = connect().transport
        assert 3 == web.listeners  # prepare, release, retire

        del transport
        gc.collect()
        assert 0 == web.listeners

    async def test_told_in_another_thread(self, connect, serve, shop, web) -> None:
        """A source may live in another thread; nothing is closed there, the next request does it."""
        url = serve(SHOP, shop_app())
        async with connect(drain=0) as client:
            first = await client.get(url)
            await anyio.to_thread.run_sync(web.publish, shop.context(WEB))
            second = await client.get(url)

            assert connection_of(first) is not connection_of(second)
            assert not is_open(connection_of(first))


class TestNewConnections:
    @pytest.fixture
    def http2(self) -> bool:
        return False  # aiohttp, whose handlers see the client's certificate, has no HTTP/2

    async def test_are_of_the_new_generation_at_once(self, connect, shop, web, hold) -> None:
        """Within the window only what is pooled is old: who has to connect shows the new SVID."""

        async def who(request: aiohttp.web.Request) -> aiohttp.web.Response:
            if request.path == "/wait":
                hold.reached.set()
                await anyio.to_thread.run_sync(hold.go_on.wait, 20)
            return aiohttp.web.Response(body=peer_of(request).chain[0])

        old, new = shop.issue(WEB), shop.issue(WEB)
        web.publish(shop.context(old))
        tls = SpiffeTls(shop.context(SHOP), member_of("shop.test"))
        with serve_aiohttp(who, tls.server_context()) as port:
            url = f"https://localhost:{port}"
            async with connect() as client, anyio.create_task_group() as tasks:
                assert old.ders[0] == (await client.get(url)).content
                tasks.start_soon(client.get, f"{url}/wait")  # takes the pooled connection
                await anyio.to_thread.run_sync(hold.reached.wait, 10)

                web.publish(shop.context(new))
                assert new.ders[0] == (await client.get(url)).content
                hold.go_on.set()


async def publish_when_blocked(source, context, hold=None) -> None:
    if hold is not None:
        await anyio.to_thread.run_sync(hold.reached.wait, 10)
    await anyio.wait_all_tasks_blocked()
    source.publish(context)


@pytest.fixture
def without_shop(shop):
    """A snapshot in which the authority that vouches for the shop is gone."""
    replaced = X509Bundle(shop.ca.trust_domain, shop.other.x509_bundle.authorities)
    return shop.context(WEB, bundles=BundleSet([replaced, shop.other.x509_bundle]))


class TestWithdrawal:
    """No window where trust is taken back."""

    async def test_idle_connection_closes_at_once(self, connect, serve, web, events, without_shop) -> None:
        """The authority of its peer left the bundle: closed, before anybody asks."""
        url = serve(SHOP, shop_app())
        async with connect() as client:
            first = await client.get(url)
            web.publish(without_shop)
            await until_closed(connection_of(first))

            with pytest.raises(httpx.ConnectError, match="certificate does not verify") as e:
                await client.get(url)
        assert find(e.value, PeerError) is not None
        assert (
            "1 pooled connection(s) retire now: an authority of shop.test was withdrawn" == events[0].message
        )
        assert {"connections": 1, "at_once": True} == events[0].attributes

    async def test_told_in_another_thread(self, connect, serve, web, hold, without_shop) -> None:
        """Hanging up works from any thread, whatever event loop the connection belongs to."""
        url = serve(SHOP, shop_app(hold))
        async with connect() as client:
            async with client.stream("GET", f"{url}/hold") as stream, anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, web.publish, without_shop)
                with pytest.raises(httpx.ReadError, match="authority that vouched"):
                    await stream.read()
            with pytest.raises(httpx.ConnectError):
                await client.get(url)

    async def test_whole_bundle(self, connect, serve, shop, web) -> None:
        """A trust domain without a bundle is a trust domain without authorities."""
        url = serve(SHOP, shop_app())
        async with connect() as client:
            first = await client.get(url)
            web.publish(shop.context(WEB, bundles=BundleSet([shop.other.x509_bundle])))
            await until_closed(connection_of(first))

    async def test_response_in_flight_is_cut(self, connect, serve, web, hold, without_shop) -> None:
        """A reader that waits for a peer which is trusted no more does not wait for it to speak."""
        url = serve(SHOP, shop_app(hold))
        async with connect() as client:
            async with client.stream("GET", f"{url}/hold") as stream, anyio.create_task_group() as tasks:
                tasks.start_soon(publish_when_blocked, web, without_shop)
                with pytest.raises(
                    httpx.ReadError, match="authority that vouched for .*orders was withdrawn"
                ) as e:
                    await stream.read()
            assert not is_open(connection_of(stream.response))
        assert find(e.value, PeerError) is not None
        assert f"{url}/hold" == str(e.value.request.url)

    async def test_request_in_flight_is_cut(self, connect, serve, web, hold, without_shop) -> None:
        """Also where the response has not begun, on a connection that answered before or not."""
        url = serve(SHOP, shop_app(hold))
        async with connect() as client, anyio.create_task_group() as tasks:
            await client.get(url)
            tasks.start_soon(publish_when_blocked, web, without_shop, hold)
            with pytest.raises(httpx.ReadError, match="authority that vouched for .* was withdrawn") as e:
                await client.get(f"{url}/never")
        assert find(e.value, PeerError) is not None

    async def test_others_are_not_cut(self, connect, serve, shop, web, hold, without_shop) -> None:
        """Responses of peers that still verify finish; only no new request joins them."""
        url, partner = serve(SHOP, shop_app()), serve("spiffe://other.test/partner", shop_app(hold))
        async with connect(rule=custom("anybody", lambda peer: True)) as client:
            await client.get(url)
            async with client.stream("GET", f"{partner}/hold") as stream:
                web.publish(without_shop)
                later = await client.get(partner)
                assert connection_of(later) is not connection_of(stream.response)
                hold.go_on.set()
                assert b"first last" == await stream.read()
            assert not is_open(connection_of(stream.response))

    async def test_domain_that_no_peer_comes_from(self, connect, serve, shop, web) -> None:
        """What leaves another bundle does not concern this client: it drains in its own time."""
        url = serve(SHOP, shop_app())
        async with connect(rule=member_of("shop.test")) as client:
            first = await client.get(url)
            web.publish(shop.context(WEB, bundles=BundleSet([shop.ca.x509_bundle])))
            second = await client.get(url)

        assert connection_of(first) is connection_of(second)

    async def test_other_identity(self, connect, serve, shop, web, hold) -> None:
        """The identity that connections were made with is not issued any more: no new request on them."""
        url = serve(SHOP, shop_app(hold))
        async with connect() as client:
            async with client.stream("GET", f"{url}/hold") as stream:
                web.publish(shop.context("spiffe://shop.test/renamed"))
                second = await client.get(url)
                assert connection_of(second) is not connection_of(stream.response)
                hold.go_on.set()
                assert b"first last" == await stream.read()

    @pytest.mark.parametrize(
        "error",
        [StaleError("taken back", reason="withdrawn"), SourceClosedError("taken back")],
        ids=lambda e: e.code,
    )
    async def test_own_identity(self, connect, serve, web, hold, error) -> None:
        """Without an identity of its own a client talks to nobody, also not to the end of a sentence."""
        url = serve(SHOP, shop_app(hold))
        async with connect() as client:
            async with client.stream("GET", f"{url}/hold") as stream, anyio.create_task_group() as tasks:
                tasks.start_soon(publish_when_blocked, web, error)
                with pytest.raises(httpx.ReadError, match="taken back") as e:
                    await stream.read()
            with pytest.raises(httpx.ConnectError, match="taken back"):
                await client.get(url)
        assert find(e.value, SourceError) is not None

    async def test_forked_child_does_not_hang_up_on_the_parent(
        self, connect, serve, web, monkeypatch
    ) -> None:
        """The two share a socket: what the child does to the connection happens to the parent's."""
        url = serve(SHOP, shop_app())
        async with connect() as client:
            first = await client.get(url)
            pools = client.transport._pools
            with monkeypatch.context() as in_child:
                in_child.setattr("os.getpid", lambda: -1)
                pools._lose(SourceClosedError("opened before the fork"))

            assert connection_of(first).get_extra_info("is_readable") is False

    async def test_own_identity_expired(self, connect, serve, shop, web, hold) -> None:
        """It was true when it was shown: what has begun may end, nothing new begins."""
        url = serve(SHOP, shop_app(hold))
        async with connect() as client:
            await client.get(url)
            async with client.stream("GET", f"{url}/hold") as stream:
                web.publish(StaleError("too old", reason="expired"))
                with pytest.raises(httpx.ConnectError, match="too old"):
                    await client.get(url)
                hold.go_on.set()
                assert b"first last" == await stream.read()
            assert not is_open(connection_of(stream.response))

            web.publish(shop.context(WEB))
            assert 200 == (await client.get(url)).status_code
