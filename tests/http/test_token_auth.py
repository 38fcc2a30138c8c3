"""Tokens on requests: who gets them, and what happens when a server does not like them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from spiffe_client.errors import (
    TokenBrokerUnavailableError,
    TokenOriginError,
    TokenRequestError,
    UnacceptableTokenError,
)
from spiffe_client.http import TokenAuth
from spiffe_client.tokens import TokenRequest
from spiffe_client.tokens._dpop import DpopKey
from tests.support.canary import assert_no_secret
from tests.support.http_faces import AsyncFace, BlockingFace
from tests.support.manual_clock import ManualClock
from tests.support.protected import (
    Answer,
    FakeBroker,
    Seen,
    Site,
    access_token,
    claims_of,
    serve_site,
    trust_web,
)
from tests.support.work import counted

pytestmark = pytest.mark.anyio

INVALID = {"www-authenticate": 'Bearer realm="orders", error="invalid_token"'}
INVALID_DPOP = {"www-authenticate": 'DPoP error="invalid_token", algs="ES256"'}


@pytest.fixture(scope="module")
def sites() -> Iterator[tuple[Site, Site, Site]]:
    with ExitStack() as running:
        yield tuple(running.enter_context(serve_site(tls=tls)) for tls in (True, True, False))


@pytest.fixture
def orders(sites: tuple[Site, Site, Site]) -> Site:
    """The service that the token is for."""
    sites[0].reset()
    return sites[0]


@pytest.fixture
def elsewhere(sites: tuple[Site, Site, Site]) -> Site:
    """Another origin: the same host on another port."""
    sites[1].reset()
    return sites[1]


@pytest.fixture
def plain(sites: tuple[Site, Site, Site]) -> Site:
    """A service on this machine without TLS."""
    sites[2].reset()
    return sites[2]


@asynccontextmanager
async def calling(face: type, auth: httpx.Auth, **options: Any) -> AsyncIterator[Any]:
    options = {"verify": trust_web(), "trust_env": False, **options}
    async with face(face.plain(auth=auth, **options)) as client:
        yield client


def auth_for(site: Site | str, broker: FakeBroker, **options: Any) -> TokenAuth:
    origin = site.origin if isinstance(site, Site) else site
    return TokenAuth(broker, TokenRequest.of("orders:read", audience=origin), **options)  # type: ignore[arg-type]


def refusing(times: int, headers: dict[str, str], status: int = 401):
    """Refuse the first few requests."""
    left = [times]

    def answer(seen: Seen) -> Answer:
        left[0] -= 1
        return Answer(status, headers) if left[0] >= 0 else Answer()

    return answer


class TestBearer:
    async def test_each_request_carries_it(self, face: type, orders: Site) -> None:
        """RFC 6750 §2.1; fetched once, then from memory."""
        broker = FakeBroker()
        async with calling(face, auth_for(orders, broker)) as http:
            for _ in range(3):
                assert 200 == (await http.get(f"{orders.origin}/v1/orders")).status_code

        assert ["Bearer token-1"] * 3 == [seen.authorization for seen in orders.seen]
        assert 1 == broker.fetched
        assert [[]] * 3 == [seen.all("dpop") for seen in orders.seen]

    async def test_a_new_token_is_used_at_once(self, face: type, orders: Site) -> None:
        """Whatever is current goes out: nothing is kept here."""
        broker = FakeBroker()
        async with calling(face, auth_for(orders, broker)) as http:
            await http.get(orders.origin)
            broker.held = None
            await http.get(orders.origin)

        assert ["Bearer token-1", "Bearer token-2"] == [seen.authorization for seen in orders.seen]

    async def test_an_invalid_token_is_forgotten_and_replaced(self, face: type, orders: Site) -> None:
        """RFC 6750 §3.1: once more, with another token; the caller sees only the good answer."""
        broker = FakeBroker()
        orders.answer = refusing(1, INVALID)
        async with calling(face, auth_for(orders, broker)) as http:
            response = await http.post(f"{orders.origin}/v1/orders", content=b"one order")

        assert 200 == response.status_code
        assert ["Bearer token-1", "Bearer token-2"] == [seen.authorization for seen in orders.seen]
        assert [b"one order"] * 2 == [seen.body for seen in orders.seen]
        assert ["token-1"] == [token.token.reveal() for token in broker.purged]

    async def test_once_more_and_not_again(self, face: type, orders: Site) -> None:
        """A server that never likes any token gets two."""
        broker = FakeBroker()
        orders.answer = refusing(99, INVALID)
        async with calling(face, auth_for(orders, broker)) as http:
            assert 401 == (await http.get(orders.origin)).status_code

        assert 2 == len(orders.seen)
        assert ["token-1"] == [token.token.reveal() for token in broker.purged]

    async def test_attack_a_server_makes_us_hammer_the_token_broker(self, face: type, orders: Site) -> None:
        """Who refuses new tokens, too, is believed again after a second; else each request would cost one."""
        broker = FakeBroker()
        broker.clock = ManualClock()
        orders.answer = refusing(99, INVALID)
        async with calling(face, auth_for(orders, broker)) as http:
            for _ in range(10):
                assert 401 == (await http.get(orders.origin)).status_code
            assert 2 == broker.fetched
            await broker.clock.advance(1.0)
            for _ in range(10):
                await http.get(orders.origin)
            assert 3 == broker.fetched
            await broker.clock.advance(1.0)
            orders.answer = refusing(1, INVALID)
            assert 200 == (await http.get(orders.origin)).status_code

    async def test_the_same_token_again_is_not_sent(self, face: type, orders: Site) -> None:
        """A token broker that caches upstream hands out what was just refused."""
        broker = FakeBroker(always="same")
        orders.answer = refusing(99, INVALID)
        async with calling(face, auth_for(orders, broker)) as http:
            for _ in range(5):
                assert 401 == (await http.get(orders.origin)).status_code

        assert 5 == len(orders.seen)
        assert 2 == broker.fetched

    @pytest.mark.parametrize(
        ("status", "headers"),
        [
            (401, {}),
            (401, {"www-authenticate": "Bearer"}),
            (401, {"www-authenticate": 'Bearer error="insufficient_scope"'}),
            (401, {"www-authenticate": 'Basic error="invalid_token"'}),
            (401, {"www-authenticate": 'Bearer error_description="error=invalid_token"'}),
            (403, INVALID),
            (400, INVALID),
        ],
    )
    async def test_other_refusals_stand(
        self, face: type, orders: Site, status: int, headers: dict[str, str]
    ) -> None:
        """A new token would change nothing; the one held stays."""
        broker = FakeBroker()
        orders.answer = refusing(99, headers, status)
        async with calling(face, auth_for(orders, broker)) as http:
            assert status == (await http.get(orders.origin)).status_code

        assert 1 == len(orders.seen)
        assert [] == broker.purged

    async def test_a_body_that_streams_is_not_sent_twice(self, face: type, orders: Site) -> None:
        """It is gone after the first time; the refusal stands, and the token is forgotten all the same."""
        broker = FakeBroker()
        orders.answer = refusing(99, INVALID)

        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"

        content = chunks() if face is AsyncFace else iter([b"one"])
        async with calling(face, auth_for(orders, broker)) as http:
            assert 401 == (await http.post(orders.origin, content=content)).status_code

        assert [b"one"] == [seen.body for seen in orders.seen]
        assert 1 == len(broker.purged)

    async def test_the_token_brokers_error_reaches_the_caller(self, face: type, orders: Site) -> None:
        """Nothing is sent without a token."""
        broker = FakeBroker()
        broker.error = TokenBrokerUnavailableError("down")
        async with calling(face, auth_for(orders, broker)) as http:
            with pytest.raises(TokenBrokerUnavailableError):
                await http.get(orders.origin)

        assert [] == orders.seen

    async def test_a_request_sent_again_gets_a_new_header(self, face: type, orders: Site) -> None:
        """Who keeps an httpx.Request to retry it later does not trip over the header of the first time."""
        broker = FakeBroker()
        request = httpx.Request("GET", orders.origin)
        async with calling(face, auth_for(orders, broker)) as http:
            await http.send(request)
            broker.held = None
            await http.send(request)

        assert [["Bearer token-1"], ["Bearer token-2"]] == [seen.all("authorization") for seen in orders.seen]


class TestDpop:
    async def test_each_request_has_its_own_proof(self, face: type, orders: Site) -> None:
        """RFC 9449 §7: scheme DPoP, method, target without query, the token's hash, a fresh `jti`."""
        broker = FakeBroker(dpop=True)
        async with calling(face, auth_for(orders, broker)) as http:
            await http.get(f"{orders.origin}/v1/orders?page=1")
            await http.post(f"{orders.origin}/v1/orders?page=2", content=b"x")

        assert ["DPoP token-1"] * 2 == [seen.authorization for seen in orders.seen]
        first, second = (claims_of(seen.proof) for seen in orders.seen)
        assert ("GET", f"{orders.origin}/v1/orders") == (first["htm"], first["htu"])
        assert ("POST", f"{orders.origin}/v1/orders") == (second["htm"], second["htu"])
        assert first["jti"] != second["jti"]
        assert "ath" in first
        assert "nonce" not in first

    async def test_a_nonce_that_is_wanted(self, face: type, orders: Site) -> None:
        """RFC 9449 §9: once more with it, with a new proof; later requests have it from the start."""
        broker = FakeBroker(dpop=True)
        wanted = {"www-authenticate": 'DPoP error="use_dpop_nonce"', "dpop-nonce": "n-1"}
        orders.answer = refusing(1, wanted)
        async with calling(face, auth_for(orders, broker)) as http:
            assert 200 == (await http.post(orders.origin, content=b"x")).status_code
            await http.get(orders.origin)

        claims = [claims_of(seen.proof) for seen in orders.seen]
        assert [None, "n-1", "n-1"] == [c.get("nonce") for c in claims]
        assert 3 == len({c["jti"] for c in claims})
        assert [] == broker.purged

    async def test_a_nonce_of_a_success_is_for_the_next_request(self, face: type, orders: Site) -> None:
        """RFC 9449 §8.2."""
        broker = FakeBroker(dpop=True)
        numbers = iter(range(9))
        orders.answer = lambda seen: Answer(headers={"dpop-nonce": f"n-{next(numbers)}"})
        async with calling(face, auth_for(orders, broker)) as http:
            for _ in range(3):
                await http.get(orders.origin)

        assert [None, "n-0", "n-1"] == [claims_of(seen.proof).get("nonce") for seen in orders.seen]

    async def test_attack_a_nonce_without_end(self, face: type, orders: Site) -> None:
        """A server that wants another nonce each time gets two proofs, not a loop."""
        broker = FakeBroker(dpop=True)
        numbers = iter(range(99))
        orders.answer = lambda seen: Answer(
            401, {"www-authenticate": 'DPoP error="use_dpop_nonce"', "dpop-nonce": f"n-{next(numbers)}"}
        )
        async with calling(face, auth_for(orders, broker)) as http:
            assert 401 == (await http.get(orders.origin)).status_code

        assert 2 == len(orders.seen)

    @pytest.mark.parametrize("headers", [{"dpop-nonce": "n-1"}, {}], ids=["repeated", "none"])
    async def test_attack_the_same_nonce_again(
        self, face: type, orders: Site, headers: dict[str, str]
    ) -> None:
        """What was sent already will not do the next time either."""
        broker = FakeBroker(dpop=True)
        broker.nonces.seen(orders.origin, {"dpop-nonce": "n-1"})
        orders.answer = refusing(99, {"www-authenticate": 'DPoP error="use_dpop_nonce"', **headers})
        async with calling(face, auth_for(orders, broker)) as http:
            assert 401 == (await http.get(orders.origin)).status_code

        assert 1 == len(orders.seen)

    async def test_nonce_then_invalid_token(self, face: type, orders: Site) -> None:
        """Each reason has its one try: a new nonce, then a new token with that nonce."""
        broker = FakeBroker(dpop=True)
        answers = iter(
            [
                Answer(401, {"www-authenticate": 'DPoP error="use_dpop_nonce"', "dpop-nonce": "n-1"}),
                Answer(401, INVALID_DPOP),
                Answer(),
            ]
        )
        orders.answer = lambda seen: next(answers)
        async with calling(face, auth_for(orders, broker)) as http:
            assert 200 == (await http.get(orders.origin)).status_code

        assert ["DPoP token-1", "DPoP token-1", "DPoP token-2"] == [s.authorization for s in orders.seen]
        assert [None, "n-1", "n-1"] == [claims_of(s.proof).get("nonce") for s in orders.seen]

    async def test_attack_downgrade_to_bearer(self, face: type, orders: Site) -> None:
        """A server that offers Bearer does not get a bound token as one (RFC 9449 §7.2)."""
        broker = FakeBroker(dpop=True)
        orders.answer = refusing(99, INVALID)
        async with calling(face, auth_for(orders, broker)) as http:
            assert 401 == (await http.get(orders.origin)).status_code

        assert ["DPoP token-1", "DPoP token-2"] == [seen.authorization for seen in orders.seen]

    @pytest.mark.parametrize("held", [None, DpopKey()], ids=["no key", "another key"])
    async def test_a_token_bound_to_another_key(self, face: type, orders: Site, held: DpopKey | None) -> None:
        """It would be refused; and it says that something is badly wrong."""
        broker = FakeBroker(dpop=True)
        broker.held = access_token(TokenRequest.of("x"), "t", key=DpopKey())
        broker.dpop = held
        async with calling(face, auth_for(orders, broker)) as http:
            with pytest.raises(UnacceptableTokenError) as refused:
                await http.get(orders.origin)

        assert "wrong_binding" == refused.value.why
        assert [] == orders.seen

    async def test_a_trace_of_the_users_own_is_still_called(self, face: type, orders: Site) -> None:
        """httpx's request extension is not taken away."""
        events: list[str] = []

        def blocking(event: str, info: object) -> None:
            events.append(event)

        async def asynchronous(event: str, info: object) -> None:
            events.append(event)

        broker = FakeBroker(dpop=True)
        orders.answer = refusing(1, INVALID_DPOP)
        trace = asynchronous if face is AsyncFace else blocking
        async with calling(face, auth_for(orders, broker)) as http:
            await http.get(orders.origin, extensions={"trace": trace})

        assert 2 == events.count("http11.send_request_headers.started")


