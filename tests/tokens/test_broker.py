"""The token broker's client: one object for all threads and event loops, from opening to closing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from types import SimpleNamespace

import anyio
import pytest
from tests.bench._token_server import TokenServer
from tests.support.manual_clock import settle
from tests.support.token_world import ISSUER, READ, WRITE, ScriptedBroker, down, text_of

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from spiffe_client.errors import (
    DiscoveryError,
    SpiffeError,
    StoppedError,
    TokenBrokerClosedError,
    TokenError,
    TokenRequestError,
    UnsupportedByBrokerError,
)
from spiffe_client.tokens import (
    AccessToken,
    Binding,
    JwtSpiffe,
    Metadata,
    NoAuthentication,
    SpiffePeer,
    TokenBroker,
    TokenRequest,
    WebPki,
    X509SvidTls,
)
from spiffe_client.tokens._session import Session

pytestmark = pytest.mark.anyio

METADATA = Metadata(issuer=ISSUER, token_endpoint=f"{ISSUER}/token")


def client(**options: object) -> TokenBroker:
    given = {"metadata": METADATA, "authentication": NoAuthentication(), "binding": "none", **options}
    return TokenBroker(**given)  # type: ignore[arg-type]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedBroker:
    """Stands for the token broker, in real time."""
    scripted = ScriptedBroker(SYSTEM_CLOCK)  # type: ignore[arg-type]

    async def mint(self: Session, request, attempt, channel=None):
        await anyio.sleep(0.01)
        return await scripted.mint(request, attempt)

    monkeypatch.setattr(Session, "mint", mint)
    return scripted


@pytest.fixture
async def broker(anyio_backend: str, scripted: ScriptedBroker) -> AsyncIterator[TokenBroker]:
    async with client() as broker:
        yield broker


async def in_thread(call: Callable[[], object]) -> object:
    """Run in a thread of its own and return the result or the error."""
    out: list[object] = []

    def work() -> None:
        try:
            out.append(call())
        except Exception as error:  # handed to the test
            out.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        await anyio.sleep(0.002)
    return out[0]


class TestMaking:
    @pytest.mark.parametrize(
        ("options", "what"),
        [
            ({"metadata": None}, "name the token broker"),
            ({"issuer": ISSUER}, "name the token broker"),
            ({"authentication": None}, "say who asks"),
            ({"binding": "mtls"}, "identity="),
            ({"trust": SpiffePeer("spiffe://prod.example/tokens")}, "identity="),
            ({"authentication": X509SvidTls(WebPki())}, "identity="),
        ],
    )
    def test_what_is_missing_is_said_at_once(self, options: dict, what: str) -> None:
        """Not at the first token."""
        with pytest.raises(TokenRequestError, match=what):
            client(**options)

    def test_who_asks_and_whom(self) -> None:
        """The SPIFFE ID, unless the client has another name."""
        me = SimpleNamespace(id="spiffe://prod.example/orders")
        assert "spiffe://prod.example/orders" == client(identity=me).client_id
        assert ("shop", "") == (client(identity=me, client_id="shop").client_id, client().client_id)
        assert (ISSUER, METADATA) == (client().issuer, client().metadata)
        assert SYSTEM_CLOCK is client().clock
        assert isinstance(client(identity=me, authentication=None)._session.authentication, JwtSpiffe)

    def test_bound_by_default(self) -> None:
        """To a key in this process's memory (RFC 9449), one for each client."""
        one, two = (TokenBroker(ISSUER, authentication=NoAuthentication()) for _ in range(2))
        assert one.dpop is not None and two.dpop is not None and one.dpop.jkt != two.dpop.jkt
        assert (None, None) == (one.metadata, client().dpop)
        assert one.nonces is not two.nonces and one.channel is not two.channel

    def test_the_authentication_says_how_the_server_is_verified(self) -> None:
        """X.509 client authentication has a trust mode of its own, and it wins."""
        peer = SpiffePeer("spiffe://prod.example/tokens")
        broker = client(identity=SimpleNamespace(), authentication=X509SvidTls(peer), trust=WebPki())
        assert peer is broker.channel._trust


