"""The front door and tokens, against a real token broker and a real service that takes its tokens."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import httpx
import pytest

from spiffe_client import (
    SourceClosedError,
    StoppedError,
    TokenBrokerClosedError,
    TokenBrokerOptions,
    TokenOriginError,
    TokenRequest,
    TokenRequestError,
    Workload,
    sync,
    tokens,
)
from spiffe_client.dev import DevTokenBroker, DevTrustDomain, ProtectedService
from spiffe_client.dev.token_broker import Client
from spiffe_client.tokens import Metadata, SpiffePeer, X509SvidTls

pytestmark = pytest.mark.anyio

BILLING = "spiffe://prod.example/billing"
RULES = [Client.of(BILLING, audiences=["*"], scopes="orders:read orders:refund")]


@pytest.fixture
async def broker(dev: DevTrustDomain) -> AsyncIterator[DevTokenBroker]:
    async with DevTokenBroker(dev, rules=RULES) as broker:
        yield broker


@pytest.fixture
async def orders(broker: DevTokenBroker) -> AsyncIterator[ProtectedService]:
    async with ProtectedService(broker) as service:
        yield service


@asynccontextmanager
async def opened(dev: DevTrustDomain, broker: DevTokenBroker, **options) -> AsyncIterator[Workload]:
    options.setdefault("token_broker", broker.issuer)
    async with Workload(dev.endpoint, **options) as me:
        yield me


class TestOnePage:
    async def test_three_lines(self, dev, broker, orders) -> None:
        """A token for this service: exchanged at first use, bound to us, shared by later requests."""
        async with opened(dev, broker) as me:
            async with httpx.AsyncClient(auth=me.auth("orders:read", audience=orders.url)) as http:
                for _ in range(3):
                    reply = await http.get(f"{orders.url}/v1/orders")
                    assert 200 == reply.status_code, reply.text
                    assert BILLING == reply.json()["sub"]

        assert 1 == broker.requests["token"]

    async def test_opening_asks_for_no_token(self, dev, broker) -> None:
        """Not even for the metadata; a token broker that is down keeps no service from starting."""
        async with opened(dev, broker, token_broker="http://127.0.0.1:1") as me:
            assert "fresh" == me.health.state
            assert None is me.tokens.metadata

    async def test_a_token_as_such(self, dev, broker, orders) -> None:
        """What was granted, for whom, for what; the text only by `reveal`."""
        async with opened(dev, broker) as me:
            token = await me.token("orders:read", audience=orders.url, purpose="close the books")
            again = await me.token("orders:read", audience=orders.url, purpose="close the books")

            assert token is again
            assert ({"orders:read"}, {orders.url}) == (token.scope, token.audience)
            assert "close the books" == token.purpose
            assert "DPoP" == token.token_type
            assert me.tokens.dpop.jkt == token.binding.thumbprint
            assert token.token.reveal() not in repr(token)

    async def test_revoked_and_asked_about(self, dev, broker, orders) -> None:
        """RFC 7009, RFC 7662; a revoked token is replaced at its next use, by who uses `auth`."""
        async with opened(dev, broker) as me:
            token = await me.token("orders:read", audience=orders.url)
            assert (await me.tokens.introspect(token)).active
            async with httpx.AsyncClient(auth=me.auth("orders:read", audience=orders.url)) as http:
                assert 200 == (await http.get(f"{orders.url}/v1/orders")).status_code
                broker.revoke_all(BILLING)
                assert 200 == (await http.get(f"{orders.url}/v1/orders")).status_code

        assert 2 == broker.requests["token"]
        assert 1 == orders.answers[401]

    @pytest.mark.parametrize("binding", ["none", "dpop"])
    async def test_options(self, dev, broker, orders, binding) -> None:
        """A value with all there is to choose."""
        options = TokenBrokerOptions(broker.issuer, binding=binding, max_ttl=60.0)
        async with opened(dev, broker, token_broker=options) as me:
            token = await me.token("orders:read", audience=orders.url)
            assert ({"none": "Bearer", "dpop": "DPoP"}[binding], binding) == (
                token.token_type,
                token.binding.method,
            )
            async with httpx.AsyncClient(auth=me.auth("orders:read", audience=orders.url)) as http:
                assert 200 == (await http.get(f"{orders.url}/v1/orders")).status_code

    async def test_metadata_by_hand(self, dev, broker, orders) -> None:
        """For token brokers without discovery."""
        async with opened(dev, broker) as me:
            found = await me.tokens.discover()
        metadata = Metadata(issuer=found.issuer, token_endpoint=found.token_endpoint)
        async with opened(dev, broker, token_broker=metadata) as me:
            assert {"orders:read"} == (await me.token("orders:read", audience=orders.url)).scope
            assert metadata is me.tokens.metadata


class TestOverSpiffeTls:
    async def test_both_at_once(self, dev, broker, orders) -> None:
        """Who calls by mTLS, what it may do by token; DPoP and redirects work over our own transports."""
        url = orders.url_at("spiffe")
        async with opened(dev, broker) as me:
            auth = me.auth("orders:read", audience=url)
            async with me.http(peer=orders.id, auth=auth, follow_redirects=True) as http:
                assert 200 == (await http.get(f"{url}/v1/orders")).status_code
                assert 200 == (await http.get(f"{url}/redirect?to=/v1/orders")).status_code

        assert 1 == broker.requests["token"]

    async def test_tokens_bound_to_the_svid(self, dev) -> None:
        """RFC 8705: token broker and service both see the X509-SVID; a new SVID has new tokens."""
        async with (
            DevTokenBroker(dev, rules=RULES, issuer_at="spiffe", aliases_at="spiffe") as broker,
            ProtectedService(broker) as orders,
        ):
            options = TokenBrokerOptions(
                broker.issuer, authentication=X509SvidTls(SpiffePeer(broker.id)), binding="mtls"
            )
            url = orders.url_at("spiffe")
            async with opened(dev, broker, token_broker=options) as me:
                auth = me.auth("orders:read", audience=url)
                async with me.http(peer=orders.id, auth=auth, drain=0.0) as http:
                    assert 200 == (await http.get(f"{url}/v1/orders")).status_code
                    first = await me.token("orders:read", audience=url)
                    assert ("Bearer", "mtls") == (first.token_type, first.binding.method)
                    await dev.rotate()
                    await me.wait_updated()
                    assert 200 == (await http.get(f"{url}/v1/orders")).status_code
                    second = await me.token("orders:read", audience=url)

        assert first.binding.thumbprint != second.binding.thumbprint


class TestDpopNonces:
    async def test_a_service_that_wants_them(self, dev, broker) -> None:
        """RFC 9449 §9: the first request takes two tries, later ones one."""
        async with ProtectedService(broker, require_dpop_nonce=True) as orders, opened(dev, broker) as me:
            async with httpx.AsyncClient(auth=me.auth("orders:read", audience=orders.url)) as http:
                for _ in range(3):
                    assert 200 == (await http.get(f"{orders.url}/v1/orders")).status_code

        assert {200: 3, 401: 1} == dict(orders.answers)


class TestJwtSvids:
    async def test_for_services_that_take_them(self, dev, broker, orders) -> None:
        """Without any token broker."""
        async with Workload(dev.endpoint) as me:
            async with httpx.AsyncClient(auth=me.jwt_auth(orders.url)) as http:
                assert BILLING == (await http.get(f"{orders.url}/svid")).json()["sub"]
                with pytest.raises(TokenOriginError):
                    await http.get("https://localhost:1/")

    async def test_an_audience_that_is_no_url(self, dev, broker, orders) -> None:
        """Says where it may go beside."""
        async with Workload(dev.endpoint) as me:
            auth = me.jwt_auth(str(orders.id), origins=[orders.url])
            async with httpx.AsyncClient(auth=auth) as http:
                assert 200 == (await http.get(f"{orders.url}/svid")).status_code


class TestLife:
    async def test_without_a_token_broker(self, dev) -> None:
        """It says how to give one."""
        async with Workload(dev.endpoint) as me:
            with pytest.raises(TokenRequestError, match="token_broker="):
                await me.token("orders:read", audience="x")
            with pytest.raises(TokenRequestError, match="token_broker="):
                me.auth("orders:read", audience="https://orders.prod.example")

    async def test_options_that_do_not_fit_show_at_once(self, dev) -> None:
        """Opening fails before anything was asked of anybody."""
        with pytest.raises(TokenRequestError):
            async with Workload(dev.endpoint, token_broker=TokenBrokerOptions()):
                raise AssertionError("it opened")

    async def test_before_and_after(self, dev, broker, orders) -> None:
        """Tokens live as long as the workload is open; an auth made before works once it is."""
        me = Workload(dev.endpoint, token_broker=broker.issuer)
        auth = me.auth("orders:read", audience=orders.url)
        with pytest.raises(TokenBrokerClosedError):
            await me.token("orders:read", audience=orders.url)
        async with me, httpx.AsyncClient(auth=auth) as http:
            assert 200 == (await http.get(f"{orders.url}/v1/orders")).status_code
            request = TokenRequest.of("orders:read", audience=orders.url)
            assert None is not me.tokens.peek(request)
        assert None is me.tokens.peek(request)
        with pytest.raises(TokenBrokerClosedError):
            await me.token("orders:read", audience=orders.url)

    async def test_closing_revokes_if_it_is_asked_to(self, dev, broker, orders) -> None:
        """Every token held, at the token broker."""
        me = await Workload(dev.endpoint, token_broker=broker.issuer).open()
        await me.token("orders:read", audience=orders.url)
        await me.token("orders:refund", audience=orders.url)
        await me.aclose(revoke=True)

        assert 2 == broker.requests["revocation"]
        assert 0 == broker.revoke_all(BILLING)  # nothing is good any more

    async def test_closing_revokes_nothing_otherwise(self, dev, broker, orders) -> None:
        """Short tokens die by themselves."""
        async with opened(dev, broker) as me:
            await me.token("orders:read", audience=orders.url)

        assert 0 == broker.requests["revocation"]

    async def test_made_before_a_fork_it_has_nothing_to_share(self, dev, broker) -> None:
        """Each child that opens it has a key of its own: there is none before."""
        me = Workload(dev.endpoint, token_broker=broker.issuer)

        assert None is me._tokens

    async def test_start_up_does_not_grow(self) -> None:
        """A workload that uses no tokens loads nothing of them, and no httpx."""
        code = (
            "import sys; from spiffe_client import Workload; Workload('unix:///run/x.sock'); "
            "print(*[m for m in sys.modules if m == 'httpx' or m.startswith('spiffe_client.tokens')])"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "" == run.stdout.strip()


class TestStop:
    async def test_everything_ends(self, dev, broker, orders) -> None:
        """At once: what was in memory is gone, nothing is fetched, every read says why."""
        events: list[str] = []
        async with opened(dev, broker, on_event=lambda event: events.append(event.name)) as me:
            request = TokenRequest.of("orders:read", audience=orders.url)
            auth = me.auth("orders:read", audience=orders.url)
            async with (
                httpx.AsyncClient(auth=auth) as http,
                httpx.AsyncClient(auth=me.jwt_auth(orders.url)) as by_svid,
            ):
                assert 200 == (await http.get(f"{orders.url}/v1/orders")).status_code
                assert 200 == (await by_svid.get(f"{orders.url}/svid")).status_code
                me.stop("compromised")
                me.stop("again")

                for client in (http, by_svid):
                    with pytest.raises(StoppedError, match="compromised"):
                        await client.get(f"{orders.url}/v1/orders")
            assert None is me.tokens.peek(request)
            with pytest.raises(StoppedError, match="compromised"):
                await me.token("orders:read", audience=orders.url)
            with pytest.raises(StoppedError, match="compromised"):
                _ = me.x509_svid
            with pytest.raises(StoppedError, match="compromised"):
                await me.jwt_svid("x")

        assert "workload.stopped" in events
        assert 2 == sum(orders.answers.values())

    async def test_from_another_thread(self, dev, broker, orders) -> None:
        """It is a switch that anybody may throw."""
        async with opened(dev, broker) as me:
            await me.token("orders:read", audience=orders.url)
            await anyio.to_thread.run_sync(me.stop, "by a thread")
            with pytest.raises(StoppedError, match="by a thread"):
                await me.token("orders:read", audience=orders.url)

    async def test_before_the_first_token(self, dev, broker) -> None:
        """What is made afterwards is stopped from the start; a stopped workload does not open."""
        me = Workload(dev.endpoint, token_broker=broker.issuer)
        me.stop("never mind")
        with pytest.raises(StoppedError, match="never mind"):
            await me.tokens.open()
        with pytest.raises((StoppedError, SourceClosedError), match="never mind"):
            await me.open()
        await me.aclose()


class TestThreads:
    async def test_attack_two_threads_before_it_is_open(self, dev, broker, monkeypatch) -> None:
        """They have the same client of the token broker: `stop` would miss another one."""
        whole, go_on, made = tokens.new_token_broker, threading.Event(), []

        def slow(*args, **more):
            go_on.wait(10)
            return whole(*args, **more)

        monkeypatch.setattr(tokens, "new_token_broker", slow)
        me = Workload(dev.endpoint, token_broker=broker.issuer)
        threads = [threading.Thread(target=lambda: made.append(me.tokens)) for _ in range(2)]
        for thread in threads:
            thread.start()
        threads[1].join(0.05)
        go_on.set()
        for thread in threads:
            thread.join(10)
        me.stop("compromised")

        assert [me.tokens] * 2 == made
        assert {"stopped"} == {one.health.state for one in made}

    async def test_a_blocking_client_in_a_thread(self, dev, broker, orders) -> None:
        """One workload, one cache; `auth` is for both of httpx's clients."""

        def in_a_thread(auth: httpx.Auth) -> int:
            with httpx.Client(auth=auth) as http:
                return http.get(f"{orders.url}/v1/orders").status_code

        async with opened(dev, broker) as me:
            auth = me.auth("orders:read", audience=orders.url)
            assert 200 == await anyio.to_thread.run_sync(in_a_thread, auth)
            async with httpx.AsyncClient(auth=auth) as http:
                assert 200 == (await http.get(f"{orders.url}/v1/orders")).status_code

        assert 1 == broker.requests["token"]


