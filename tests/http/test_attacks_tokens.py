"""Attacks on tokens on their way to a resource: proxies, resolvers, hostile servers, and what remains."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpcore
import httpx
import pytest

from spiffe_client._redact import Secret
from spiffe_client.errors import StoppedError, TokenOriginError
from spiffe_client.http import JwtSvidAuth, TokenAuth
from spiffe_client.http._dialogue import Doubts
from spiffe_client.http._socket_peer import SocketPeer
from spiffe_client.http.experimental import TransactionTokenAuth
from spiffe_client.tokens import TokenRequest
from spiffe_client.tokens._origin import Origin, origin_of
from spiffe_client.tokens._unprinted import Unprinted
from spiffe_client.tokens.experimental import TransactionToken
from tests.support.http_faces import AsyncFace
from tests.support.protected import Answer, FakeBroker, Site, serve_site, trust_web

pytestmark = pytest.mark.anyio

REQUEST = TokenRequest.of("orders:read")
PLAIN = httpcore.Request("GET", "http://localhost")


@pytest.fixture(scope="module")
def sites() -> Iterator[list[Site]]:
    with serve_site() as one, serve_site() as two, serve_site(tls=False) as three:
        yield [one, two, three]


@pytest.fixture
def orders(sites: list[Site]) -> Site:
    sites[0].reset()
    return sites[0]


@pytest.fixture
def evil(sites: list[Site]) -> Site:
    sites[1].reset()
    return sites[1]


@pytest.fixture
def plain(sites: list[Site]) -> Site:
    """On this machine, without TLS."""
    sites[2].reset()
    return sites[2]


def client(face: type, auth: httpx.Auth | None, **options: Any) -> Any:
    return face(face.plain(auth=auth, **{"verify": trust_web(), "trust_env": False, **options}))


def auth_of(broker: FakeBroker, *origins: str) -> TokenAuth:
    return TokenAuth(broker, REQUEST, origins=origins)  # type: ignore[arg-type]


class _Svid:
    token = Secret("a.b.c")


class _BlockingSource:
    def jwt_svid(self, audience: str) -> _Svid:
        return _Svid()


def transaction(text: str = "transaction-token-text") -> TransactionToken:
    later = datetime.now(UTC) + timedelta(minutes=5)
    return TransactionToken(
        Secret(text), "https://tts.test", "t1", "u1", "prod.test", frozenset({"read"}), later
    )


def credentials(site: Site) -> list[tuple[str | None, str | None, list[str]]]:
    return [(seen.authorization, seen.proof, seen.all("txn-token")) for seen in site.seen]


class _Elsewhere(httpcore.NetworkStream):
    """A connection whose other end is another machine, as its socket says."""

    def __init__(self, whole: httpcore.NetworkStream, address: object) -> None:
        self._whole = whole
        self._address = address

    def read(self, *args: Any, **more: Any) -> bytes:
        return self._whole.read(*args, **more)

    def write(self, *args: Any, **more: Any) -> None:
        self._whole.write(*args, **more)

    def close(self) -> None:
        self._whole.close()

    def get_extra_info(self, info: str) -> Any:
        return self._address if info == "server_addr" else self._whole.get_extra_info(info)


class _Resolver(httpcore.SyncBackend):
    """A resolver that leads `localhost` to another machine; the bytes still arrive where a test sees them."""

    def __init__(self, address: object) -> None:
        self._address = address

    def connect_tcp(self, *args: Any, **more: Any) -> httpcore.NetworkStream:
        return _Elsewhere(super().connect_tcp(*args, **more), self._address)


class TestWithoutTls:
    @pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80, 0, 0), None, ()])
    @pytest.mark.parametrize("kind", ["bearer", "held", "dpop", "svid", "transaction"])
    def test_attack_a_resolver_that_says_localhost_is_elsewhere(
        self, plain: Site, kind: str, address: object
    ) -> None:
        """RFC 6750 §5.3: the address that was connected to counts, not the name."""
        auth: httpx.Auth
        if kind == "svid":
            auth = JwtSvidAuth(_BlockingSource(), "orders", origins=[plain.origin])  # type: ignore[arg-type]
        elif kind == "transaction":
            auth = TransactionTokenAuth(transaction(), origins=[plain.origin])
        else:
            broker = FakeBroker(dpop=kind == "dpop")
            auth = auth_of(broker, plain.origin)
            if kind == "held":  # a token that is there goes on its request on a way of its own
                broker.fetch_blocking(REQUEST)
        transport = httpx.HTTPTransport()
        transport._pool = httpcore.ConnectionPool(network_backend=_Resolver(address))
        with (
            httpx.Client(auth=auth, transport=transport) as http,
            pytest.raises(TokenOriginError, match="not known to end on this machine"),
        ):
            http.get(plain.origin)

        assert [] == plain.seen

    @pytest.mark.parametrize(
        "address", [("127.0.0.1", 80), ("::1", 80, 0, 0), ("::ffff:127.0.0.1", 80, 0, 0)]
    )
    def test_this_machine(self, plain: Site, address: object) -> None:
        """Any loopback address is."""
        transport = httpx.HTTPTransport()
        transport._pool = httpcore.ConnectionPool(network_backend=_Resolver(address))
        with httpx.Client(auth=auth_of(FakeBroker(), plain.origin), transport=transport) as http:
            http.get(plain.origin)

        assert ["Bearer token-1"] == [seen.authorization for seen in plain.seen]

    async def test_attack_a_connection_that_somebody_else_opened(self, face: type, plain: Site) -> None:
        """One that is reused is not known to end here: it is given up, and credentials get one of their own."""
        opened: list[str] = []

        def told(event: str, info: object) -> None:
            opened.append(event)

        async def told_async(event: str, info: object) -> None:
            opened.append(event)

        trace = {"trace": told_async if face is AsyncFace else told}
        async with client(face, None) as http:
            await http.get(plain.origin)
            for _ in range(2):
                await http.get(plain.origin, auth=auth_of(FakeBroker(), plain.origin), extensions=trace)

        assert [None, "Bearer token-1", "Bearer token-1"] == [seen.authorization for seen in plain.seen]
        assert 2 == opened.count("connection.connect_tcp.complete")

    @pytest.mark.parametrize("event", ["socks.connect_tcp.complete", "proxy.connect_tcp.complete"])
    def test_attack_a_socks_proxy(self, event: str) -> None:
        """It resolves names itself, and reads what goes through it, wherever it is."""
        peer = SocketPeer()
        peer.see(event, {})
        with pytest.raises(TokenOriginError):
            peer.refuse_elsewhere(
                "http11.send_request_headers.started", PLAIN, origin_of("http://localhost"), here=peer.take()
            )

    def test_unix_socket(self) -> None:
        """It is on this machine."""
        peer = SocketPeer()
        peer.see("connection.connect_unix_socket.complete", {})
        assert True is peer.take()
        assert None is peer.take()

    def test_http2_without_tls_is_not_reused(self) -> None:
        """Its connections serve several requests at once: none can be given up for one of them."""
        with pytest.raises(TokenOriginError):
            SocketPeer().refuse_elsewhere(
                "http2.send_request_headers.started", PLAIN, origin_of("http://localhost"), here=None
            )

    def test_a_pool_that_never_opens_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is asked for a new connection so often, and not for ever."""
        monkeypatch.setattr("spiffe_client.http._socket_peer._MAX_REUSED", 1)
        peer, event = SocketPeer(), "http11.send_request_headers.started"
        with pytest.raises(httpcore.ConnectionNotAvailable):
            peer.refuse_elsewhere(event, PLAIN, origin_of("http://localhost"), here=None)
        with pytest.raises(TokenOriginError):
            peer.refuse_elsewhere(event, PLAIN, origin_of("http://localhost"), here=None)


