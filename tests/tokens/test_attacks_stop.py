"""Attacks on the kill switch: nothing outruns it, nothing blocks it, nothing survives it; each was possible once."""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator

import anyio
import pytest
from tests.support.manual_clock import settle
from tests.support.raw_broker import issues, json_reply, serve_raw
from tests.support.token_parties import metadata_of
from tests.support.token_world import READ, TokenWorld, text_of

from spiffe_client._redact import Secret
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from spiffe_client.errors import SpiffeError, StoppedError, TokenBrokerClosedError
from spiffe_client.tokens import (
    ForeignToken,
    NoAuthentication,
    OwnSvid,
    TokenBroker,
    TokenRequest,
)
from spiffe_client.tokens._flights import Flights
from spiffe_client.tokens._kill_switch import KillSwitch
from spiffe_client.tokens._lock import Lock
from spiffe_client.tokens._revocation import Revoker

pytestmark = pytest.mark.anyio

REQUEST = TokenRequest.of("x", subject=ForeignToken(Secret("theirs")))


@pytest.fixture
async def world(anyio_backend: str) -> AsyncIterator[TokenWorld]:
    world = TokenWorld()
    async with world.running():
        yield world


@pytest.fixture
def raw():
    with serve_raw(lambda _: issues()) as raw:
        yield raw


def client(url: str, **options: object) -> TokenBroker:
    metadata = metadata_of(url, revocation_endpoint=f"{url}/revocation")
    given = {"authentication": NoAuthentication(), "client_id": "c", "binding": "none", **options}
    return TokenBroker(metadata=metadata, **given)  # type: ignore[arg-type]


def in_thread(call, *args) -> None:
    """Run a call in another thread, with this one and its event loop standing still."""
    thread = threading.Thread(target=call, args=args)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


class TestOutrun:
    async def test_a_request_between_the_look_and_its_start(self, raw, monkeypatch) -> None:
        """A token landed after stop(), and stayed usable."""
        launch = Flights.launch

        def stopped_first(flights, request, flight):
            in_thread(broker.stop, "compromised")
            return launch(flights, request, flight)

        monkeypatch.setattr(Flights, "launch", stopped_first)
        async with client(raw.url) as broker:
            with pytest.raises(StoppedError):
                await broker.fetch(REQUEST)
        assert ([], None, "stopped") == (raw.asked, broker.peek(REQUEST), broker.health.state)

    async def test_a_renewal_that_falls_due_in_that_moment(self, world: TokenWorld) -> None:
        """Nothing is asked for, and the background task lives on."""
        await world.cache.fetch(READ)
        launch = world.cache._flights.launch

        def stopped_first(request, flight):
            in_thread(world.cache.close, StoppedError("compromised"))
            return launch(request, flight)

        world.cache._flights.launch = stopped_first
        await world.clock.advance(46)
        assert (1, None, {}) == (world.broker.asked, world.cache.peek(READ), world.cache._flights._by_key)

    async def test_a_renewal_that_falls_due_afterwards(self, world: TokenWorld) -> None:
        """Appointments may linger; nobody keeps them."""
        await world.cache.fetch(READ)
        world.cache.close(StoppedError("compromised"))
        await world.clock.advance(46)
        assert 1 == world.broker.asked

    async def test_a_stop_in_the_middle_of_a_landing(self, world: TokenWorld) -> None:
        """In the very thread that takes the token in, as a signal handler would: it is gone when that goes on."""
        keep = world.cache._entries.keep

        def stopped_meanwhile(*args, **options):
            world.cache.close(StoppedError("compromised"))
            return keep(*args, **options)

        world.cache._entries.keep = stopped_meanwhile
        assert isinstance(await world.fails(READ), StoppedError)
        assert (None, 0) == (world.cache.peek(READ), len(world.cache))

    async def test_a_home_that_has_ended_starts_nothing(self, world: TokenWorld) -> None:
        """What cannot start is not on its way either."""
        world.home._ended = True
        assert isinstance(await world.fails(READ), TokenBrokerClosedError)
        assert {} == world.cache._flights._by_key

    async def test_opening_while_another_thread_stops_it(self, raw, monkeypatch) -> None:
        """It was left half open: with a background task that nobody would end."""
        broker = client(raw.url)
        also = KillSwitch.also

        def stopped_first(switch, cut):
            in_thread(broker.stop, "compromised")
            also(switch, cut)

        monkeypatch.setattr(KillSwitch, "also", stopped_first)
        with pytest.raises(StoppedError):
            await broker.open()
        assert broker._open is not None and broker._open._service._done.is_set()