class TestLogs:
    async def test_no_secret_in_any_of_them(self, dev, broker, orders, caplog) -> None:
        """A whole life with DEBUG on everywhere: neither tokens nor JWT-SVIDs."""
        caplog.set_level(logging.DEBUG)
        async with opened(dev, broker) as me:
            secrets = [(await me.jwt_svid(broker.issuer)).token.reveal()]
            async with httpx.AsyncClient(auth=me.auth("orders:read", audience=orders.url)) as http:
                response = await http.get(f"{orders.url}/v1/orders")
            token = await me.token("orders:read", audience=orders.url)
            await me.tokens.revoke(token)
            secrets += [token.token.reveal(), response.request.headers["dpop"]]
            me.stop("done")

        assert caplog.records
        ours = [r for r in caplog.records if not r.name.startswith("uvicorn")]
        assert [] == [r.name for r in ours for secret in secrets if secret[:40] in r.getMessage()]


class TestBlocking:
    @pytest.fixture
    async def stage(self, dev, broker, orders):
        return dev, broker, orders

    async def test_the_same_face(self, stage) -> None:
        """`token`, `auth`, `jwt_auth`, `revoke`, `introspect`, on an event loop in a thread of its own."""
        dev, broker, orders = stage

        def blocking() -> None:
            with sync.Workload(dev.endpoint, token_broker=broker.issuer) as me:
                token = me.token("orders:read", audience=orders.url, timeout=5.0)
                assert token is me.tokens.peek(TokenRequest.of("orders:read", audience=orders.url))
                with httpx.Client(auth=me.auth("orders:read", audience=orders.url)) as http:
                    assert 200 == http.get(f"{orders.url}/v1/orders").status_code
                with httpx.Client(auth=me.jwt_auth(orders.url)) as http:
                    assert BILLING == http.get(f"{orders.url}/svid").json()["sub"]
                assert me.introspect(token).active
                me.revoke(token)
                assert None is me.tokens.peek(TokenRequest.of("orders:read", audience=orders.url))

        await anyio.to_thread.run_sync(blocking)
        assert 1 == broker.requests["token"]

    async def test_stop(self, stage) -> None:
        """From any thread, for good."""
        dev, broker, orders = stage

        def blocking() -> None:
            with sync.Workload(dev.endpoint, token_broker=broker.issuer) as me:
                me.token("orders:read", audience=orders.url)
                me.stop("compromised")
                with pytest.raises(StoppedError, match="compromised"):
                    me.token("orders:read", audience=orders.url)
                with pytest.raises(StoppedError, match="compromised"):
                    _ = me.id

        await anyio.to_thread.run_sync(blocking)

    async def test_closing_revokes_if_it_is_asked_to(self, stage) -> None:
        """As the async one."""
        dev, broker, orders = stage

        def blocking() -> None:
            me = sync.Workload(dev.endpoint, token_broker=broker.issuer).open()
            me.token("orders:read", audience=orders.url)
            me.close(revoke=True)
            me.close()

        await anyio.to_thread.run_sync(blocking)
        assert 1 == broker.requests["revocation"]

    async def test_without_a_token_broker(self, stage) -> None:
        """It says how to give one."""
        dev, _, _ = stage

        def blocking() -> None:
            with sync.Workload(dev.endpoint) as me, pytest.raises(TokenRequestError, match="token_broker="):
                me.token("orders:read", audience="x")

        await anyio.to_thread.run_sync(blocking)