class TestLife:
    async def test_not_open(self, scripted: ScriptedBroker) -> None:
        """Nothing before, nothing after; opening and closing twice is nothing special."""
        broker = client()
        assert (None, 0, "closed") == (broker.peek(READ), broker.purge(lambda _: True), broker.health.state)
        with pytest.raises(TokenBrokerClosedError, match="not open"):
            await broker.fetch(READ)
        await broker.aclose()

        broker = client()
        assert broker is await broker.open() is await broker.open()
        await broker.fetch(READ)
        await broker.aclose()
        await broker.aclose()
        assert (None, "closed") == (broker.peek(READ), broker.health.state)
        with pytest.raises(TokenBrokerClosedError, match="closed"):
            await broker.fetch(READ)
        with pytest.raises(TokenBrokerClosedError):
            await broker.exchange(READ)

    async def test_closed_before_it_was_opened(self) -> None:
        """It stays closed."""
        broker = client()
        await broker.aclose()
        with pytest.raises(TokenBrokerClosedError, match="was closed"):
            await broker.open()

    async def test_closing_wakes_who_waits(self, scripted: ScriptedBroker) -> None:
        """With an error, at once."""
        scripted.script = [anyio.Event()]
        errors: list[SpiffeError] = []

        async def ask() -> None:
            try:
                await broker.fetch(READ)
            except SpiffeError as error:
                errors.append(error)

        async with client() as broker, anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.sleep(0.03)
            await broker.aclose()
        assert [TokenBrokerClosedError] == [type(error) for error in errors]

    async def test_closed_from_another_event_loop(self, broker: TokenBroker) -> None:
        """From wherever it is convenient."""
        await broker.fetch(READ)
        assert None is await in_thread(lambda: anyio.run(broker.aclose))
        assert None is broker.peek(READ)

    async def test_revoking_at_the_end(self, scripted: ScriptedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only if asked to."""
        forms: list[tuple[str, object]] = []

        async def call(self, endpoint, form, *, timeout, refresh=False):
            forms.append((endpoint, dict(form)["token"]))
            raise UnsupportedByBrokerError("no such endpoint", feature=endpoint)

        monkeypatch.setattr(Session, "call", call)
        broker = await client().open()
        await broker.fetch(READ)
        await broker.aclose(revoke=True)
        assert [("revocation_endpoint", "token-1")] == forms

        broker = await client().open()
        await broker.fetch(READ)
        await broker.aclose()
        assert 1 == len(forms)

    async def test_revoking_and_introspecting(self, broker: TokenBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Forgotten here first, whatever the token broker says."""

        async def call(self, endpoint, form, *, timeout, refresh=False):
            raise UnsupportedByBrokerError("no such endpoint", feature=endpoint)

        monkeypatch.setattr(Session, "call", call)
        token = await broker.fetch(READ)
        revocation = await broker.revoke(token)
        assert ("unsupported_token_type", None) == (revocation.outcome, broker.peek(READ))
        with pytest.raises(UnsupportedByBrokerError):
            await broker.introspect(token)

    def test_forgotten(self) -> None:
        """Who does not close it hears of it."""
        code = """
            import anyio, gc, warnings
            from spiffe_client.tokens import Metadata, NoAuthentication, TokenBroker
            metadata = Metadata(issuer="https://t.example", token_endpoint="https://t.example/token")
            async def main():
                broker = TokenBroker(metadata=metadata, authentication=NoAuthentication(), binding="none")
                await broker.open()
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    del broker
                    gc.collect()
                print(*(w.category.__name__ for w in told))
            anyio.run(main)
        """
        ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
        assert "ResourceWarning" == ran.stdout.strip()

    async def test_a_forked_child_is_refused(self, broker: TokenBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """The tokens are the parent's, and nobody would refresh them."""
        await broker.fetch(READ)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert (None, 0, "closed") == (broker.peek(READ), broker.purge(lambda _: True), broker.health.state)
        for call in (broker.fetch, broker.exchange):
            with pytest.raises(TokenBrokerClosedError, match="forked"):
                await call(READ)
        with pytest.raises(TokenBrokerClosedError, match="forked"):
            broker.fetch_blocking(READ)
        await broker.aclose()
        broker._closed = False  # the child's own copy
        monkeypatch.undo()
        assert None is not broker.peek(READ)

    async def test_a_crash_fails_closed(self, broker: TokenBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A background task that is gone refreshes nothing."""
        token = await broker.fetch(READ)
        live = broker._open
        assert live is not None and token is not None
        live._crashed(ZeroDivisionError("secret"))
        with pytest.raises(TokenBrokerClosedError, match="crashed: ZeroDivisionError"):
            await broker.fetch(READ)


class TestFetching:
    async def test_in_words(self, broker: TokenBroker) -> None:
        """`token` makes the request and fetches it."""
        token = await broker.token("orders:read", audience="https://orders.prod.example")
        assert token is await broker.fetch(READ) is broker.peek(READ)
        assert ("ready", 1) == (broker.health.state, broker.health.tokens)
        assert (2, 1) == (broker.health.hits, broker.health.misses)

    async def test_exchanged_tokens_are_nobody_elses(self, broker: TokenBroker) -> None:
        """And not kept."""
        assert (await broker.exchange(READ)) is not (await broker.exchange(READ))
        assert None is broker.peek(READ)

    async def test_many_threads_one_request(self, broker: TokenBroker, scripted: ScriptedBroker) -> None:
        """Blocking callers share what async callers have."""
        got: list[object] = []

        async def ask() -> None:
            got.append(await in_thread(lambda: broker.fetch_blocking(READ)))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ask)
        assert (1, {broker.peek(READ)}, 20) == (scripted.asked, set(got), len(got))
        assert broker.peek(READ) is await in_thread(lambda: broker.fetch_blocking(READ, timeout=1))

    @pytest.mark.parametrize("other", ["asyncio", "trio"])
    async def test_other_event_loops_share_it(self, broker: TokenBroker, scripted: ScriptedBroker, other: str) -> None:
        """Of either kind: carried over to its own."""
        token = await in_thread(lambda: anyio.run(broker.fetch, READ, backend=other))
        assert (broker.peek(READ), 1) == (token, scripted.asked)
        assert isinstance(await in_thread(lambda: anyio.run(broker.exchange, WRITE, backend=other)), AccessToken)

    async def test_its_own_thread_must_not_be_blocked(self, broker: TokenBroker) -> None:
        """A clear error in place of a deadlock."""
        with pytest.raises(TokenError, match="await fetch"):
            broker.fetch_blocking(READ)
        token = await broker.fetch(READ)
        assert token is broker.fetch_blocking(READ)  # from memory it blocks nothing

    async def test_trouble_shows_in_the_health(self, broker: TokenBroker, scripted: ScriptedBroker) -> None:
        """Until a token comes again."""
        scripted.script = [down()] * 3
        with pytest.raises(SpiffeError):
            await broker.fetch(READ)
        assert "unavailable" == broker.health.state and broker.health.last_error is not None
        await broker.fetch(READ)
        assert ("ready", None) == (broker.health.state, broker.health.last_error)

    async def test_tokens_from_tokens_have_an_end(self, broker: TokenBroker, scripted: ScriptedBroker) -> None:
        """A chain of exchanges without end is a loop; nothing is sent."""
        request = READ
        for _ in range(5):
            token = await broker.fetch(request)
            request = TokenRequest.of("orders:read", subject=token)
        asked = scripted.asked
        for call in (broker.fetch, broker.exchange):
            with pytest.raises(TokenRequestError, match="more than"):
                await call(request)
        with pytest.raises(TokenRequestError, match="more than"):
            broker.fetch_blocking(request)
        assert asked == scripted.asked

    async def test_purged_from_any_thread(self, broker: TokenBroker) -> None:
        """A token, or all that fit."""
        token = await broker.fetch(READ)
        await broker.fetch(WRITE)
        assert 1 == await in_thread(lambda: broker.purge(token))
        assert 1 == await in_thread(lambda: broker.purge(lambda _: True))
        assert (None, None) == (broker.peek(READ), broker.peek(WRITE))


class TestStopping:
    async def test_from_another_thread(self, scripted: ScriptedBroker) -> None:
        """Everything is dropped at once, everybody is refused, for good; the first reason counts."""
        events = []
        async with client(on_event=events.append) as broker:
            await broker.fetch(READ)
            await in_thread(lambda: broker.stop("compromised"))
            broker.stop("later")
            assert (None, "stopped") == (broker.peek(READ), broker.health.state)
            for call in (broker.fetch, broker.exchange, broker.revoke, broker.introspect):
                with pytest.raises(StoppedError, match="compromised"):
                    await call(READ)  # type: ignore[arg-type]
            with pytest.raises(StoppedError):
                broker.fetch_blocking(READ)
            with pytest.raises(StoppedError):
                await broker.open()
        assert ["token.issued", "workload.stopped"] == [event.name for event in events]
        assert ("compromised", 1) == (events[-1].attributes["reason"], events[-1].attributes["tokens"])

    async def test_before_it_was_opened(self) -> None:
        """It never opens."""
        broker = client()
        broker.stop("not today")
        with pytest.raises(StoppedError, match="not today"):
            await broker.open()
        assert "stopped" == broker.health.state


class TestDiscovery:
    @pytest.fixture
    def discovered(self, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
        """Stands for the reading of metadata."""
        calls = SimpleNamespace(count=0, results=[], gate=None)

        async def discover(channel, issuer, *, timeout, allowed_origins=()):
            calls.count += 1
            if calls.gate is not None:
                await calls.gate.wait()
            result = calls.results.pop(0) if calls.results else METADATA
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr("spiffe_client.tokens._discovery.discover", discover)
        return calls

    async def test_once_for_all(self, discovered: SimpleNamespace) -> None:
        """Whoever needs it first; a crowd reads it once."""
        async with client(issuer=ISSUER, metadata=None) as broker, anyio.create_task_group() as tasks:
            discovered.gate = anyio.Event()
            for _ in range(10):
                tasks.start_soon(broker.discover)
            await anyio.sleep(0.01)
            discovered.gate.set()
        assert (1, METADATA) == (discovered.count, broker.metadata)

    async def test_a_failure_is_everybodys_and_not_for_ever(self, discovered: SimpleNamespace) -> None:
        """The next who asks reads it again."""
        discovered.results = [DiscoveryError("not there")]
        failed: list[SpiffeError] = []
        async with client(issuer=ISSUER, metadata=None) as broker:

            async def ask() -> None:
                try:
                    await broker.discover()
                except DiscoveryError as error:
                    failed.append(error)

            discovered.gate = anyio.Event()
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(ask)
                await anyio.sleep(0.01)
                discovered.gate.set()
            assert (1, 3) == (discovered.count, len(failed))
            assert METADATA is await broker.discover()

    async def test_a_cancelled_reader_hands_over(self, discovered: SimpleNamespace) -> None:
        """Those who wait read on."""
        discovered.gate = anyio.Event()
        got: list[Metadata] = []
        async with client(issuer=ISSUER, metadata=None) as broker:

            async def ask() -> None:
                got.append(await broker.discover())

            scope = anyio.CancelScope()

            async def ask_and_leave() -> None:
                with scope:
                    await ask()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask_and_leave)
                await settle()
                tasks.start_soon(ask)
                await settle()
                scope.cancel()
                await settle()
                discovered.gate.set()
        assert ([METADATA], 2) == (got, discovered.count)

    @pytest.mark.parametrize("binding", ["dpop", "mtls"])
    async def test_no_silent_downgrade(self, discovered: SimpleNamespace, binding: str) -> None:
        """A token broker that does not bind tokens is not asked for bearer tokens instead."""
        me = SimpleNamespace(before_publish=lambda _: None, after_publish=lambda _: None)
        me.x509_context = SimpleNamespace(svid=SimpleNamespace(id="spiffe://a/b", ders=(b"",)))
        async with client(issuer=ISSUER, metadata=None, binding=binding, identity=me) as broker:
            with pytest.raises(UnsupportedByBrokerError, match='binding="none"') as caught:
                await broker.discover()
        assert (binding, None) == (caught.value.feature, broker.metadata)

    async def test_one_that_binds(self, discovered: SimpleNamespace) -> None:
        """As it says itself (RFC 9449 §5.1)."""
        offers = Metadata(
            issuer=ISSUER, token_endpoint=f"{ISSUER}/token", dpop_signing_alg_values_supported=("ES256",)
        )
        discovered.results = [offers]
        async with client(issuer=ISSUER, metadata=None, binding="dpop") as broker:
            assert offers is await broker.discover()


def test_a_bound_token_ends_with_its_certificate() -> None:
    """And no other does (RFC 8705 §6.3)."""
    now = SYSTEM_CLOCK.now()
    me = SimpleNamespace(x509_context=SimpleNamespace(svid=SimpleNamespace(not_after=now + timedelta(seconds=100))))
    session = client(identity=me)._session

    def token(method: str) -> AccessToken:
        about = SimpleNamespace(max_ttl=None)
        return SimpleNamespace(binding=Binding(method), request=about)  # type: ignore[arg-type, return-value]

    assert 90 < session.limit(token("mtls")) <= 100
    assert 3600 == session.limit(token("dpop"))


async def test_against_a_token_server() -> None:
    """From nothing to a token over HTTP, and a crowd is one POST."""
    with TokenServer() as server:
        broker = server.broker()
        async with broker:
            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(broker.fetch, TokenRequest.of("a", audience="b", grant="client_credentials"))
            assert 1 == broker.health.tokens


async def test_against_the_development_token_broker() -> None:
    """Discovery, jwt-spiffe, token exchange, DPoP: with nothing said but who and where."""
    from spiffe_client import Workload

    async with DevTrustDomain("prod.example") as domain:
        domain.register("spiffe://prod.example/orders", any=True)
        me = Client.of("spiffe://prod.example/orders", audiences=["*"], scopes="orders:read")
        async with DevTokenBroker(domain, rules=[me]) as tokens, Workload(domain.endpoint) as workload:
            trust = WebPki(tokens.web_roots)
            async with TokenBroker(tokens.issuer, identity=workload, trust=trust, on_event=lambda _: None) as broker:
                token = await broker.token("orders:read", audience="https://orders.prod.example", purpose="books")
                assert ("DPoP", broker.dpop.jkt) == (token.token_type, token.binding.thumbprint)
                assert frozenset({"orders:read"}) == token.scope
                assert (await broker.introspect(token)).active
                assert "failed" != (await broker.revoke(token)).outcome
                assert None is broker.peek(token.request)


async def test_a_rotation_against_the_development_token_broker() -> None:
    """A certificate-bound token in use is there, bound to the new certificate, the moment the SVID is (RFC 8705 §6.3)."""
    from spiffe_client import Workload

    async with DevTrustDomain("prod.example") as domain:
        domain.register("spiffe://prod.example/orders", any=True)
        me = Client.of("spiffe://prod.example/orders", audiences=["*"], scopes="orders:read")
        async with DevTokenBroker(domain, rules=[me]) as tokens, Workload(domain.endpoint) as workload:
            async with TokenBroker(
                tokens.issuer,
                identity=workload,
                trust=WebPki(tokens.web_roots),
                binding="mtls",
                on_event=lambda _: None,
            ) as broker:
                request = TokenRequest.of("orders:read", audience="https://orders.prod.example")
                before = await broker.fetch(request)
                assert broker.channel.certificate == before.binding.thumbprint
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(domain.rotate)
                    await workload.wait_updated()
                    after = broker.peek(request)
                assert after is not None
                assert before.binding.thumbprint != after.binding.thumbprint == broker.channel.certificate
