"""What a caller sees when a connection may not be made: httpx's error, with the reason in it."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress

import anyio
import httpx
import pytest

from spiffe_client.authorize import allow, custom, member_of
from spiffe_client.errors import (
    PeerError,
    PeerNotAllowedError,
    PeerUnverifiedError,
    SourceClosedError,
    SourceError,
    StaleError,
    find,
)
from spiffe_client.http import AsyncClient, Client
from spiffe_client.tls import peer_of
from tests.support.shop import SHOP, WEB, MovingSource, shop_app
from tests.support.web_servers import serve_uvicorn

pytestmark = pytest.mark.anyio


def open_client(face, source, peer=SHOP, **options):
    kind = AsyncClient if face.is_async else Client
    return face(kind(peer=peer, workload=source, **options))


@contextmanager
def serve_one_handshake(context: ssl.SSLContext):
    """A blocking server, which tells its clients why it refuses them."""

    def serve() -> None:
        tls = context.wrap_socket(sock.accept()[0], server_side=True, do_handshake_on_connect=False)
        with tls:
            with suppress(ssl.SSLError):
                tls.do_handshake()
            socket.socket.shutdown(tls, socket.SHUT_WR)
            while socket.socket.recv(tls, 65536):
                pass  # or the system would take the alert back with a reset

    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=serve)
        thread.start()
        yield sock.getsockname()[1]
        thread.join(10)


class TestServerThatIsRefused:
    async def test_stranger(self, face, serve, http2, shop, web) -> None:
        """A proven identity that is not the peer we asked for: named, with the rule."""
        seen = []
        url = serve("spiffe://shop.test/billing", shop_app(seen=seen))
        async with open_client(face, web, http2=http2) as client:
            with pytest.raises(httpx.ConnectError) as e:
                await client.get(f"{url}/")

        refusal = find(e.value, PeerError)
        assert isinstance(refusal, PeerNotAllowedError)
        assert "peer spiffe://shop.test/billing is not allowed by allow(spiffe://shop.test/orders)" == str(
            e.value
        )
        assert "allow(spiffe://shop.test/orders)" == refusal.rule
        assert f"{url}/" == str(e.value.request.url)
        assert [] == seen

    async def test_forged_by_a_federated_authority(self, face, serve, http2, shop, web) -> None:
        """The attack of a pooled trust store: another domain's authority signs our peer's ID."""
        seen = []
        forged = shop.other.forge_x509_svid(SHOP, dns_names=["localhost"])
        rule = custom("orders, from wherever", lambda peer: str(peer) == SHOP)  # loads both bundles
        url = serve(forged, shop_app(seen=seen))
        async with open_client(face, web, rule, http2=http2) as client:
            with pytest.raises(httpx.ConnectError, match="no authority of shop.test vouches for it") as e:
                await client.get(f"{url}/")

        assert isinstance(find(e.value, PeerError), PeerUnverifiedError)
        assert "foreign_authority" == find(e.value, PeerError).why
        assert [] == seen

    async def test_unknown_authority(self, face, serve, http2, shop, web) -> None:
        """OpenSSL's own verdict is told as ours."""
        url = serve("spiffe://other.test/orders", shop_app())
        async with open_client(face, web, http2=http2) as client:
            with pytest.raises(httpx.ConnectError, match="certificate does not verify") as e:
                await client.get(f"{url}/")

        assert "certificate_invalid" == find(e.value, PeerError).why

    async def test_in_a_stream(self, face, serve, http2, shop, web) -> None:
        """Streaming changes nothing about it."""
        url = serve("spiffe://shop.test/billing", shop_app())
        async with open_client(face, web, http2=http2) as client:
            with pytest.raises(httpx.ConnectError, match="is not allowed by"):
                async with client.stream("GET", f"{url}/"):
                    raise AssertionError("unreachable")

    async def test_earlier_refusal_is_not_blamed(self, face, serve, http2, shop, web) -> None:
        """A second attempt from the handler of the first fails for its own reason."""
        url = serve("spiffe://shop.test/billing", shop_app())
        async with open_client(face, web, http2=http2) as client:
            try:
                await client.get(f"{url}/")
            except httpx.ConnectError as refused:
                first = refused
                with pytest.raises(httpx.ConnectError) as e:
                    await client.get("https://127.0.0.1:9/")  # nobody listens there

        assert find(first, PeerError) is not None
        assert "is not allowed" not in str(e.value)
        assert e.value.__cause__ is None or find(e.value.__cause__, PeerError, handled=first) is None