class TestOverHttp2:
    async def test_proofs_on_streams(self, face: type) -> None:
        """The same with HTTP/2, redirect and all."""
        broker = FakeBroker(dpop=True)
        with serve_site(http2=True) as site:
            site.answer = lambda seen: (
                Answer(307, {"location": "/v2"})
                if seen.path == "/v1"
                else Answer(headers={"dpop-nonce": "n"})
            )
            async with calling(face, auth_for(site, broker), http2=True, follow_redirects=True) as http:
                assert 200 == (await http.post(f"{site.origin}/v1", content=b"x")).status_code
                await http.get(f"{site.origin}/v3")

        assert ["2"] * 3 == [seen.http for seen in site.seen]
        targets = [claims_of(seen.proof)["htu"] for seen in site.seen]
        assert [f"{site.origin}/v{n}" for n in (1, 2, 3)] == targets
        assert [1, 1, 1] == [len(seen.all("dpop")) for seen in site.seen]


class TestConstruction:
    def test_origins_come_from_audience_and_resource(self) -> None:
        """Those that are URLs of web servers; names and SPIFFE IDs are none."""
        request = TokenRequest.of(
            "x",
            audience=["https://Orders.prod.example/v1", "orders", "spiffe://prod.example/orders"],
            resource="https://api.prod.example:8443/",
        )
        auth = TokenAuth(FakeBroker(), request)  # type: ignore[arg-type]

        allowed = {str(origin) for origin in auth._destinations.allowed}
        assert {"https://orders.prod.example", "https://api.prod.example:8443"} == allowed

    def test_origins_that_are_given_replace_them(self) -> None:
        """Narrower, or elsewhere: what is said is meant."""
        auth = auth_for("https://orders.prod.example", FakeBroker(), origins="https://eu.prod.example/x")

        assert ["https://eu.prod.example"] == [str(origin) for origin in auth._destinations.allowed]

    @pytest.mark.parametrize("audience", ["orders", "spiffe://prod.example/orders", ()])
    def test_without_any_origin_it_is_refused(self, audience: str) -> None:
        """A token that may go anywhere goes to the wrong one some day."""
        with pytest.raises(TokenRequestError, match="origins="):
            TokenAuth(FakeBroker(), TokenRequest.of("x", audience=audience))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "origin", ["http://orders.prod.example", "http://10.0.0.1", "http://localhost.evil.example"]
    )
    def test_no_tls_no_token(self, origin: str) -> None:
        """https, or this very machine."""
        with pytest.raises(TokenRequestError, match="no TLS"):
            auth_for("https://orders.prod.example", FakeBroker(), origins=[origin])
        with pytest.raises(TokenRequestError, match="no TLS"):
            auth_for(origin, FakeBroker())

    async def test_this_machine_needs_no_tls(self, face: type, plain: Site) -> None:
        """For development."""
        async with calling(face, auth_for(plain, FakeBroker())) as http:
            assert 200 == (await http.get(plain.origin)).status_code

        assert ["Bearer token-1"] == [seen.authorization for seen in plain.seen]