class TestDoubts:
    async def test_attack_a_resource_that_refuses_everything(self, face: type, orders: Site) -> None:
        """RFC 6750 §3.1, `invalid_token`: with an auth made for each request it costs no token each."""
        orders.answer = lambda seen: Answer(401, {"www-authenticate": 'Bearer error="invalid_token"'})
        broker = FakeBroker()
        async with client(face, None) as http:
            for _ in range(10):
                await http.get(orders.origin, auth=auth_of(broker, orders.origin))

        assert 2 == broker.fetched

    async def test_attack_and_makes_others_be_doubted(self, face: type, orders: Site, evil: Site) -> None:
        """What one server does does not keep another from refusing a token that was revoked."""
        evil.answer = lambda seen: Answer(401, {"www-authenticate": 'Bearer error="invalid_token"'})
        orders.answer = lambda seen: (
            Answer()
            if seen.authorization == "Bearer token-3"
            else Answer(401, {"www-authenticate": 'Bearer error="invalid_token"'})
        )
        broker = FakeBroker()
        async with client(face, None) as http:
            await http.get(evil.origin, auth=auth_of(broker, evil.origin))
            last = await http.get(orders.origin, auth=auth_of(broker, orders.origin))

        assert 200 == last.status_code

    def test_bounded_and_gone_with_the_broker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of many servers the latest are known; of a client that is gone, none."""
        from spiffe_client.http import _dialogue

        monkeypatch.setattr(_dialogue, "_MOST_DOUBTS", 2)
        broker = FakeBroker()
        doubts = Doubts(broker, REQUEST)  # type: ignore[arg-type]
        origins = [Origin("https", f"h{number}", 443) for number in range(3)]
        for origin in origins:
            doubts.note(origin)

        assert [False, True, True] == [doubts.at(origin) for origin in origins]
        assert not Doubts(FakeBroker(), REQUEST).at(origins[2])  # type: ignore[arg-type]
        assert not Doubts(broker, TokenRequest.of("other")).at(origins[2])  # type: ignore[arg-type]
        before = len(_dialogue._DOUBTS)
        del broker, doubts
        gc.collect()
        assert before > len(_dialogue._DOUBTS)


class TestAfterTheStop:
    async def test_attack_a_dump_of_memory(self, face: type, orders: Site) -> None:
        """What was sent is in no auth and no module once the token is dropped."""
        text = "token-that-was-" + "dropped"
        broker = FakeBroker(always=text)
        auth = auth_of(broker, orders.origin)
        async with client(face, auth) as http:
            await http.get(orders.origin)
            broker.held = None
            broker.error = StoppedError("compromised")
            with pytest.raises(StoppedError):
                await http.get(orders.origin)
        gc.collect()

        assert [] == [one for one in _reachable(auth) if isinstance(one, str) and text in one]


def _reachable(root: object) -> list[object]:
    """All that objects of ours and containers lead to."""
    seen: dict[int, object] = {}
    queue = [root]
    while queue:
        one = queue.pop()
        if id(one) not in seen:
            seen[id(one)] = one
            ours = type(one).__module__.startswith("spiffe_client")
            queue += gc.get_referents(one) if ours or isinstance(one, dict | list | tuple | set) else ()
    return list(seen.values())


@dataclass
class _Basic(httpx.Auth):
    """Somebody else's, which sends a second request."""

    requires_response_body = True

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = "Basic eDp5"
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = "Basic eDp6"
            yield request