class TestServerThatRefuses:
    async def test_hint_names_the_identity_that_was_shown(self, face, serve, http2, web) -> None:
        """A TLS 1.3 server that refuses a client just hangs up: the error says what that may mean."""
        seen = []
        url = serve(SHOP, shop_app(seen=seen), authorize=allow("spiffe://shop.test/admin"))
        async with open_client(face, web, http2=http2) as client:
            with pytest.raises(httpx.TransportError) as e:
                await client.get(f"{url}/")

        assert find(e.value, PeerError) is None
        assert any("may have refused this one (spiffe://shop.test/web)" in note for note in e.value.__notes__)
        assert [] == seen

    @pytest.mark.parametrize("rule", [allow("spiffe://shop.test/admin"), member_of("other.test")], ids=["allow", "member_of"])
    async def test_hint_and_words_whatever_the_connection_dies_of(self, face, serve, http2, web, rule) -> None:
        """An alert, an end or a reset, in the handshake or after it: never without a word, never without the hint."""
        url = serve(SHOP, shop_app(), authorize=rule)
        async with open_client(face, web, http2=http2) as client:
            with pytest.raises(httpx.TransportError) as e:
                await client.get(f"{url}/")

        assert find(e.value, PeerError) is None
        assert str(e.value)
        assert [True] == ["may have refused this one (spiffe://shop.test/web)" in note for note in e.value.__notes__]

    async def test_alert(self, face, shop, web, tmp_path) -> None:
        """Other servers send an alert: its name is told, also where asyncio leaves it unmapped and trio hides it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED  # and trusts nobody
        path = tmp_path / "server.pem"
        svid = shop.issue(SHOP)
        path.write_bytes(svid.key_pem().reveal() + svid.chain_pem())
        context.load_cert_chain(path)
        with serve_one_handshake(context) as port:
            async with open_client(face, web) as client:
                with pytest.raises(httpx.ReadError, match="(?i)alert unknown ca") as e:
                    await client.get(f"https://localhost:{port}/")

        assert find(e.value, ssl.SSLError) is not None
        assert any("may have refused this one" in note for note in e.value.__notes__)

    async def test_no_hint_where_nobody_listens(self, face, shop, web) -> None:
        """A connection refused by the system has nothing to do with identities."""
        async with open_client(face, web) as client:
            with pytest.raises(httpx.ConnectError) as e:
                await client.get("https://127.0.0.1:9/")

        assert not hasattr(e.value, "__notes__")

    async def test_server_without_tls(self, face, web) -> None:
        """Not TLS at all: httpx's ConnectError, as from httpx."""
        with serve_uvicorn(shop_app(), None) as port:
            async with open_client(face, web) as client:
                with pytest.raises(httpx.ConnectError):
                    await client.get(f"https://localhost:{port}/")


class TestPlaintext:
    @pytest.mark.parametrize("url", ["http://localhost/", "ws://localhost/", "ftp://localhost/"])
    async def test_other_schemes(self, face, web, url) -> None:
        """TLS or nothing."""
        async with open_client(face, web) as client:
            with pytest.raises(httpx.UnsupportedProtocol, match="TLS only, use https://"):
                await client.get(url)

    async def test_url_without_scheme(self, face, web) -> None:
        """httpx has its own words for it."""
        async with open_client(face, web) as client:
            with pytest.raises(httpx.UnsupportedProtocol, match="Request URL is missing"):
                await client.get("localhost/orders")

    async def test_redirect_down(self, face, stage, web) -> None:
        """The peer itself cannot send a client to a plaintext URL."""
        url = stage.serve(SHOP, shop_app(), http2=False)
        async with open_client(face, web, follow_redirects=True) as client:
            with pytest.raises(httpx.UnsupportedProtocol, match="http:// is refused"):
                await client.get(f"{url}/redirect?http://localhost/")


