"""The drop-in clients do what httpx's clients do: one script, run through both, results compared.

The server is the same, with the same SPIFFE TLS; plain httpx gets there with the certificates in
files, as one would write it without SPIFFE.
"""

from __future__ import annotations

import inspect
import json
import logging
import ssl
from collections.abc import Awaitable, Callable

import anyio
import httpx
import pytest

from spiffe_client.authorize import member_of
from spiffe_client.http import AsyncClient, Client
from spiffe_client.tls import SpiffeTls
from tests.support.http_faces import AsyncFace, BlockingFace
from tests.support.shop import SHOP, WEB, Shop, shop_app, static_client_context
from tests.support.web_servers import serve_hypercorn, serve_proxy, serve_uvicorn

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def world(shop: Shop, tmp_path_factory):
    """One HTTP/1.1 and one HTTP/2 server, for all scripts."""
    tls = SpiffeTls(shop.context(SHOP), member_of("shop.test"))
    context = tls.server_context()
    with serve_uvicorn(shop_app(), context) as h1, serve_hypercorn(shop_app(), tls.server_context()) as h2:
        svid = shop.issue(WEB)
        yield {
            "h1": f"https://localhost:{h1}",
            "h2": f"https://localhost:{h2}",
            "identity": shop.context(svid),
            "verify": static_client_context(shop, svid, tmp_path_factory.mktemp("static")),
        }


Opener = Callable[..., AsyncFace | BlockingFace]


@pytest.fixture
def openers(world, face) -> tuple[Opener, Opener]:
    """How each kind of client is made from the same arguments."""
    ours = AsyncClient if face.is_async else Client

    def open_plain(**options):
        return face(face.plain(verify=world["verify"], **options))

    def open_ours(**options):
        return face(ours(peer=SHOP, workload=world["identity"], **options))

    return open_plain, open_ours


def told(response: httpx.Response) -> dict:
    """Everything about a response that does not change from run to run."""
    return {
        "status": response.status_code,
        "reason": response.reason_phrase,
        "version": response.http_version,
        "headers": sorted((k, v) for k, v in response.headers.items() if k not in ("date", "server")),
        "body": response.text,
        "url": str(response.url),
        "request": [
            response.request.method,
            str(response.request.url),
            sorted(response.request.headers.items()),
        ],
        "history": [(r.status_code, str(r.url)) for r in response.history],
        "cookies": sorted(response.cookies.items()),
        "encoding": response.encoding,
        "extensions": sorted(response.extensions),
        "elapsed": hasattr(response, "_elapsed"),
        "downloaded": response.num_bytes_downloaded,
        "closed": response.is_closed,
        "next": response.next_request and str(response.next_request.url),
    }


async def failing(attempt: Awaitable) -> list:
    try:
        await attempt
    except Exception as error:
        request = getattr(error, "_request", None)
        return [type(error).__mro__, str(error), request and str(request.url)]
    raise AssertionError("it should have failed")


async def methods(open_client: Opener, url: str) -> list:
    async with open_client() as client:
        verbs = ("GET", "OPTIONS", "HEAD", "POST", "PUT", "PATCH", "DELETE", "QUERY")
        return [told(await client.request(verb, f"{url}/a/b?c=d")) for verb in verbs]


async def request_arguments(open_client: Opener, url: str) -> list:
    async with open_client(
        headers={"X-Client": "one", "X-Both": "client"}, params={"client": 1}, cookies={"c": "client"}
    ) as client:
        return [
            told(await client.get(f"{url}/", params={"q": ["a", "b c"]}, headers={"X-Both": "request"})),
            told(await client.post(f"{url}/", json={"a": [1, None]})),
            told(await client.post(f"{url}/", data={"a": "b", "c": ["d", "e"]})),
            told(await client.post(f"{url}/", content=b"\x00\x01", headers={"content-type": "x/y"})),
            told(
                await client.post(
                    f"{url}/",
                    files={"f": ("n.txt", b"text")},
                    headers={"content-type": "multipart/form-data; boundary=fixed"},
                )
            ),
        ]


async def base_url(open_client: Opener, url: str) -> list:
    async with open_client(base_url=f"{url}/v1/") as client:
        urls = ("orders", "/orders", "orders?a=b", "", "/", f"{url}/v2", "../up")
        return [told(await client.get(u)) for u in urls] + [str(client.client.base_url)]


