"""One request and its answer over real sockets: bounded in time and size, and nothing of it shown."""

from __future__ import annotations

import gc
import logging
import ssl

import anyio
import httpx
import pytest

from spiffe_client.errors import (
    DiscoveryError,
    TlsConfigurationError,
    TokenBrokerUnavailableError,
    TokenError,
    TokenProtocolError,
)
from spiffe_client.tokens import SpiffePeer, WebPki
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._http import get, post, post_json
from spiffe_client.tokens._unprinted import Unprinted
from tests.support.canary import assert_no_secret
from tests.support.pki import new_authority
from tests.support.raw_broker import HANG, json_reply, raw_reply, serve_raw
from tests.support.web_servers import serve_proxy

pytestmark = pytest.mark.anyio

CANARY = "canary-7f3a9c1e5b2d8f4a6c0e1d3b5a7f9c2e"
FORM = [("grant_type", "x"), ("subject_token", CANARY), ("scope", "a b"), ("scope", "ü&=")]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def web_ca():
    return new_authority("web.test")


@pytest.fixture(scope="module")
def server_tls(web_ca, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    leaf = web_ca.leaf(dns=["localhost", "broker.test"])
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(leaf.key_pem + leaf.chain_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def roots_of(authority) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return authority.certificate.public_bytes(Encoding.PEM).decode()


@pytest.fixture
async def channel():
    channel = Channel(WebPki())
    yield channel
    await channel.aclose()


async def failing(channel: Channel, url: str, timeout: float = 5, **more) -> TokenError:
    with pytest.raises(TokenError) as e:
        await post(channel, url, FORM, timeout=timeout, **more)
    return e.value


class TestPost:
    async def test_a_form_arrives_as_it_is(self, channel: Channel) -> None:
        """Names may repeat, order counts, JSON is asked for, and nothing is compressed (RFC 6749 §4)."""
        with serve_raw(lambda asked: json_reply({"a": 1}, 200, ("X-Two", "1"), ("X-Two", "2"))) as broker:
            reply = await post(
                channel, f"{broker.url}/token?tenant=1", FORM, headers=[("dpop", Unprinted("p"))], timeout=5
            )

        [asked] = broker.asked
        assert ("POST", "/token?tenant=1") == (asked.method, asked.target)
        assert FORM == asked.form
        assert "application/x-www-form-urlencoded" == asked.header("content-type")
        assert "application/json" == asked.header("accept")
        assert "identity" == asked.header("accept-encoding")
        assert "p" == asked.header("dpop")
        assert (200, b'{"a": 1}', "1, 2") == (reply.status, reply.body, reply.headers["x-two"])
        assert reply.shown is None
        assert [CANARY, "p"] == [secret.reveal() for secret in reply.sent]

    async def test_a_reply_shows_its_status_only(self, channel: Channel) -> None:
        """Its body may hold a token, its headers whatever a server says."""
        with serve_raw(lambda asked: json_reply({"access_token": CANARY}, 200, ("x", CANARY))) as broker:
            reply = await post(channel, broker.url, FORM, timeout=5)

        assert "Reply(status=200)" == repr(reply)

    async def test_json_is_posted(self, channel: Channel) -> None:
        """Polling for security events is JSON both ways (RFC 8936 §2.4)."""
        with serve_raw(lambda asked: json_reply({})) as broker:
            await post_json(channel, broker.url, {"ack": ["one"]}, timeout=5)

        assert b'{"ack": ["one"]}' == broker.asked[0].body
        assert "application/json" == broker.asked[0].header("content-type")

    async def test_get_has_no_body(self, channel: Channel) -> None:
        """Metadata is read with a GET."""
        with serve_raw(lambda asked: json_reply({})) as broker:
            await get(channel, f"{broker.url}/x", headers=[("x-a", "b")], timeout=5)

        assert ("GET", b"", "b") == (
            broker.asked[0].method,
            broker.asked[0].body,
            broker.asked[0].header("x-a"),
        )

    async def test_connections_are_kept(self, channel: Channel) -> None:
        """The second request needs no second connection, and brings no cookie of the first."""
        with serve_raw(lambda asked: json_reply({}, 200, ("Set-Cookie", "a=b"))) as broker:
            for _ in range(3):
                await post(channel, broker.url, FORM, timeout=5)

        assert 1 == broker.connections
        assert [None] * 3 == [asked.header("cookie") for asked in broker.asked]


class TestDeadline:
    @pytest.mark.parametrize(
        "part", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"]
    )
    async def test_a_hung_socket_ends_at_the_deadline(self, part: bytes, channel: Channel) -> None:
        """Wherever it hangs; httpx's own timeouts begin anew with each byte."""
        with serve_slowly(part) as port:
            with anyio.fail_after(20):
                error = await failing(channel, f"http://127.0.0.1:{port}/", timeout=0.3)

        assert isinstance(error, TokenBrokerUnavailableError)
        assert "did not answer within 0.3 s" in str(error)
        assert error.retryable

    async def test_a_trickle_ends_at_the_deadline(self, channel: Channel) -> None:
        """A byte now and then is no answer."""
        with serve_slowly(b"HTTP/1.1 200 OK\r\n", trickle=b"x: y\r\n") as port:
            error = await failing(channel, f"http://127.0.0.1:{port}/", timeout=0.5)

        assert "did not answer within 0.5 s" in str(error)

    async def test_a_handshake_that_hangs_leaves_no_socket(self, channel: Channel) -> None:
        """httpcore forgets it; the test run fails on an unclosed socket."""
        with serve_slowly(b"") as port:
            error = await failing(channel, f"https://localhost:{port}/", timeout=0.3)
            gc.collect()

        assert isinstance(error, TokenBrokerUnavailableError)

    async def test_who_is_cancelled_is_cancelled(self, channel: Channel) -> None:
        """The caller's own deadline is not taken for the token broker's."""
        with serve_slowly(b"") as port, anyio.move_on_after(0.2) as scope:
            await post(channel, f"http://127.0.0.1:{port}/", FORM, timeout=30)

        assert scope.cancelled_caught


class TestUnreachable:
    async def test_nobody_listens(self, channel: Channel) -> None:
        """The message says it, the cause is the system's error."""
        with serve_raw(lambda asked: b"") as broker:
            url = broker.url
        error = await failing(channel, url)

        assert isinstance(error, TokenBrokerUnavailableError)
        assert f"the token broker at {url} cannot be reached: Connection refused: is it running?" == str(
            error
        )
        assert isinstance(error.__cause__, ConnectionRefusedError)

    async def test_no_such_host(self, channel: Channel) -> None:
        """A name that does not resolve."""
        error = await failing(channel, "https://no-such-host.invalid/token")

        assert isinstance(error, TokenBrokerUnavailableError)
        assert isinstance(error.__cause__, OSError)

    async def test_an_untrusted_certificate(self, channel: Channel, server_tls: ssl.SSLContext) -> None:
        """Of an authority that the system does not know: nothing is sent, and trying again is useless."""
        with serve_raw(lambda asked: json_reply({}), server_tls) as broker:
            error = await failing(channel, broker.url)

        assert [] == broker.asked
        assert isinstance(error, TokenBrokerUnavailableError)
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert not error.retryable

    async def test_another_host_name(self, web_ca, server_tls: ssl.SSLContext) -> None:
        """A certificate for somebody else of a trusted authority is not enough."""
        channel = Channel(WebPki(roots_of(web_ca)))
        with serve_raw(lambda asked: json_reply({}), server_tls) as broker:
            error = await failing(channel, f"https://127.0.0.1:{broker.port}/")
            assert 200 == (await post(channel, broker.url, FORM, timeout=5)).status
        await channel.aclose()

        assert "mismatch" in str(error)

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 100\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
            b"SSH-2.0-OpenSSH_9.6\r\n" + CANARY.encode() + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nbroken header " + CANARY.encode() + b"\r\n\r\n",
        ],
        ids=["nothing", "truncated", "truncated-chunk", "not-http", "broken-header"],
    )
    async def test_what_is_no_whole_answer(
        self, answer: bytes, channel: Channel, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A typed error that quotes nothing of what came: httpx's does, and httpcore logs it."""
        caplog.set_level(logging.DEBUG)
        with serve_raw(lambda asked: answer or b"\x00") as broker:
            error = await failing(channel, broker.url)

        assert isinstance(error, TokenBrokerUnavailableError)
        assert "broke off, or did not answer in HTTP" in str(error) or "cannot be reached" in str(error)
        assert CANARY not in caplog.text
        assert_no_secret(error, CANARY)


class TestRefusedAnswers:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
    async def test_redirects_are_not_followed(self, status: int, channel: Channel) -> None:
        """A token POST stays where it is; the place it points to is not even named."""
        answer = raw_reply(status, b"", ("Location", "https://attacker.test/?" + CANARY))
        with serve_raw(lambda asked: answer) as broker:
            error = await failing(channel, broker.url)

        assert 1 == len(broker.asked)
        assert isinstance(error, TokenProtocolError)
        assert status == error.status
        assert "attacker" not in str(error)

    async def test_a_body_of_64_kib_is_read(self, channel: Channel) -> None:
        """The largest that is."""
        with serve_raw(lambda asked: raw_reply(200, b"x" * 65536)) as broker:
            assert 65536 == len((await post(channel, broker.url, FORM, timeout=5)).body)

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_a_larger_one_is_not(self, chunked: bool, channel: Channel) -> None:
        """It is not read to its end: this one has none."""
        head = b"HTTP/1.1 200 OK\r\n" + (
            b"transfer-encoding: chunked\r\n\r\n" if chunked else b"content-length: 99999999\r\n\r\n"
        )
        chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n" if chunked else b"x" * 0x4000
        with serve_raw(lambda asked: head + chunk * 8) as broker:
            error = await failing(channel, broker.url)

        assert isinstance(error, TokenProtocolError)
        assert (200, "more than 65536 bytes" in str(error)) == (error.status, True)

    async def test_an_encoding_nobody_asked_for(self, channel: Channel) -> None:
        """A small compressed body may hold gigabytes."""
        with serve_raw(lambda asked: raw_reply(200, b"\x1f\x8b", ("Content-Encoding", "gzip"))) as broker:
            error = await failing(channel, broker.url)

        assert isinstance(error, TokenProtocolError)


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "http://tokens.prod.example/token",
            "http://127.0.0.1.nip.io/token",
            "http://localhost.example/token",
            "http://10.0.0.1/token",
            "http://169.254.169.254/token",
            "https://user:pw@tokens.prod.example/token",
            "https://tokens.prod.example/token#fragment",
            "https://tokens.prod.example:0/token",
            "https:///token",
            "ftp://127.0.0.1/token",
            "/token",
            "https://tokens.prod.example/to ken",
            "https://a.example\\@b.example/",
        ],
    )
    async def test_nothing_is_sent_there(self, url: str, channel: Channel) -> None:
        """Neither in the clear, except to this machine, nor to what parsers disagree on."""
        with pytest.raises(DiscoveryError):
            await post(channel, url, FORM, timeout=5)

    async def test_user_information_is_not_repeated(self, channel: Channel) -> None:
        """It may be a password."""
        error = await failing(channel, f"https://user:{CANARY}@tokens.prod.example/token")

        assert CANARY not in str(error)


