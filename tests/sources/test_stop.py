"""The kill switch: what a stopped source held is gone at once, from any thread, and for good."""

from __future__ import annotations

import signal
import threading

import anyio
import pytest

from spiffe_client._latest import Latest
from spiffe_client import BundleSet, SourceClosedError, SourceError
from spiffe_client.errors import StoppedError
from spiffe_client.http.federation import FederatedBundleSource, WebEndpoint
from spiffe_client.ids import TrustDomain
from spiffe_client.sources import BundleSource, JwtSource, X509Source
from spiffe_client.workload_api import any_thread
from tests.support.manual_clock import settle

pytestmark = pytest.mark.anyio


@pytest.fixture
def source(world) -> X509Source:
    world.api.x509.greeting = [world.api.context("/billing")]
    return X509Source(world.api, **world.terms)


def in_thread(call) -> None:
    """Run a call in another thread, with this one and its event loop standing still."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


HOW = [lambda call: call(), in_thread]


class Listener:
    def __init__(self) -> None:
        self.heard_in: list[int] = []

    def notify(self) -> None:
        self.heard_in.append(threading.get_ident())

    @any_thread
    def cut(self) -> None:
        self.heard_in.append(threading.get_ident())


class TestX509:
    @pytest.mark.parametrize("how", HOW, ids=["here", "another thread"])
    async def test_reads_fail_at_once_and_for_good(self, world, source, how) -> None:
        """When stop() returns, there is nothing left to read, whatever the Workload API says later."""
        async with source:
            how(lambda: source.stop("key leaked"))
            for read in (
                lambda: source.x509_context,
                lambda: source.svid,
                lambda: source.x509_bundles,
                source.refuse_unopened,
                source.changes,
            ):
                with pytest.raises(StoppedError, match="stopped: key leaked") as e:
                    read()
                assert "key leaked" == e.value.reason
            assert None is source._feed.holding.latest.value
            await settle()
            assert not world.api.x509.live  # nobody asks for more of it
            with pytest.raises(StoppedError):
                await source.wait_updated()
        with pytest.raises(StoppedError):
            _ = source.svid

    async def test_an_update_on_its_way_is_not_published(self, world, source) -> None:
        """A message that is being prepared while another thread stops the source comes too late."""
        began, go_on = threading.Event(), threading.Event()
        listener = Listener()

        class Slow:
            def prepare(self, _: object) -> None:
                began.set()
                go_on.wait(10)

        slow = Slow()
        async with source:
            source.before_publish(slow.prepare)
            source.after_publish(listener.notify)
            world.api.x509.say(world.api.context("/billing"))
            await anyio.to_thread.run_sync(began.wait)
            source._feed.stop("now")  # what another thread does, before the event loop hears of it
            go_on.set()
            await wait_for(lambda: listener.heard_in)
            assert [] == world.told("svid.updated")[1:]
            with pytest.raises(StoppedError):
                _ = source.svid

    async def test_a_signal_in_the_middle_of_a_publication(self, world, source) -> None:
        """Regression: a handler that stopped the source waited for a lock that its own thread held, for ever."""

        class Interrupted(Latest):
            def set(self, value: object) -> None:
                super().set(value)
                signal.raise_signal(signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, lambda *_: source.stop("SIGUSR1"))
        try:
            async with source:
                source._feed.holding.latest = Interrupted(source._feed.holding.latest.value)
                world.api.x509.say(world.api.context("/billing"))
                await wait_for(lambda: source.health.state == "stopped")
                assert None is source._feed.holding.latest.value
                with pytest.raises(StoppedError, match="SIGUSR1"):
                    _ = source.svid
        finally:
            signal.signal(signal.SIGUSR1, before)

    async def test_health_says_so(self, world, source) -> None:
        """State, since when, and why; closing changes nothing about it."""
        async with source:
            await world.clock.advance(5)
            source.stop("drill")
            at = world.clock.now()
            await world.clock.advance(5)
        health = source.health
        assert ("stopped", at, None, 0) == (health.state, health.since, health.expires_at, health.attempts)
        assert isinstance(health.last_error, StoppedError)

    async def test_first_reason_counts_and_is_told_once(self, world, source) -> None:
        """Idempotent: the second stop does nothing."""
        async with source:
            source.stop("first")
            in_thread(lambda: source.stop("second"))
            with pytest.raises(StoppedError, match="first"):
                _ = source.svid
        told = [event for event in world.events if event.name == "workload.stopped"]
        assert [{"source": "X509Source", "reason": "first"}] == [event.attributes for event in told]

    @pytest.mark.parametrize("how", HOW, ids=["here", "another thread"])
    async def test_who_waits_is_let_go(self, world, source, how) -> None:
        """Nobody waits for an update that will never come."""
        ended: list[str] = []

        async def follow() -> None:
            with pytest.raises(StoppedError):
                async for _ in changes:
                    ended.append("served")
            ended.append("changes")

        async def wait() -> None:
            with pytest.raises(StoppedError):
                await source.wait_updated()
            ended.append("wait_updated")

        async with source, anyio.create_task_group() as tasks:
            changes = source.changes()
            tasks.start_soon(follow)
            tasks.start_soon(wait)
            await settle()
            how(lambda: source.stop("now"))
        assert {"changes", "wait_updated"} == set(ended)

    async def test_opening_is_let_go(self, world, source) -> None:
        """Who still waits for the first update hears why it will not come."""
        world.api.x509.greeting = []
        async with anyio.create_task_group() as tasks:

            async def enter() -> None:
                with pytest.raises(StoppedError):
                    await source.open()

            tasks.start_soon(enter)
            await settle()
            in_thread(lambda: source.stop("now"))

    async def test_before_opening(self, world, source) -> None:
        """A source that was stopped cannot be opened any more."""
        source.stop("never")
        with pytest.raises(StoppedError):
            await source.open()
        with pytest.raises(StoppedError):
            source.start()
        assert 0 == world.api.x509.opened

    async def test_while_it_is_being_started(self, world, source, monkeypatch) -> None:
        """Another thread stops it in the middle of start(): no background task goes on."""
        monkeypatch.setattr(source._feed.holding, "opened", lambda: in_thread(lambda: source.stop("now")))
        with pytest.raises(StoppedError):
            source.start()
        await settle()
        assert not world.api.x509.live
        await source.aclose()

    async def test_after_closing(self, source) -> None:
        """Closed or stopped: stopped says more."""
        async with source:
            pass
        with pytest.raises(SourceClosedError):
            _ = source.svid
        source.stop("afterwards")
        with pytest.raises(StoppedError):
            _ = source.svid

    async def test_iterator_of_before(self, source) -> None:
        """An iterator that was made before raises, even if nobody waits in it."""
        async with source:
            changes = source.changes()
            source._feed.stop("now")
            with pytest.raises(StoppedError):
                await anext(changes)
            source.stop("now")

    async def test_stop_and_forget(self, source) -> None:
        """A stopped source has ended its task by itself; nobody is told off for not closing it."""
        await source.open()
        source.stop("now")
        await settle()
        assert not source._lifetime.unclosed
        await source.aclose()

    async def test_listeners(self, source) -> None:
        """One that is safe in any thread is called before stop() returns, the others by the event loop."""
        anywhere, on_loop = Listener(), Listener()
        here = threading.get_ident()
        async with source:
            source.after_publish(anywhere.cut)
            source.after_publish(on_loop.notify)
            in_thread(lambda: source.stop("now"))
            assert 1 == len(anywhere.heard_in)
            assert here not in anywhere.heard_in
            assert [] == on_loop.heard_in
            await settle()
        assert here == anywhere.heard_in[1]
        assert [here] == on_loop.heard_in

    async def test_it_is_a_source_error(self) -> None:
        """Whoever handles a source that cannot serve fails closed on a stopped one, too."""
        assert issubclass(StoppedError, SourceError)
        assert not StoppedError.retryable


class TestJwt:
    @pytest.mark.parametrize("how", HOW, ids=["here", "another thread"])
    async def test_tokens_are_gone(self, world, how) -> None:
        """Not one of the tokens held is kept or handed out, and no new one is asked for."""
        async with JwtSource(world.api, **world.terms) as source:
            await source.fetch_jwt_svid("reports")
            how(lambda: source.stop("now"))
            assert 0 == len(source._cache)
            with pytest.raises(StoppedError):
                await source.fetch_jwt_svid("reports")
            for read in (lambda: source.jwt_bundles, lambda: source.verify_jwt_svid("token", "reports")):
                with pytest.raises(StoppedError):
                    read()
            assert 1 == len(world.api.asked)

    @pytest.mark.parametrize("how", HOW, ids=["here", "another thread"])
    async def test_token_on_its_way(self, world, how) -> None:
        """Who waits for one hears of it at once, not when the answer comes."""
        world.api.jwt_gate = anyio.Event()

        async def ask() -> None:
            with pytest.raises(StoppedError):
                await source.fetch_jwt_svid("reports")

        async with JwtSource(world.api, **world.terms) as source, anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            how(lambda: source.stop("now"))
        assert 0 == len(source._cache)

    async def test_token_that_arrives_with_the_stop(self, world) -> None:
        """An answer that the event loop reads before it hears of the stop is not handed out."""
        world.api.jwt_gate = anyio.Event()

        async def ask() -> None:
            with pytest.raises(StoppedError):
                await source.fetch_jwt_svid("reports")

        async with JwtSource(world.api, **world.terms) as source, anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            source._feed.holding.stop("now")  # the first thing that another thread does
            world.api.jwt_gate.set()


class TestBundles:
    @pytest.mark.parametrize("how", HOW, ids=["here", "another thread"])
    async def test_both_kinds_are_gone(self, world, how) -> None:
        """Nobody is verified by a stopped source, X.509 or JWT."""
        world.api.x509_bundles.greeting = [BundleSet([world.api.authority.x509_bundle])]

        async def wait() -> None:
            with pytest.raises(StoppedError):
                await source.wait_updated()

        async with BundleSource(world.api, **world.terms) as source, anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await settle()
            how(lambda: source.stop("now"))
            for read in (lambda: source.x509_bundles, lambda: source.jwt_bundles):
                with pytest.raises(StoppedError):
                    read()
            assert "stopped" == source.health.state
        assert 1 == len(world.told("workload.stopped"))


class TestFederated:
    async def test_bundles_of_others_are_gone(self) -> None:
        """A source that polls bundle endpoints is stopped like the others, here before it was opened."""
        endpoint = WebEndpoint(TrustDomain("other.example"), "https://other.example/bundle")
        source = FederatedBundleSource([endpoint])
        source.stop("now")
        for read in (lambda: source.x509_bundles, lambda: source.jwt_bundles, source.start):
            with pytest.raises(StoppedError):
                read()
        assert ["stopped"] == [health.state for health in source.health.values()]


async def wait_for(condition) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()