async def statuses(open_client: Opener, url: str) -> list:
    async with open_client() as client:
        found = []
        for status in (204, 304, 404, 418, 500):
            response = await client.get(f"{url}/status/{status}")
            found.append(told(response))
            try:
                response.raise_for_status()
            except httpx.HTTPStatusError as error:
                found.append(str(error))
        return found


async def redirects(open_client: Opener, url: str) -> list:
    async with open_client(max_redirects=3) as client:
        return [
            told(await client.get(f"{url}/redirect?/a")),
            told(await client.get(f"{url}/redirect?/a", follow_redirects=True)),
            told(await client.post(f"{url}/redirect?/a", content=b"x", follow_redirects=True)),
            told(await client.get(f"{url}/redirect?{url}/redirect?/b", follow_redirects=True)),
            await failing(client.get(f"{url}/loop", follow_redirects=True)),
        ]


async def redirects_by_default(open_client: Opener, url: str) -> list:
    async with open_client(follow_redirects=True) as client:
        return [
            told(await client.get(f"{url}/redirect?/a")),
            told(await client.get(f"{url}/redirect?/a", follow_redirects=False)),
        ]


async def cookies(open_client: Opener, url: str) -> list:
    async with open_client() as client:
        first = told(await client.get(f"{url}/login"))
        second = told(await client.get(f"{url}/who"))
        return [first, second, sorted(client.client.cookies.items())]


async def streaming(open_client: Opener, url: str) -> list:
    async with open_client() as client:
        async with client.stream("GET", f"{url}/stream") as stream:
            found = [stream.response.is_closed, await stream.read(), stream.response.is_closed]
        async with client.stream("GET", f"{url}/stream") as stream:
            found.append([len(chunk) async for chunk in stream.chunks(999)])
        async with client.stream("GET", f"{url}/stream") as stream:
            found.append(b"".join([chunk async for chunk in stream.raw()]))
        async with client.stream("GET", f"{url}/a/b") as stream:
            found.append([line async for line in stream.lines()])
        async with client.stream("GET", f"{url}/stream") as stream:
            pass  # abandoned
        found.append(await failing(stream.read()))
        found.append(told(await client.get(f"{url}/")))
        return found


async def upload(open_client: Opener, url: str) -> list:
    chunks = (b"one", b"", b"x" * 100_000)

    def fine():
        yield from chunks

    def broken():
        yield b"one"
        raise KeyError("the upload's own")

    def content(generate):
        async def generate_async():
            for chunk in generate():
                yield chunk

        return generate_async() if client.is_async else generate()

    async with open_client() as client:
        return [
            told(await client.post(f"{url}/", content=content(fine))),
            await failing(client.post(f"{url}/", content=content(broken))),
            told(await client.get(f"{url}/")),
        ]


async def hooks(open_client: Opener, url: str) -> list:
    calls: list = []

    def hook(name):
        def call(message):
            calls.append((name, type(message).__name__, str(message.url)))

        async def call_async(message):
            call(message)

        return call, call_async

    async with open_client() as client:
        kind = client.is_async
        client.client.event_hooks = {
            "request": [hook("request 1")[kind], hook("request 2")[kind]],
            "response": [hook("response")[kind]],
        }
        await client.get(f"{url}/redirect?/a", follow_redirects=True)

        def fail(message):
            raise ValueError("the hook's own")

        async def fail_async(message):
            fail(message)

        client.client.event_hooks = {"response": [fail_async if kind else fail]}
        calls.append(await failing(client.get(f"{url}/")))
    return calls


async def auth(open_client: Opener, url: str) -> list:
    class Challenge(httpx.Auth):
        requires_response_body = True

        def auth_flow(self, request):
            response = yield request
            request.headers["authorization"] = f"Seen {response.status_code} {len(response.content)}"
            yield request

    async with open_client(auth=("user", "pass")) as client:
        return [
            told(await client.get(f"{url}/challenge")),
            told(await client.get(f"{url}/challenge", auth=None)),
            told(await client.get(f"{url}/challenge", auth=Challenge())),
        ]


async def encodings(open_client: Opener, url: str) -> list:
    async with open_client(default_encoding="latin-1") as client:
        return [told(await client.get(f"{url}/latin"))]