class TestNoIdentity:
    @pytest.mark.parametrize(
        "error",
        [
            StaleError("expired at noon", reason="expired"),
            StaleError("withdrawn at noon", reason="withdrawn"),
            SourceClosedError("closed at noon"),
        ],
        ids=lambda e: e.code + getattr(e, "reason", ""),
    )
    async def test_request_says_why(self, face, shop, error) -> None:
        """No identity, no connection: the source's words, as a ConnectError."""
        source = MovingSource(shop.context(WEB))
        source.publish(error)
        async with open_client(face, source) as client:
            with pytest.raises(httpx.ConnectError, match="at noon") as e:
                await client.get("https://localhost:9/")

        assert error is find(e.value, SourceError)


class TestPeerOfResponse:
    async def test_who_answered(self, face, serve, http2, web) -> None:
        """The proven peer of a response, on each kind of connection."""
        url = serve(SHOP, shop_app())
        async with open_client(face, web, http2=http2) as client:
            async with client.stream("GET", f"{url}/") as stream:
                assert SHOP == str(peer_of(stream.response).id)
                await stream.read()


class TestTransportErrorsOfOthers:
    async def test_upload_from_a_failing_response(self, stage, web) -> None:
        """What an upload's own source raises is handed on as it is, whatever is behind it."""
        theirs = httpx.ReadError("the other connection broke", request=httpx.Request("GET", "https://a.test"))
        theirs.__cause__ = PeerUnverifiedError("of another connection")

        async def upload():
            yield b"first"
            raise theirs

        url = stage.serve(SHOP, shop_app(), http2=False)
        async with AsyncClient(peer=SHOP, workload=web) as client:
            with pytest.raises(httpx.ReadError) as e:
                await client.post(url, content=upload())

        assert theirs is e.value


class Interrupt(BaseException):
    """Such as KeyboardInterrupt."""


class TestBrokenOff:
    """A request that does not end by itself leaves no pool behind that never closes."""

    async def test_cancelled(self, stage, shop, web, hold) -> None:
        """Cancelled while it waits: the old pool closes after a rotation."""
        url = stage.serve(SHOP, shop_app(hold), http2=False)
        async with AsyncClient(peer=SHOP, workload=web, drain=0) as client:
            first = await client.get(url)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.get, f"{url}/never")
                await anyio.to_thread.run_sync(hold.reached.wait, 10)
                web.publish(shop.context(WEB))
                tasks.cancel_scope.cancel()

            assert -1 == first.extensions["network_stream"].get_extra_info("socket").fileno()
            assert [] == client._transport._pools.retired

    async def test_interrupted(self, stage, shop, web) -> None:
        """The same in blocking code."""
        url = stage.serve(SHOP, shop_app(), http2=False)

        def upload():
            yield b"first"
            web.publish(shop.context(WEB))
            raise Interrupt

        with Client(peer=SHOP, workload=web, drain=0) as client:
            with pytest.raises(Interrupt):
                client.post(url, content=upload())
            assert [] == client._transport._pools.retired
            assert 200 == client.get(url).status_code

    async def test_body_closed_twice(self, face, stage, web) -> None:
        """The second time does nothing: the pool must not be left twice."""
        url = stage.serve(SHOP, shop_app(), http2=False)
        async with open_client(face, web) as client:
            transport = client.client._transport
            request = client.client.build_request("GET", url)
            if face.is_async:
                response = await transport.handle_async_request(request)
                chunks = aiter(response.stream)
                assert [chunk async for chunk in chunks]  # an iterator like any other
                await response.stream.aclose()
                await response.stream.aclose()
            else:
                response = transport.handle_request(request)
                response.stream.close()
                response.stream.close()

            assert 0 == transport._pools._current.active