class TestSignals:
    @pytest.mark.parametrize("what", ["cache", "lineage"])
    async def test_a_stop_while_this_thread_holds_a_lock(self, raw, what: str) -> None:
        """The handler waited for its own thread, for ever; now the holder does it when it lets go."""
        events = []
        async with client(raw.url, on_event=events.append) as broker:
            await broker.fetch(REQUEST)
            cache = broker._open.cache
            lock = cache._lock if what == "cache" else broker._session.lineage._lock
            before = signal.signal(signal.SIGUSR1, lambda *_: broker.stop("SIGUSR1"))
            try:
                with lock:
                    signal.raise_signal(signal.SIGUSR1)
                    assert None is broker.peek(REQUEST)
                    assert None is cache.peek(REQUEST)
                assert 0 == len(cache)
            finally:
                signal.signal(signal.SIGUSR1, before)
            with pytest.raises(StoppedError):
                await broker.fetch(REQUEST)
        assert 1 == [event.name for event in events].count("workload.stopped")

    async def test_who_waits_is_woken_although_the_loop_was_interrupted(self, world: TokenWorld) -> None:
        """Nothing of the loop is touched in the handler: it hears of it next."""
        world.broker.script = [anyio.Event()]
        got: list[SpiffeError] = []

        async def ask() -> None:
            got.append(await world.fails(READ))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            world.cache.close(StoppedError("SIGTERM"))
            assert [] == got
        assert ["SIGTERM"] == [error.reason for error in got]

    def test_what_is_left_for_the_holder_is_done(self) -> None:
        """Also what is left while that is being done."""
        lock, done = Lock(), []
        with lock:
            lock.soon(lambda: (done.append(1), lock.soon(lambda: done.append(2))))
            assert [] == done
        assert [1, 2] == done

    def test_the_switch_is_used_once(self) -> None:
        """The first reason counts, everybody hears of it once, and who is gone does not."""
        heard = []

        class Listener:
            def hear(self) -> None:
                heard.append(switch.error.reason)

        switch, one, two, gone = KillSwitch(), Listener(), Listener(), Listener()
        switch.refuse()
        for listener in (one, one, gone):
            switch.also(listener.hear)
        dead, other = KillSwitch(), Listener()
        dead.also(other.hear)
        dead._cuts[0] = dead._cuts.pop(id(other))
        del gone, listener, other
        dead.stop(StoppedError("nobody"))
        switch.stop(StoppedError("first"))
        switch.stop(StoppedError("second"))
        switch.also(two.hear)
        assert ["first"] * 2 == heard
        with pytest.raises(StoppedError, match="first"):
            switch.refuse()

    def test_two_who_use_it_at_once(self) -> None:
        """Whoever finds nothing left to call leaves it to the other."""

        class Taken(dict):
            def popitem(self):
                raise KeyError

        class Listener:
            def hear(self) -> None:
                raise AssertionError("called twice")

        switch, listener = KillSwitch(), Listener()
        switch._cuts = Taken()
        switch.also(listener.hear)
        switch.stop(StoppedError("first"))
        assert switch.used


    @pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
    def test_one_that_fails_spares_nobody(self, kind: type[BaseException]) -> None:
        """What a bug, or Ctrl-C, does to one of those who are told must not leave the others with their tokens."""
        told = []

        class Listener:
            def hear(self) -> None:
                told.append(self)
                if len(told) == 2:
                    raise kind("in the middle")

        switch, listeners = KillSwitch(), [Listener() for _ in range(4)]
        for listener in listeners:
            switch.also(listener.hear)
        with pytest.raises(kind, match="in the middle"):
            switch.stop(StoppedError("first"))
        assert 4 == len(told)


