"""Tokens on requests of httpx2: bound to this workload, sent to whom they are for and to nobody else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from spiffe_client import Workload, sync
from spiffe_client.audit import Event, EventSink
from spiffe_client.dev import DevTokenBroker, DevTrustDomain, ProtectedService
from spiffe_client.dev.token_broker import Client as Rights
from spiffe_client.errors import TokenOriginError, TokenRequestError
from spiffe_client.http.experimental import TransactionTokenAuth
from spiffe_client.tokens import TokenRequest
from spiffe_client_httpx2 import AsyncClient, JwtSvidAuth, TokenAuth, adapt_auth
from tests.support.protected import Answer, FakeBroker, Seen, Site, claims_of, trust_web

pytestmark = pytest.mark.anyio

AGENT = "spiffe://dev.example/agent"
INVALID = {"www-authenticate": 'DPoP error="invalid_token"'}


@asynccontextmanager
async def dev_world() -> AsyncIterator[tuple[str, DevTokenBroker, ProtectedService]]:
    rights = Rights.of(AGENT, audiences=["*"], scopes="orders:read")
    async with (
        DevTrustDomain("dev.example") as dev,
        DevTokenBroker(dev, rules=[rights], dpop_nonces="always") as tokens,
        ProtectedService(tokens, require_dpop_nonce=True) as orders,
    ):
        yield await dev.endpoint_for(AGENT), tokens, orders


@pytest.mark.parametrize("made", ["by class", "adapted"])
async def test_a_bound_token(made: str) -> None:
    """RFC 9449 end to end: fetched once, proven for each request with the nonces that are wanted, replaced when revoked."""
    async with dev_world() as (endpoint, tokens, orders), Workload(endpoint, token_broker=tokens.issuer) as me:
        if made == "by class":
            auth = TokenAuth(me.tokens, TokenRequest.of("orders:read", audience=orders.url))
        else:
            auth = adapt_auth(me.auth("orders:read", audience=orders.url))
        async with httpx2.AsyncClient(auth=auth, trust_env=False) as http:
            for _ in range(2):
                response = await http.get(f"{orders.url}/v1/orders")
                assert (200, AGENT) == (response.status_code, response.json()["sub"])
            assert 1 == tokens.issued["access_token"]
            tokens.revoke_all(AGENT)
            assert 200 == (await http.post(f"{orders.url}/v1/orders", content=b"one")).status_code
            assert 2 == tokens.issued["access_token"]
            assert 403 == (await http.get(f"{orders.url}/v1/refunds")).status_code


async def test_a_bound_token_in_blocking_code() -> None:
    """The same flow, driven by `httpx2.Client`."""

    def work(endpoint: str, issuer: str, url: str) -> int:
        with sync.Workload(endpoint, token_broker=issuer) as me:
            with httpx2.Client(auth=adapt_auth(me.auth("orders:read", audience=url)), trust_env=False) as http:
                return http.get(f"{url}/v1/orders").status_code

    async with dev_world() as (endpoint, tokens, orders):
        assert 200 == await anyio.to_thread.run_sync(work, endpoint, tokens.issuer, orders.url)


async def test_a_jwt_svid() -> None:
    """JWT-SVID §5, of an async and of a blocking workload."""

    def work(endpoint: str, url: str) -> int:
        with sync.Workload(endpoint) as me, httpx2.Client(auth=JwtSvidAuth(me, url), trust_env=False) as http:
            return http.get(f"{url}/svid").status_code

    async with dev_world() as (endpoint, _, orders), Workload(endpoint) as me:
        for auth in (JwtSvidAuth(me, orders.url), adapt_auth(me.jwt_auth(orders.url))):
            async with httpx2.AsyncClient(auth=auth, trust_env=False) as http:
                assert 200 == (await http.get(f"{orders.url}/svid")).status_code
        assert 200 == await anyio.to_thread.run_sync(partial(work, endpoint, orders.url))


async def test_mutual_tls_and_a_token_in_one_client() -> None:
    """They do not know each other."""
    async with dev_world() as (endpoint, tokens, _), Workload(endpoint, token_broker=tokens.issuer) as me:
        url = tokens.url_at("spiffe")
        auth = TokenAuth(me.tokens, TokenRequest.of("orders:read", audience=url))
        peer = "spiffe://dev.example/token-broker"
        async with AsyncClient(peer=peer, workload=me, auth=auth, trust_env=False) as http:
            response = await http.get(f"{url}/.well-known/oauth-authorization-server")
            assert (200, True) == (response.status_code, "authorization" in response.request.headers)


def auth_of(broker: FakeBroker, *origins: str, on_event: EventSink | None = None) -> TokenAuth:
    return TokenAuth(broker, TokenRequest.of("orders:read"), origins=origins, on_event=on_event)  # type: ignore[arg-type]


def why(told: list[Event]) -> list[tuple[str, object, object]]:
    return [(event.name, event.attributes["reason"], event.attributes["origin"]) for event in told]


def client(face: type, auth: httpx2.Auth, **options: Any) -> Any:
    return face(face.plain(auth=auth, **{"verify": trust_web(), "trust_env": False, **options}))


def going_to(url: str, status: int = 307):
    return lambda seen: Answer(status, {"location": url}) if seen.path == "/from" else Answer()


async def test_attack_another_origin(face: type, sites: list[Site]) -> None:
    """Send a request with the token to another origin.

    It raises, and is not sent.
    """
    orders, evil, _ = sites
    told: list[Event] = []
    async with client(face, auth_of(FakeBroker(), orders.origin, on_event=told.append)) as http:
        for path in ("/canary?canary", "/"):
            with pytest.raises(TokenOriginError, match="did not get"):
                await http.get(evil.origin + path)

    assert [] == evil.seen
    assert [("credential.withheld", "token_origin", evil.origin)] == why(told)
    assert "canary" not in repr(told)


@pytest.mark.parametrize("dpop", [False, True], ids=["bearer", "dpop"])
async def test_attack_a_redirect_to_another_origin(face: type, dpop: bool, sites: list[Site]) -> None:
    """Redirect a request with a token to another origin.

    It is followed without the token, and without a proof of anything.
    """
    orders, evil, _ = sites
    orders.answer = going_to(f"{evil.origin}/catch")
    told: list[Event] = []
    auth = auth_of(FakeBroker(dpop=dpop), orders.origin, on_event=told.append)
    async with client(face, auth, follow_redirects=True) as http:
        assert 200 == (await http.get(f"{orders.origin}/from")).status_code

    assert orders.seen[0].authorization
    assert ["/catch", None, None] == [evil.seen[0].path, evil.seen[0].authorization, evil.seen[0].proof]
    assert [("credential.withheld", "token_origin", evil.origin)] == why(told)


async def test_a_redirect_at_the_same_origin_gets_its_own_proof(face: type, sites: list[Site]) -> None:
    """RFC 9449 §4.2, `htu`: for the URL it is sent to, once."""
    orders, *_ = sites
    orders.answer = going_to("/to")
    async with client(face, auth_of(FakeBroker(dpop=True), orders.origin), follow_redirects=True) as http:
        await http.post(f"{orders.origin}/from", content=b"one")

    first, second = orders.seen
    assert [f"{orders.origin}/from", f"{orders.origin}/to"] == [claims_of(s.proof)["htu"] for s in (first, second)]
    assert [1, 1] == [len(second.all("dpop")), len(second.all("authorization"))]


async def test_attack_a_redirect_without_tls(face: type, sites: list[Site]) -> None:
    """Redirect from this machine without TLS to elsewhere with it, where httpx2 would let the token go along.

    It is followed without the token.
    """
    orders, _, plain = sites
    plain.answer = going_to(f"{orders.origin}/catch")
    told: list[Event] = []
    async with client(face, auth_of(FakeBroker(), plain.origin, on_event=told.append), follow_redirects=True) as http:
        await http.get(f"{plain.origin}/from")

    assert ["Bearer token-1", None] == [plain.seen[0].authorization, orders.seen[0].authorization]
    assert [("credential.withheld", "token_origin", orders.origin)] == why(told)


async def test_without_tls_only_over_a_connection_of_its_own(face: type, sites: list[Site]) -> None:
    """One that was there before was opened by somebody else, perhaps through a proxy: httpx2 opens another one."""
    plain = sites[2]
    async with client(face, None) as http:
        await http.get(plain.origin)
        for _ in range(2):
            await http.get(plain.origin, auth=auth_of(FakeBroker(), plain.origin))

    assert [None, "Bearer token-1", "Bearer token-1"] == [seen.authorization for seen in plain.seen]


def refuse_once(sent: list[Seen]):
    return lambda seen: Answer(401, INVALID) if not sent.append(seen) and len(sent) == 1 else Answer()


async def test_a_body_in_memory_is_sent_once_more(face: type, sites: list[Site]) -> None:
    """RFC 6750 §3.1: a token that is called invalid is replaced, and the caller sees the good answer."""
    orders, *_ = sites
    orders.answer = refuse_once([])
    broker = FakeBroker(dpop=True)
    async with client(face, auth_of(broker, orders.origin)) as http:
        assert 200 == (await http.post(orders.origin, content=b"one")).status_code

    assert [b"one", b"one"] == [seen.body for seen in orders.seen]
    assert ["token-1"] == [token.token.reveal() for token in broker.purged]


async def test_a_stream_is_not_sent_twice(face: type, sites: list[Site]) -> None:
    """It is gone after the first: the refusal stands."""
    orders, *_ = sites
    orders.answer = refuse_once([])

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"

    content = chunks() if face.is_async else iter([b"one"])
    async with client(face, auth_of(FakeBroker(), orders.origin)) as http:
        assert 401 == (await http.post(orders.origin, content=content)).status_code

    assert 1 == len(orders.seen)


async def test_a_header_of_ones_own(face: type, sites: list[Site]) -> None:
    """Neither replaced nor let through."""
    orders, *_ = sites
    async with client(face, auth_of(FakeBroker(), orders.origin)) as http:
        with pytest.raises(TokenRequestError, match="its own"):
            await http.get(orders.origin, headers={"Authorization": "Bearer mine"})


async def test_the_token_does_not_show(face: type, sites: list[Site]) -> None:
    """In what httpx2 prints of a request, also after it was sent."""
    orders, *_ = sites
    async with client(face, auth_of(FakeBroker(dpop=True), orders.origin)) as http:
        request = (await http.get(orders.origin)).request

    for shown in (repr(request), repr(request.headers), repr(request.headers.raw), repr(request.extensions)):
        assert "token-1" not in shown and "eyJ" not in shown


async def test_not_over_a_web_socket(face: type, sites: list[Site]) -> None:
    """What is not https is no place for a token."""
    orders, *_ = sites
    async with client(face, auth_of(FakeBroker(), orders.origin)) as http:
        with pytest.raises(TokenOriginError):
            await http.get(orders.origin.replace("https", "wss"))


async def test_one_auth_for_both_libraries(face: type, sites: list[Site]) -> None:
    """Whatever part of a program uses which: there is one token, and it is refused and replaced by the same rules."""
    orders, *_ = sites
    orders.answer = refuse_once([])
    broker = FakeBroker()
    auth = auth_of(broker, orders.origin)
    old = httpx.AsyncClient if face.is_async else httpx.Client
    async with client(face, auth) as new, face(old(auth=auth, verify=trust_web(), trust_env=False)) as http:
        assert [200, 200] == [(await c.post(orders.origin, content=b"x")).status_code for c in (new, http)]

    assert adapt_auth(auth) is auth
    assert 2 == broker.fetched


async def test_a_transaction_token(face: type, sites: list[Site]) -> None:
    """Beside an access token, with the same rule: elsewhere it is taken off."""

    class Token:
        fingerprint = "abc"

        class token:
            reveal = staticmethod(lambda: "txn")

    orders, evil, _ = sites
    orders.answer = going_to(f"{evil.origin}/catch")
    inner = auth_of(FakeBroker(), orders.origin)
    auth = adapt_auth(TransactionTokenAuth(Token(), origins=[orders.origin], auth=inner))  # type: ignore[arg-type]
    async with client(face, auth, follow_redirects=True) as http:
        await http.get(f"{orders.origin}/from")

    assert [["txn"], []] == [orders.seen[0].all("txn-token"), evil.seen[0].all("txn-token")]
    assert ["Bearer token-1", None] == [orders.seen[0].authorization, evil.seen[0].authorization]


@pytest.mark.skipif(not hasattr(httpx2, "alias_httpx"), reason="this httpx2 has none")
def test_where_httpx_is_an_alias() -> None:
    """`httpx2.alias_httpx()`: then the clients of both names are the same, and so are ours."""
    code = (
        "import httpx2; httpx2.alias_httpx(); import httpx, spiffe_client_httpx2 as here, spiffe_client.http as there; "
        "assert httpx is httpx2; assert issubclass(there.AsyncClient, httpx2.AsyncClient); "
        "assert issubclass(here.TokenAuth, there.TokenAuth); assert issubclass(here.Client, httpx.Client)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