class TestNothingIsShown:
    """Request and answer hold secrets: no error, log line or frame does."""

    SCRIPTS = {
        "refused": lambda asked: raw_reply(302, b"", ("location", CANARY)),
        "reason": lambda asked: raw_reply(f"200 {CANARY}", b"{}"),
        "header": lambda asked: json_reply({}, 200, ("dpop-nonce", CANARY), ("set-cookie", CANARY)),
        "broken": lambda asked: b"HTTP/1.1 200 OK\r\n" + CANARY.encode() + b"\r\n\r\n",
        "too-large": lambda asked: raw_reply(200, CANARY.encode() * 4000),
        "hang": lambda asked: HANG,
    }

    @pytest.mark.parametrize("name", SCRIPTS)
    async def test_errors_and_logs(
        self, name: str, channel: Channel, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Everything at DEBUG, and every frame of every linked error; no httpx object hangs on them."""
        caplog.set_level(logging.DEBUG)
        error: BaseException | None = None
        with serve_raw(self.SCRIPTS[name]) as broker:
            try:
                headers = [("dpop", Unprinted(CANARY))]
                await post(channel, broker.url, FORM, headers=headers, timeout=2 if name == "hang" else 20)
            except TokenError as e:
                error = e

        assert any(r.name.startswith("httpcore") for r in caplog.records)
        assert CANARY not in caplog.text
        assert (name in ("reason", "header")) == (error is None)
        if error is not None:
            assert_no_secret(error, CANARY)
            assert [] == [o for o in reachable(error) if type(o).__module__.startswith(("httpx", "httpcore"))]

    async def test_when_the_connection_fails(self, channel: Channel) -> None:
        """httpx.ConnectError carries the request, with the form in it."""
        with serve_raw(lambda asked: b"") as broker:
            url = broker.url
        error = await failing(channel, url, headers=[("dpop", Unprinted(CANARY))])

        assert_no_secret(error, CANARY)
        assert [] == [o for o in reachable(error) if type(o).__module__.startswith(("httpx", "httpcore"))]

    async def test_instrumentation_that_sees_the_request_cannot_read_it(
        self, channel: Channel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It wraps httpx's transport: the body is not text there, the proof is not printed."""
        seen: list[httpx.Request] = []

        send = httpx.AsyncHTTPTransport.handle_async_request

        async def look(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return await send(transport, request)

        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", look)
        with serve_raw(lambda asked: json_reply({})) as broker:
            await post(channel, broker.url, FORM, headers=[("dpop", Unprinted(CANARY))], timeout=5)

        [request] = seen
        assert CANARY not in repr(request.headers) + repr(request.headers.raw) + repr(vars(request))
        with pytest.raises(httpx.RequestNotRead):
            request.content  # noqa: B018


def reachable(error: BaseException) -> list[object]:
    """What hangs on an error through its links and attributes."""
    found: list[object] = []
    queue: list[object] = [error]
    while queue:
        current = queue.pop()
        if any(current is f for f in found) or len(found) > 5000:
            continue
        found.append(current)
        if isinstance(current, BaseException):
            queue += [current.__cause__, current.__context__, *current.args, *vars(current).values()]
            trace = current.__traceback__
            while trace is not None:
                if "/tests/" not in trace.tb_frame.f_code.co_filename:
                    queue += trace.tb_frame.f_locals.values()
                trace = trace.tb_next
    return found


class TestProxies:
    async def test_https_goes_through_the_proxy_of_the_environment(
        self, web_ca, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In a tunnel: the proxy sees the host and nothing else."""
        import asyncio

        channel = Channel(WebPki(roots_of(web_ca)))
        with serve_raw(lambda asked: json_reply({}), server_tls) as broker, serve_proxy() as proxy:
            there = asyncio.open_connection
            monkeypatch.setattr(
                asyncio, "open_connection", lambda host, port: there("127.0.0.1", broker.port)
            )
            monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.port}")
            reply = await post(channel, "https://broker.test/token", FORM, timeout=5)
            await channel.aclose()

        assert 200 == reply.status
        assert ["broker.test:443"] == [target for target, _ in proxy.tunnels]

    async def test_what_goes_to_this_machine_goes_direct(
        self, channel: Channel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is in the clear: a proxy would read the token."""
        with serve_raw(lambda asked: json_reply({})) as broker, serve_proxy() as proxy:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            await post(channel, broker.url, FORM, timeout=5)
            await post(channel, broker.url.replace("127.0.0.1", "localhost"), FORM, timeout=5)

        assert 2 == len(broker.asked)
        assert [] == proxy.tunnels

    async def test_no_proxy(self, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
        """Hosts it names are reached direct."""
        with serve_proxy() as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv("NO_PROXY", "invalid")
            await failing(channel, "https://no-such-host.invalid/token")

        assert [] == proxy.tunnels

    async def test_a_refusing_proxy(self, channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
        """It makes the token broker unreachable, and it is said that it is the proxy."""
        with serve_proxy() as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            error = await failing(channel, "https://forbidden.test/token")

        assert isinstance(error, TokenBrokerUnavailableError)
        assert "ProxyError" in str(error)

    @pytest.mark.parametrize("proxy", ["gopher://127.0.0.1:1", "http://[::1"])
    async def test_a_proxy_that_makes_no_sense(
        self, proxy: str, channel: Channel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A configuration error that does not repeat it: it may hold a password."""
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        error = await failing(channel, "https://tokens.test/")

        assert isinstance(error.__cause__, TlsConfigurationError)
        assert "the proxy that the environment names cannot be used" in str(error)
        assert not error.retryable
        assert not any(proxy in str(o) for o in reachable(error))


class TestSpiffePeer:
    async def test_another_workload_is_refused(self) -> None:
        """The refusal is the cause, and trying again is useless."""
        from spiffe_client.errors import PeerNotAllowedError
        from spiffe_client.authorize import custom
        from spiffe_client.tls import SpiffeTls
        from tests.support.shop import SHOP, WEB, Shop

        shop = Shop()
        anybody = custom("anybody", lambda peer: True)
        server = SpiffeTls(shop.context("spiffe://shop.test/other"), anybody)
        channel = Channel(SpiffePeer(SHOP), identity=shop.context(WEB))
        with serve_raw(lambda asked: json_reply({}), server.server_context()) as broker:
            error = await failing(channel, broker.url)
        await channel.aclose()

        assert [] == broker.asked
        assert isinstance(error, TokenBrokerUnavailableError)
        assert isinstance(error.__cause__, PeerNotAllowedError)
        assert "spiffe://shop.test/other" in str(error)
        assert not error.retryable
        assert_no_secret(error, CANARY)


class serve_slowly:
    """Sends a beginning, and then nothing, or a trickle."""

    def __init__(self, part: bytes, trickle: bytes = b"") -> None:
        import socket
        import threading

        self._sock = socket.create_server(("127.0.0.1", 0))
        self._part, self._trickle = part, trickle
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        import contextlib

        with contextlib.suppress(OSError):
            peer, _ = self._sock.accept()
            with peer:
                peer.sendall(self._part)
                while not self._stop.wait(0.05):
                    peer.sendall(self._trickle)

    def __enter__(self) -> int:
        self._thread.start()
        return self._sock.getsockname()[1]

    def __exit__(self, *_: object) -> None:
        import socket

        self._stop.set()
        self._sock.shutdown(socket.SHUT_RDWR)  # nobody may have come: the time was over before
        self._thread.join(10)
        self._sock.close()