class TestTransactionToken:
    async def test_beside_an_access_token(self, face: type, orders: Site) -> None:
        """Each in its own header; a refusal of the one does not lose the other."""
        refusals = [Answer(401, {"www-authenticate": 'Bearer error="invalid_token"'})]
        orders.answer = lambda seen: refusals.pop() if refusals else Answer()
        for broker in (FakeBroker(), FakeBroker(dpop=True)):
            auth = TransactionTokenAuth(
                transaction(), origins=[orders.origin], auth=auth_of(broker, orders.origin)
            )
            async with client(face, auth) as http:
                assert 200 == (await http.get(orders.origin)).status_code

        assert [["transaction-token-text"]] * 3 == [seen.all("txn-token") for seen in orders.seen]
        assert ["Bearer token-1", "Bearer token-2", "DPoP token-1"] == [s.authorization for s in orders.seen]

    async def test_beside_somebody_elses(self, face: type, orders: Site) -> None:
        """Any httpx.Auth does, with what it asks of httpx; or none."""
        orders.answer = lambda seen: Answer(200 if seen.authorization == "Basic eDp6" else 401)
        auth = TransactionTokenAuth(transaction(), origins=[orders.origin], auth=_Basic())
        async with client(face, auth) as http:
            assert 200 == (await http.get(orders.origin)).status_code
            await http.get(orders.origin, auth=TransactionTokenAuth(transaction(), origins=[orders.origin]))

        assert auth.requires_response_body
        assert ["Basic eDp5", "Basic eDp6", None] == [seen.authorization for seen in orders.seen]
        assert [["transaction-token-text"]] * 3 == [seen.all("txn-token") for seen in orders.seen]

    @pytest.mark.parametrize("kind", ["alone", "bearer", "dpop"])
    async def test_attack_a_redirect_to_another_origin(
        self, face: type, orders: Site, evil: Site, kind: str
    ) -> None:
        """httpx takes unknown headers along; this one stays, and is back where it may go."""
        back = f"{orders.origin}/back"
        orders.answer = lambda seen: (
            Answer(307, {"location": evil.origin}) if seen.path == "/from" else Answer()
        )
        evil.answer = lambda seen: Answer(307, {"location": back})
        inner = None if kind == "alone" else auth_of(FakeBroker(dpop=kind == "dpop"), orders.origin)
        auth = TransactionTokenAuth(transaction(), origins=[orders.origin], auth=inner)
        async with client(face, auth, follow_redirects=True) as http:
            assert 200 == (await http.get(f"{orders.origin}/from")).status_code

        assert [(None, None, [])] == credentials(evil)
        assert {"transaction-token-text"} == {text for seen in orders.seen for text in seen.all("txn-token")}

    async def test_another_origin_from_the_start(self, face: type, orders: Site, evil: Site) -> None:
        """It raises, and nothing is sent."""
        auth = TransactionTokenAuth(transaction(), origins=[orders.origin])
        async with client(face, auth) as http:
            with pytest.raises(TokenOriginError, match="the transaction token"):
                await http.get(evil.origin)

        assert [] == evil.seen

    def test_shows_nothing(self) -> None:
        """Not in the request, nor in its extensions."""
        request = httpx.Request("GET", "https://x.test/")
        next(TransactionTokenAuth(transaction(), origins=["https://x.test"]).sync_auth_flow(request))

        assert type(request.headers.raw[-1][1].decode()) is Unprinted
        assert "transaction-token-text" not in f"{request.headers!r} {request.extensions!r}"