async def read_timeout(open_client: Opener, url: str) -> list:
    async with open_client(timeout=httpx.Timeout(5, read=0.05)) as client:
        return [await failing(client.get(f"{url}/never"))]


async def pool_timeout(open_client: Opener, url: str) -> list:
    found: list = []
    limits = httpx.Limits(max_connections=1)
    async with open_client(limits=limits, timeout=httpx.Timeout(5, pool=0.05)) as client:
        async with client.stream("GET", f"{url}/stream"):
            found.append(await failing(client.get(f"{url}/", timeout=httpx.Timeout(5, pool=0.01))))
        found.append(told(await client.get(f"{url}/")))
    return found


async def errors(open_client: Opener, url: str) -> list:
    async with open_client() as client:
        return [
            await failing(client.get("https://localhost:1/")),
            await failing(client.get("https://host.invalid/")),
            await failing(client.get("https://[bad/")),
            await failing(client.get(f"{url}/", headers={"bad name": "x"})),
            await failing(client.get(f"{url}/", headers={"bad": "a\nb"})),
            await failing(client.get("localhost")),
        ]


async def lifetime(open_client: Opener, url: str) -> list:
    client = open_client()
    found = [client.client.is_closed, told(await client.get(f"{url}/"))]
    await client.aclose()
    found += [client.client.is_closed, await failing(client.get(f"{url}/"))]
    await client.aclose()
    found.append(await failing(client.__aenter__()))

    async with open_client() as client:
        found.append(await failing(client.__aenter__()))
    found.append(await failing(client.get(f"{url}/")))

    try:
        async with open_client() as client:
            raise KeyError("the caller's own")
    except KeyError as error:
        found.append(repr(error))
    return found


async def build_and_send(open_client: Opener, url: str) -> list:
    async with open_client(headers={"x": "y"}) as client:
        request = client.client.build_request("GET", f"{url}/stream")
        response = await client.send(request, stream=True)
        found = [response.is_closed, sorted(response.extensions)]
        if isinstance(client, AsyncFace):
            found.append(await response.aread())
        else:
            found.append(response.read())
        return [
            *found,
            told(response),
            told(await client.send(client.client.build_request("GET", f"{url}/"))),
        ]


async def settings(open_client: Opener, url: str) -> list:
    client = open_client(trust_env=False, timeout=3, params={"a": "b"}, headers={"x": "y"})
    async with client:
        plain = client.client
        return [
            plain.trust_env,
            plain.timeout,
            plain.params,
            sorted(plain.headers.items()),
            plain.auth,
            plain.max_redirects,
        ]


SCRIPTS = [
    methods,
    request_arguments,
    base_url,
    statuses,
    redirects,
    redirects_by_default,
    cookies,
    streaming,
    upload,
    hooks,
    auth,
    encodings,
    read_timeout,
    pool_timeout,
    errors,
    lifetime,
    build_and_send,
    settings,
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.__name__)
async def test_script(openers, world, script) -> None:
    """The same results, whichever client ran it."""
    open_plain, open_ours = openers

    expected = await script(open_plain, world["h1"])

    assert expected == await script(open_ours, world["h1"])


@pytest.mark.parametrize(
    "script",
    [methods, request_arguments, redirects, cookies, streaming, upload, read_timeout],
    ids=lambda s: s.__name__,
)
async def test_script_over_http2(openers, world, script) -> None:
    """The same over HTTP/2, where both ends are asked for it."""
    open_plain, open_ours = openers

    expected = await script(lambda **options: open_plain(http2=True, **options), world["h2"])

    assert "HTTP/2" in str(expected) or script in (streaming, read_timeout)
    assert expected == await script(lambda **options: open_ours(http2=True, **options), world["h2"])


@pytest.mark.parametrize(
    ("options", "version"),
    [({}, "HTTP/1.1"), ({"http2": True}, "HTTP/2"), ({"http1": False, "http2": True}, "HTTP/2")],
    ids=str,
)
async def test_negotiated_protocol(openers, world, options, version) -> None:
    """ALPN is httpx's business and works through ours."""
    for opener in openers:
        async with opener(**options) as client:
            assert version == (await client.get(world["h2"])).http_version