class TestClosing:
    async def test_tokens_issued_while_those_held_are_revoked(self) -> None:
        """Whoever asked on during aclose(revoke=True) got tokens that nobody revoked."""
        live: set[str] = set()

        def answer(asked):
            if asked.target == "/revocation":
                assert None is broker.peek(REQUEST)
                live.discard(dict(asked.form)["token"])
                return json_reply({})
            live.add(f"token-{len(raw.asked)}")
            return issues(access_token=f"token-{len(raw.asked)}")

        refused: list[str] = []
        with serve_raw(answer) as raw:
            async with client(raw.url) as broker:
                await broker.fetch(REQUEST)

                async def ask_on() -> None:
                    while not refused:
                        try:
                            await broker.fetch(REQUEST)
                        except TokenBrokerClosedError as error:
                            refused.append(str(error))
                        await anyio.sleep(0)

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ask_on)
                    await anyio.sleep(0.01)
                    await broker.aclose(revoke=True)
        assert (set(), 1) == (live, len(refused))

    async def test_a_revocation_that_crashes(self, raw, monkeypatch) -> None:
        """It left the client open: with its task, its connections, and tokens for whoever asked."""

        async def crash(*_, **__):
            raise RuntimeError("no error of ours")

        events = []
        monkeypatch.setattr(Revoker, "_post", crash)
        broker = await client(raw.url, on_event=events.append).open()
        await broker.fetch(REQUEST)
        await broker.aclose(revoke=True)
        assert broker._open._service._done.is_set()
        assert ["failed"] == [e.attributes["outcome"] for e in events if e.name == "token.revoked"]
        with pytest.raises(TokenBrokerClosedError):
            await broker.fetch(REQUEST)

    async def test_whatever_revocation_raises(self, raw, monkeypatch) -> None:
        """Task, connections and tokens end all the same."""

        async def crash(*_, **__):
            raise RuntimeError("no error of ours")

        monkeypatch.setattr(Revoker, "revoke_all", crash)
        broker = await client(raw.url).open()
        await broker.fetch(REQUEST)
        with pytest.raises(RuntimeError):
            await broker.aclose(revoke=True)
        assert broker._open._service._done.is_set()
        assert (None, None) == (broker.peek(REQUEST), broker.channel._current)


