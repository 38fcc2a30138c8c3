"""A token goes to whom it is meant for, whatever a URL looks like and wherever a redirect points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpcore
import httpx
import pytest

from spiffe_client.audit import MemorySink
from spiffe_client.errors import InvalidAudienceError, TokenOriginError, TokenRequestError
from spiffe_client.http import JwtSvidAuth, TokenAuth
from spiffe_client.http._destinations import Destinations
from spiffe_client.http._hops import AsyncHops, Hops
from spiffe_client.tokens import TokenRequest
from tests.support.http_faces import AsyncFace
from tests.support.protected import Answer, FakeBroker, Seen, Site, claims_of, serve_site, trust_web
from tests.support.web_servers import serve_proxy

pytestmark = pytest.mark.anyio

ORDERS = "https://orders.prod.example"


@pytest.fixture(scope="module")
def sites() -> Iterator[list[Site]]:
    with ExitStack() as running:
        yield [running.enter_context(serve_site(tls=tls)) for tls in (True, True, False)]


@pytest.fixture
def orders(sites: list[Site]) -> Site:
    sites[0].reset()
    return sites[0]


@pytest.fixture
def evil(sites: list[Site]) -> Site:
    """Another origin: the same host on another port."""
    sites[1].reset()
    return sites[1]


@pytest.fixture
def plain(sites: list[Site]) -> Site:
    sites[2].reset()
    return sites[2]


def client(face: type, auth: httpx.Auth, **options: Any) -> Any:
    return face(face.plain(auth=auth, **{"verify": trust_web(), "trust_env": False, **options}))


def auth_of(broker: FakeBroker, *origins: str) -> TokenAuth:
    return TokenAuth(broker, TokenRequest.of("orders:read"), origins=origins)  # type: ignore[arg-type]


def going_to(url: str, status: int = 307, path: str = "/from"):
    return lambda seen: Answer(status, {"location": url}) if seen.path == path else Answer()


@pytest.fixture(params=[False, True], ids=["bearer", "dpop"])
def broker(request: pytest.FixtureRequest) -> FakeBroker:
    return FakeBroker(dpop=request.param)


class TestRequests:
    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.example/",
            "https://evil.orders.prod.example/",
            "https://prod.example/",
            "https://orders.prod.example.evil.example/",
            "https://orders.prod.example:8443/",
            "https://orders.prod.example:80/",
            "http://orders.prod.example/",
            "http://orders.prod.example:443/",
            "wss://orders.prod.example/",
            "https://orders.prod.example@evil.example/",
            "https://orders.prod.example:x@evil.example/",
            "https://orders.prod.example%2f@evil.example/",
            "https://orders.prod.example\\@evil.example/",
            "https://evil.example\\@orders.prod.example.evil.example/",
            "https://orders.prod.example./",  # TLS and DNS know it as another name
            "https://orders.prod.example%2e/",
            "https://orders%2eprod.example/",
            "https://örders.prod.example/",
            "https://xn--rders-jua.prod.example/",
            "https://оrders.prod.example/",  # Cyrillic о
            "https://10.0.0.1/",
            "https://[::1]/",
        ],
    )
    async def test_attack_look_alikes(self, face: type, url: str) -> None:
        """Scheme, host and port as httpx connects to them, compared as a whole (RFC 6454 §5)."""
        broker = FakeBroker()
        async with client(face, auth_of(broker, ORDERS)) as http:
            with pytest.raises(TokenOriginError, match="did not get a token"):
                await http.get(url)

        assert 0 == broker.fetched

    @pytest.mark.parametrize(
        ("url", "origin"),
        [
            ("HTTPS://ORDERS.prod.example/x", ORDERS),
            ("https://orders.prod.example:443/x", ORDERS),
            ("https://bücher.example/", "https://xn--bcher-kva.example"),
            ("https://[2001:DB8::1]:8443/", "https://[2001:db8::1]:8443"),
            ("https://user:password@orders.prod.example/", ORDERS),
        ],
    )
    def test_other_spellings_of_the_same(self, url: str, origin: str) -> None:
        """Case, the default port and internationalised names make no difference; nor does user information."""
        flow = auth_of(FakeBroker(), origin).sync_auth_flow(httpx.Request("GET", url))

        assert None is not next(flow)
        with pytest.raises(StopIteration):
            flow.send(httpx.Response(200, request=httpx.Request("GET", url)))

    async def test_a_password_in_the_url_is_not_in_the_proof(self, orders: Site) -> None:
        """And not in a header: with an auth of ours httpx makes no Basic of it."""
        url = orders.origin.replace("https://", "https://user:password@")
        async with client(AsyncFace, auth_of(FakeBroker(dpop=True), orders.origin)) as http:
            await http.get(f"{url}/v1")

        assert f"{orders.origin}/v1" == claims_of(orders.seen[0].proof)["htu"]
        assert ["DPoP token-1"] == orders.seen[0].all("authorization")

    @pytest.mark.parametrize("name", ["Authorization", "DPoP", "authorization"])
    async def test_a_header_of_the_users_own_is_not_replaced(
        self, face: type, orders: Site, name: str
    ) -> None:
        """Which of two credentials is meant cannot be told; nothing is sent."""
        async with client(face, auth_of(FakeBroker(), orders.origin), headers={name: "mine"}) as http:
            with pytest.raises(TokenRequestError, match="auth=None") as refused:
                await http.get(orders.origin)
            assert 200 == (await http.get(orders.origin, auth=None)).status_code

        assert "mine" not in str(refused.value)
        assert [["mine"]] == [seen.all(name.lower()) for seen in orders.seen]


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_attack_elsewhere(
        self, face: type, orders: Site, evil: Site, broker: FakeBroker, status: int
    ) -> None:
        """Followed as httpx does, without token and proof."""
        orders.answer = going_to(f"{evil.origin}/loot", status)
        async with client(face, auth_of(broker, orders.origin), follow_redirects=True) as http:
            assert 200 == (await http.get(f"{orders.origin}/from")).status_code

        assert [("/loot", [], [])] == [(s.path, s.all("authorization"), s.all("dpop")) for s in evil.seen]

    async def test_told_where_it_was_not_sent(
        self, face: type, orders: Site, evil: Site, broker: FakeBroker
    ) -> None:
        """Once, whether the token had to be fetched first or was at hand; nothing else of the address."""
        orders.answer = going_to(f"{evil.origin}/loot?canary")
        sink = MemorySink()
        for first in (True, False):
            broker.held = None if first else broker.held
            auth = TokenAuth(broker, TokenRequest.of("orders:read"), origins=[orders.origin], on_event=sink)  # type: ignore[arg-type]
            async with client(face, auth, follow_redirects=True) as http:
                for _ in range(2):
                    assert 200 == (await http.get(f"{orders.origin}/from")).status_code
        assert [("credential.withheld", evil.origin)] * 2 == [
            (event.name, event.attributes["origin"]) for event in sink.events
        ]
        assert "canary" not in repr(sink.events)

    async def test_attack_from_https_to_http(
        self, face: type, orders: Site, plain: Site, broker: FakeBroker
    ) -> None:
        """The same host without TLS is another origin, even where both are this machine."""
        orders.answer = going_to(f"{plain.origin}/loot")
        async with client(face, auth_of(broker, orders.origin), follow_redirects=True) as http:
            assert 200 == (await http.get(f"{orders.origin}/from")).status_code

        assert [(None, None)] == [(seen.authorization, seen.proof) for seen in plain.seen]

    async def test_attack_elsewhere_asks_for_it(
        self, face: type, orders: Site, evil: Site, broker: FakeBroker
    ) -> None:
        """Who we were redirected to can neither get the token by a challenge, nor have it thrown away, nor
        leave a nonce."""
        orders.answer = going_to(evil.origin)
        evil.answer = lambda seen: Answer(
            401,
            {
                "www-authenticate": 'DPoP error="use_dpop_nonce", Bearer error="invalid_token"',
                "dpop-nonce": "theirs",
            },
        )
        async with client(face, auth_of(broker, orders.origin), follow_redirects=True) as http:
            assert 401 == (await http.get(f"{orders.origin}/from")).status_code

        assert [None] == [seen.authorization for seen in evil.seen]
        assert [] == broker.purged
        assert None is broker.nonces.of(orders.origin)
        assert None is broker.nonces.of(evil.origin)

    async def test_attack_there_and_back(
        self, face: type, orders: Site, evil: Site, broker: FakeBroker
    ) -> None:
        """What comes back from elsewhere comes without a token; it is given one there, once."""
        orders.answer = lambda seen: (
            Answer(307, {"location": f"{evil.origin}/from"})
            if seen.path == "/from"
            else Answer(200 if seen.authorization else 401)
        )
        evil.answer = going_to(f"{orders.origin}/back")
        async with client(face, auth_of(broker, orders.origin), follow_redirects=True) as http:
            assert 200 == (await http.get(f"{orders.origin}/from")).status_code

        assert [None] == [seen.authorization for seen in evil.seen]
        assert [False, True] == [bool(s.authorization) for s in orders.seen if s.path == "/back"]

    async def test_within_the_origin(self, face: type, orders: Site, broker: FakeBroker) -> None:
        """The token goes along; a proof is made anew for the new target (RFC 9449 §4.3)."""
        orders.answer = going_to("/to?page=2")
        async with client(face, auth_of(broker, orders.origin), follow_redirects=True) as http:
            await http.post(f"{orders.origin}/from", content=b"x")

        assert 2 == len(orders.seen)
        assert 1 == len({seen.authorization for seen in orders.seen})
        assert [b"x"] * 2 == [seen.body for seen in orders.seen]
        if broker.dpop:
            claims = [claims_of(seen.proof) for seen in orders.seen]
            assert [f"{orders.origin}/from", f"{orders.origin}/to"] == [c["htu"] for c in claims]
            assert claims[0]["jti"] != claims[1]["jti"]

    async def test_the_method_changes(self, face: type, orders: Site) -> None:
        """303 makes a GET of a POST, and the proof says so."""
        orders.answer = going_to("/to", 303)
        broker = FakeBroker(dpop=True)
        async with client(face, auth_of(broker, orders.origin), follow_redirects=True) as http:
            await http.post(f"{orders.origin}/from", content=b"x")

        assert ["POST", "GET"] == [claims_of(seen.proof)["htm"] for seen in orders.seen]

    async def test_a_refusal_after_a_redirect_repeats_the_last_step_only(
        self, face: type, orders: Site, broker: FakeBroker
    ) -> None:
        """A POST that was done and answered 303 is not done again."""
        refused = iter([True, False])
        orders.answer = lambda seen: (
            Answer(303, {"location": "/to"})
            if seen.path == "/from"
            else Answer(401, {"www-authenticate": 'Bearer error="invalid_token"'})
            if next(refused)
            else Answer()
        )
        async with client(face, auth_of(broker, orders.origin), follow_redirects=True) as http:
            assert 200 == (await http.post(f"{orders.origin}/from", content=b"x")).status_code

        assert ["/from", "/to", "/to"] == [seen.path for seen in orders.seen]
        assert orders.seen[-1].authorization.endswith(" token-2")

    async def test_another_origin_that_is_meant_too(
        self, face: type, orders: Site, evil: Site, broker: FakeBroker
    ) -> None:
        """httpx takes the token off; where it is wanted and may go it is put on again."""
        orders.answer = going_to(f"{evil.origin}/v1")
        evil.answer = lambda seen: Answer(200 if seen.authorization else 401)
        async with client(face, auth_of(broker, orders.origin, evil.origin), follow_redirects=True) as http:
            assert 200 == (await http.get(f"{orders.origin}/from")).status_code

        assert [False, True] == [bool(seen.authorization) for seen in evil.seen]
        assert [False, bool(broker.dpop)] == [bool(seen.proof) for seen in evil.seen]

    async def test_one_that_never_lets_us_in(
        self, face: type, orders: Site, evil: Site, broker: FakeBroker
    ) -> None:
        """It is asked with the token once, not for ever."""
        orders.answer = going_to(f"{evil.origin}/v1")
        evil.answer = lambda seen: Answer(401)
        async with client(face, auth_of(broker, orders.origin, evil.origin), follow_redirects=True) as http:
            assert 401 == (await http.get(f"{orders.origin}/from")).status_code

        assert [False, True] == [bool(seen.authorization) for seen in evil.seen]

    async def test_redirects_that_are_not_followed(
        self, face: type, orders: Site, evil: Site, broker: FakeBroker
    ) -> None:
        """What httpx offers as `next_request` has no token, and is refused by this auth."""
        orders.answer = going_to(evil.origin)
        async with client(face, auth_of(broker, orders.origin)) as http:
            response = await http.get(f"{orders.origin}/from")
            with pytest.raises(TokenOriginError):
                await http.send(response.next_request)

        assert [] == evil.seen

    @pytest.mark.parametrize("kind", ["token", "jwt"])
    def test_attack_from_http_to_https_of_one_host(self, plain: Site, evil: Site, kind: str) -> None:
        """httpx lets `Authorization` go along from port 80 to port 443; the origin is another one."""
        ports = {80: int(plain.origin.rpartition(":")[2]), 443: int(evil.origin.rpartition(":")[2])}

        class Rerouted(httpcore.SyncBackend):
            def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
                return super().connect_tcp(host, ports[port], *args, **kwargs)

        plain.answer = going_to("https://localhost/loot")
        origins = ["http://localhost"]
        auth = (
            auth_of(FakeBroker(), *origins)
            if kind == "token"
            else JwtSvidAuth(_Source(asynchronous=False), "orders", origins=origins)
        )
        transport = httpx.HTTPTransport()
        transport._pool = httpcore.ConnectionPool(ssl_context=trust_web(), network_backend=Rerouted())
        with httpx.Client(auth=auth, transport=transport, follow_redirects=True) as http:
            assert 200 == http.get("http://localhost/from").status_code

        assert [True] == [bool(seen.authorization) for seen in plain.seen]
        assert [("/loot", None)] == [(seen.path, seen.authorization) for seen in evil.seen]

    async def test_a_jwt_svid_does_not_go_along_either(self, face: type, orders: Site, evil: Site) -> None:
        """The same for the other auth."""
        orders.answer = going_to(evil.origin)
        auth = JwtSvidAuth(_Source(face is AsyncFace), orders.origin)
        async with client(face, auth, follow_redirects=True) as http:
            await http.get(f"{orders.origin}/from")

        assert ["Bearer a.b.c"] == [seen.authorization for seen in orders.seen]
        assert [None] == [seen.authorization for seen in evil.seen]


class _Svid:
    class token:
        @staticmethod
        def reveal() -> str:
            return "a.b.c"


class _Source:
    """A Workload, or a blocking one."""

    def __init__(self, asynchronous: bool) -> None:
        self._asynchronous = asynchronous

    def jwt_svid(self, audience: str) -> Any:
        async def fetch() -> _Svid:
            return _Svid()

        return fetch() if self._asynchronous else _Svid()


class TestJwtSvid:
    async def test_it_is_a_bearer_token(self, face: type, orders: Site) -> None:
        """JWT-SVID §5.1; nothing is tried again, since there is nothing to throw away."""
        orders.answer = lambda seen: Answer(401, {"www-authenticate": 'Bearer error="invalid_token"'})
        async with client(face, JwtSvidAuth(_Source(face is AsyncFace), orders.origin)) as http:
            assert 401 == (await http.get(f"{orders.origin}/v1")).status_code

        assert ["Bearer a.b.c"] == [seen.authorization for seen in orders.seen]

    async def test_this_machine(self, face: type, plain: Site) -> None:
        """Without TLS, for development."""
        auth = JwtSvidAuth(_Source(face is AsyncFace), "orders", origins=[plain.origin])
        async with client(face, auth) as http:
            await http.get(plain.origin)

        assert ["Bearer a.b.c"] == [seen.authorization for seen in plain.seen]

    @pytest.mark.parametrize("audience", ["", " "])
    async def test_for_nobody(self, face: type, audience: str) -> None:
        """Said when it is made, and not of an origin that it has not."""
        with pytest.raises(InvalidAudienceError, match="needs an audience"):
            JwtSvidAuth(_Source(face is AsyncFace), audience, origins=[ORDERS])

    async def test_elsewhere(self, face: type, evil: Site) -> None:
        """Not asked for, not sent."""
        async with client(face, JwtSvidAuth(_Source(face is AsyncFace), ORDERS)) as http:
            with pytest.raises(TokenOriginError, match="a JWT-SVID for https://orders.prod.example"):
                await http.get(evil.origin)

    async def test_the_wrong_workload_for_the_client(self, face: type) -> None:
        """A coroutine is no JWT-SVID, and a blocking call has no business on an event loop."""
        async with client(face, JwtSvidAuth(_Source(face is not AsyncFace), ORDERS)) as http:
            with pytest.raises(TokenRequestError, match="give it a"):
                await http.get(ORDERS)


class TestOtherTransports:
    """Transports that know nothing of httpcore's `trace`."""

    @staticmethod
    def _client(face: type, answer: Any, auth: TokenAuth, **options: Any) -> Any:
        return face(face.plain(auth=auth, transport=httpx.MockTransport(answer), **options))

    async def test_a_stale_proof_is_made_anew(self, face: type) -> None:
        """The server refuses the redirected one; the next has the right target."""
        broker = FakeBroker(dpop=True)
        targets: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/from":
                return httpx.Response(307, headers={"location": "/to"})
            targets.append(claims_of(request.headers["dpop"])["htu"])
            return httpx.Response(200 if targets[-1].endswith("/to") else 401)

        async with self._client(face, answer, auth_of(broker, ORDERS), follow_redirects=True) as http:
            assert 200 == (await http.get(f"{ORDERS}/from")).status_code

        assert [f"{ORDERS}/from", f"{ORDERS}/to"] == targets

    async def test_a_transport_that_sends_again_does_not_replay_a_proof(self, orders: Site) -> None:
        """A proof is for one try (RFC 9449 §4.2), also where a transport below retries by itself."""

        class Twice(httpx.AsyncHTTPTransport):
            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                first = await super().handle_async_request(request)
                await first.aread()
                await first.aclose()
                return await super().handle_async_request(request)

        auth = auth_of(FakeBroker(dpop=True), orders.origin)
        async with httpx.AsyncClient(auth=auth, transport=Twice(verify=trust_web())) as http:
            await http.get(f"{orders.origin}/v1")

        assert 2 == len({claims_of(seen.proof)["jti"] for seen in orders.seen})

    async def test_through_a_proxy(self, orders: Site) -> None:
        """The proxy gets a CONNECT with nothing of ours; the proof inside the tunnel is the first one."""
        auth = auth_of(FakeBroker(dpop=True), orders.origin)
        with serve_proxy() as proxy:
            options = {"proxy": f"http://127.0.0.1:{proxy.port}"}
            async with client(AsyncFace, auth, **options) as http:
                assert 200 == (await http.get(f"{orders.origin}/v1")).status_code

        assert [(orders.origin.removeprefix("https://"), None)] == proxy.tunnels
        assert f"{orders.origin}/v1" == claims_of(orders.seen[0].proof)["htu"]

    async def test_attack_a_proxy_sees_no_token_in_the_clear(self, face: type, plain: Site) -> None:
        """To this machine without TLS, a proxy of the environment would read it; it gets the bare request."""
        for broker in (FakeBroker(), FakeBroker(dpop=True)):
            auth = auth_of(broker, "http://localhost:1")
            async with client(face, auth, proxy=plain.origin) as http:
                await http.get("http://localhost:1/v1")

        assert [(None, None)] * 2 == [(seen.authorization, seen.proof) for seen in plain.seen]

    async def test_another_target_than_the_url(self, orders: Site) -> None:
        """httpx's `target` extension asks for something else; the proof is for what is asked."""
        auth = auth_of(FakeBroker(dpop=True), orders.origin)
        async with client(AsyncFace, auth) as http:
            await http.get(f"{orders.origin}/v1", extensions={"target": b"/v2"})

        assert ["/v2"] == [seen.path for seen in orders.seen]
        assert f"{orders.origin}/v2" == claims_of(orders.seen[0].proof)["htu"]

    def test_shows_nothing(self) -> None:
        """In the extensions of a request that somebody prints."""
        request = httpx.Request("GET", ORDERS)

        assert "Hops" == repr(Hops(request, frozenset(), None))
        assert "{'trace': AsyncHops}" == repr(
            {**request.extensions, "trace": AsyncHops(request, frozenset(), None)}
        )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            "https://refunds.prod.example/v1",
            "https://refunds.prod.example did not get a token for https://orders.prod.example, which goes to "
            'https://orders.prod.example; ask for one with audience="https://refunds.prod.example", or name it in '
            "origins=",
        ),
        (
            "http://orders.prod.example/v1",
            "http://orders.prod.example did not get a token for https://orders.prod.example, which goes to "
            "https://orders.prod.example; say https://orders.prod.example",
        ),
        (
            "http://refunds.prod.example/v1",
            "http://refunds.prod.example did not get a token for https://orders.prod.example, which goes to "
            "https://orders.prod.example; it has no TLS, so it gets none",
        ),
        (
            "http://127.0.0.1:8080/v1",
            "http://127.0.0.1:8080 did not get a token for https://orders.prod.example, which goes to "
            'https://orders.prod.example; ask for one with audience="http://127.0.0.1:8080", or name it in origins=',
        ),
    ],
)
def test_what_to_do_about_another_origin(asked, said) -> None:
    """Who is told that a token was not sent is told how to have one sent."""
    destinations = Destinations(
        "a token for https://orders.prod.example", ["https://orders.prod.example"], ()
    )
    with pytest.raises(TokenOriginError) as e:
        destinations.check(httpx.Request("GET", asked))
    assert said == str(e.value)