class TestProxy:
    async def test_tunnel(self, openers, world) -> None:
        """CONNECT, with the same TLS inside; credentials go to the proxy alone."""
        found = []
        for opener in openers:
            with serve_proxy() as proxy:
                async with opener(proxy=f"http://user:pass@127.0.0.1:{proxy.port}") as client:
                    found.append([told(await client.get(world["h1"])), proxy.tunnels])

        assert found[0] == found[1]
        assert ("Basic dXNlcjpwYXNz",) == found[1][1][0][1:]

    async def test_tunnel_with_http2(self, openers, world) -> None:
        """ALPN reaches through the tunnel."""
        for opener in openers:
            with serve_proxy() as proxy:
                async with opener(proxy=f"http://127.0.0.1:{proxy.port}", http2=True) as client:
                    assert "HTTP/2" == (await client.get(world["h2"])).http_version
                assert 1 == len(proxy.tunnels)

    async def test_proxy_behind_tls(self, openers, world, shop, tmp_path) -> None:
        """TLS to the proxy is the proxy's own, SPIFFE TLS goes inside of it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        svid = shop.issue("spiffe://shop.test/proxy")
        path = tmp_path / "proxy.pem"
        path.write_bytes(svid.key_pem().reveal() + svid.chain_pem())
        context.load_cert_chain(path)
        trusting = ssl.create_default_context(cadata=shop.ca.x509_bundle.to_pem().decode())
        trusting.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        for opener in openers:
            with serve_proxy(context) as proxy:
                there = httpx.Proxy(f"https://localhost:{proxy.port}", ssl_context=trusting)
                async with opener(proxy=there) as client:
                    assert 200 == (await client.get(world["h1"])).status_code
                assert 1 == len(proxy.tunnels)

    async def test_proxy_that_refuses(self, openers, world) -> None:
        """A proxy's own error comes through as from httpx."""
        found = []
        for opener in openers:
            with serve_proxy() as proxy:
                async with opener(proxy=f"http://127.0.0.1:{proxy.port}") as client:
                    found.append(await failing(client.get("https://forbidden.test/")))

        assert found[0] == found[1]
        assert httpx.ProxyError is found[1][0][0]

    @pytest.mark.parametrize(("no_proxy", "tunnels"), [("", 1), ("localhost", 0)])
    async def test_environment(self, openers, world, monkeypatch, no_proxy, tunnels) -> None:
        """`HTTPS_PROXY` and `NO_PROXY` are honoured, and not with `trust_env=False`."""
        for opener in openers:
            with serve_proxy() as proxy:
                monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
                monkeypatch.setenv("NO_PROXY", no_proxy)
                async with opener() as client:
                    await client.get(world["h1"])
                assert tunnels == len(proxy.tunnels)
                async with opener(trust_env=False) as client:
                    await client.get(world["h1"])
                assert tunnels == len(proxy.tunnels)


class TestMounts:
    async def test_named_host(self, openers, world, face) -> None:
        """A mount of the caller serves its host, and our TLS all others."""
        found = []
        for opener in openers:
            mock = httpx.MockTransport(lambda request: httpx.Response(203, text="mounted"))
            async with opener(mounts={"https://api.test": mock, "http://": None}) as client:
                found.append(
                    [told(await client.get("https://api.test/")), told(await client.get(world["h1"]))]
                )

        assert found[0] == found[1]
        assert 203 == found[1][0]["status"]


def test_real_subclasses() -> None:
    """Whatever takes httpx's clients takes ours."""
    assert issubclass(AsyncClient, httpx.AsyncClient)
    assert issubclass(Client, httpx.Client)


@pytest.mark.parametrize(("ours", "plain"), [(AsyncClient, httpx.AsyncClient), (Client, httpx.Client)])
def test_every_argument_of_httpx_is_known(ours, plain) -> None:
    """An argument that a new httpx brings is noticed here: it must be passed on or refused, on purpose."""
    options = inspect.signature(ours.__init__).parameters["options"].annotation
    names = set(
        __import__("spiffe_client.http._options", fromlist=["x"])
        .__dict__[options.removeprefix("Unpack[").removesuffix("]")]
        .__annotations__
    )

    assert {n for n in inspect.signature(plain.__init__).parameters if n != "self"} == names | {
        "verify",
        "cert",
        "transport",
    }