class TestPurgeFlood:
    async def test_purges_about_others_starve_nobody(self, world: TokenWorld) -> None:
        """Each event about anybody ended every request on its way; enough of them, and no token ever came."""
        gate = anyio.Event()
        world.broker.script = [gate]
        got = []

        async def ask() -> None:
            got.append(await world.cache.fetch(READ))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            for _ in range(100):
                world.cache.purge(lambda token: "orders:write" in token.scope)
            gate.set()
        assert (["token-1"], 1) == ([text_of(token) for token in got], world.broker.asked)

    async def test_a_renewal_that_is_purged_on_its_way(self, world: TokenWorld) -> None:
        """The token before it, which the purge is not about, stays, and is renewed later."""
        one = await world.cache.fetch(READ)
        gate = anyio.Event()
        world.broker.script = [gate]
        await world.clock.advance(46)
        world.cache.purge(lambda token: "token-2" == text_of(token))
        gate.set()
        await settle()
        assert one is world.cache.peek(READ)
        await world.clock.advance(8)  # all that is left: when, is drawn
        assert "token-3" == text_of(world.cache.peek(READ))

    async def test_a_purge_while_the_purge_before_it_is_asked(self, world: TokenWorld) -> None:
        """Each token is shown to all of them."""
        gate = anyio.Event()
        world.broker.script = [gate]
        got, shown = [], []

        def look(token):
            shown.append(text_of(token))
            if len(shown) == 1:
                world.cache.purge(lambda token: "token-1" == text_of(token))
            return False

        async def ask() -> None:
            got.append(await world.cache.fetch(READ))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            world.cache.purge(look)
            gate.set()
        assert (["token-2"], ["token-1"]) == ([text_of(token) for token in got], shown)

    async def test_a_slow_purge_holds_up_nobody(self, world: TokenWorld) -> None:
        """It looks at tokens without the lock: another thread can change what is held meanwhile."""
        await world.cache.fetch(READ)
        assert 0 == world.cache.purge(lambda token: in_thread(world.cache.purge, token) is None)

    async def test_a_grant_made_of_a_purged_token(self, world: TokenWorld) -> None:
        """What is no access token goes with those that it was made from."""
        parent = await world.cache.fetch(READ)
        gate = anyio.Event()
        world.broker.script = [gate, gate, "N_A", "N_A"]
        got: list[object] = []

        async def exchange(request: TokenRequest) -> None:
            try:
                got.append(await world.cache.exchange(request))
            except SpiffeError as error:
                got.append(error.code)

        async with anyio.create_task_group() as tasks:
            for request in (TokenRequest.of("x", subject=parent), TokenRequest.of("x", subject=OwnSvid())):
                tasks.start_soon(exchange, request)
                await settle()
            world.cache.purge(lambda token: token is parent)
            gate.set()
        assert {"SecurityToken", "str"} == {type(one).__name__ for one in got}


class TestReach:
    async def test_a_client_of_its_own_with_a_stopped_identity(self) -> None:
        """TokenBroker(identity=me) went on handing out tokens after me.stop()."""
        from spiffe_client import Workload

        us, audience = "spiffe://prod.example/agent", "https://orders.prod.example"
        rules = [Client.of(us, audiences=[audience], scopes="orders:read")]
        request = TokenRequest.of("orders:read", audience=audience)
        async with DevTrustDomain("prod.example") as domain, DevTokenBroker(domain, rules=rules) as dev:
            domain.register(us, any=True)
            async with Workload(domain.endpoint, token_broker=dev.issuer) as me:
                async with TokenBroker(dev.issuer, identity=me) as own:
                    await own.fetch(request)
                    await me.tokens.fetch(request)
                    in_thread(me.stop, "compromised")
                    assert (None, None) == (own.peek(request), me.tokens.peek(request))
                    with pytest.raises(StoppedError, match="compromised"):
                        await own.fetch(request)
                    assert ("stopped", "stopped") == (own.health.state, me.tokens.health.state)
                    for broker in (own, me.tokens):
                        with pytest.raises(TokenBrokerClosedError, match="dropped"):
                            broker.dpop.proof("GET", "https://x.example/", at=broker.clock.now())
                        with anyio.fail_after(20):
                            while broker.channel._current is not None:
                                await anyio.sleep(0.001)
                with pytest.raises(StoppedError):
                    await TokenBroker(dev.issuer, identity=me).open()

    async def test_what_has_nothing_to_do_with_it_stays(self, world: TokenWorld) -> None:
        """Dropping what was made from a stopped client's tokens drops nothing else."""
        token = await world.cache.fetch(READ)
        world.cache.orphan()
        assert token is world.cache.peek(READ)

    async def test_a_shared_key_is_its_owners(self, raw) -> None:
        """One client that is stopped does not take the key from the others."""
        from spiffe_client.tokens._dpop import DpopKey

        key = DpopKey()
        async with client(raw.url, binding=key) as broker:
            broker.stop("drill")
            assert key.proof("GET", "https://x.example/", at=broker.clock.now())