class TestSecrets:
    @pytest.mark.parametrize("dpop", [False, True])
    async def test_logs_and_errors_show_neither_token_nor_proof(
        self, face: type, orders: Site, dpop: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With DEBUG on everywhere, and through HTTPStatusError."""
        caplog.set_level(logging.DEBUG)
        canary = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjYW5hcnktY2FuYXJ5LWNhbmFyeSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
        broker = FakeBroker(dpop=dpop, always=canary)
        orders.answer = refusing(99, INVALID)
        async with calling(face, auth_for(orders, broker)) as http:
            response = await http.get(orders.origin)
        with pytest.raises(httpx.HTTPStatusError) as refused:
            response.raise_for_status()

        secrets = [canary, *(seen.proof for seen in orders.seen if seen.proof)]
        assert 1 + dpop == len(secrets)
        assert_no_secret(refused.value, *secrets)
        request = refused.value.request
        shown = f"{request!r} {request.headers} {request.headers.raw} {vars(request)}"
        logged = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith("uvicorn"))
        assert "httpcore" in {r.name.partition(".")[0] for r in caplog.records}
        for secret in secrets:
            assert secret not in shown
            assert secret not in logged

    async def test_attack_a_token_that_is_no_header_value(self, face: type, orders: Site) -> None:
        """h11 would refuse it and show it in its error; and it could be two headers."""
        canary = "eyJhbGciOiJFUzI1NiJ9.canary-canary-canary-canary\r\nx-admin: 1"
        async with calling(face, auth_for(orders, FakeBroker(always=canary))) as http:
            with pytest.raises(UnacceptableTokenError) as refused:
                await http.get(orders.origin)

        assert_no_secret(refused.value, canary)
        assert [] == orders.seen

    async def test_a_broken_connection_shows_nothing(self, face: type) -> None:
        """The error of httpx names the request; what it renders as has no token."""
        canary = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjYW5hcnktY2FuYXJ5LWNhbmFyeSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
        async with calling(face, auth_for("https://localhost:1", FakeBroker(always=canary))) as http:
            with pytest.raises(httpx.ConnectError) as failed:
                await http.get("https://localhost:1/")

        assert_no_secret(failed.value, canary)


class TestHotPath:
    def test_the_blocking_one_does_as_little(self) -> None:
        """From a held token to the header: no lock, no await, no parsing twice (see also `test_hot_paths`)."""
        broker = FakeBroker()
        auth = auth_for("https://orders.prod.example", broker)
        broker.fetch_blocking(TokenRequest.of("x"))
        request = httpx.Request("GET", "https://orders.prod.example/v1/orders")

        def once() -> None:
            flow = auth.sync_auth_flow(request)
            next(flow)
            flow.close()

        once()
        with counted("/spiffe_client/") as work:
            once()
        assert 100 < work.count < 850
