"""Which pool a request gets, and when pools close: decided without a network, on a clock of the test's."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiffe_client.audit import Event
from spiffe_client.authorize import member_of
from spiffe_client.bundle import BundleSet
from spiffe_client.errors import SourceClosedError, SourceError
from spiffe_client.http._drainer import Drainer
from spiffe_client.http._pools import Pools
from spiffe_client.http._trust import hang_up, withdrawn
from spiffe_client.tls import SpiffeTls
from tests.support.shop import WEB, MovingSource, Shop
from tests.support.stepping_clock import SteppingClock

SHOP = Shop()
#: Snapshots as they follow each other: the same identity anew, a withdrawn root, another identity.
SNAPSHOTS = [
    SHOP.context(WEB),
    SHOP.context(WEB),
    SHOP.context(WEB, bundles=BundleSet([SHOP.other.x509_bundle])),
    SHOP.context("spiffe://shop.test/renamed"),
    SourceClosedError("gone"),
]


class World:
    """Pools of plain numbers."""

    def __init__(self, *, drain: float = 30.0, part: float = 0.5) -> None:
        self.clock = SteppingClock(datetime.now(UTC))
        self.source = MovingSource(SNAPSHOTS[0])
        self.made: list[int] = []
        self.events: list[Event] = []
        self.pools = Pools(
            SpiffeTls(self.source, member_of("shop.test")),
            self._make,
            quiet=True,
            drain=drain,
            clock=self.clock,
            jitter=lambda low, high: low + part * (high - low),
            sink=self.events.append,
        )

    def _make(self) -> int:
        self.made.append(len(self.made))
        return self.made[-1]

    def request(self) -> int:
        pool = self.pools.enter()
        assert None is self.pools.leave(pool)
        return pool.inner


class TestPools:
    def test_moment_is_drawn_within_the_window(self) -> None:
        """Each pool retires at its own moment, no later than the window ends."""
        for part in (0.0, 0.25, 1.0):
            world = World(drain=20.0, part=part)
            world.request()
            world.source.publish(SNAPSHOTS[1])
            world.pools.observe()
            assert 20.0 * part == world.pools.pending()

    def test_first_of_several_windows_counts(self) -> None:
        """A later change does not postpone, and does not hasten beyond its own draw."""
        world = World(part=1.0)
        world.request()
        for _ in range(3):
            world.source.publish(SHOP.context(WEB))
            world.pools.observe()
            world.clock.step(5)

        assert 15.0 == world.pools.pending()

    def test_nothing_to_retire(self) -> None:
        """Without a pool there is nothing to report, to wait for, or to close."""
        world = World()
        world.request()
        world.source.publish(SNAPSHOTS[4])
        with pytest.raises(SourceError):
            world.pools.observe()
        assert [0] == world.pools.take_idle()
        world.source.publish(SNAPSHOTS[0])
        world.pools.observe()
        world.source.publish(SNAPSHOTS[1])
        world.pools.observe()

        assert None is world.pools.pending()
        assert [] == world.pools.take_all()
        assert [] == world.events  # no connection was pooled

    def test_identity_in_words(self) -> None:
        """For messages; before the first request and after the end there is none."""
        world = World()
        assert "none" == world.pools.identity
        world.request()
        assert WEB == world.pools.identity

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("publish"), st.integers(0, len(SNAPSHOTS) - 1)),
                st.tuples(st.just("enter"), st.none()),
                st.tuples(st.just("leave"), st.integers(0, 5)),
                st.tuples(st.just("step"), st.sampled_from([1.0, 15.0, 31.0])),
                st.tuples(st.just("sweep"), st.none()),
            ),
            max_size=40,
        )
    )
    def test_whatever_happens(self, steps) -> None:
        """Nothing in use is closed, nothing is closed twice, and in the end nothing is forgotten."""
        world = World()
        running, closed = [], []

        def close(inners) -> None:
            for inner in inners:
                assert inner not in closed
                assert inner not in [pool.inner for pool in running]
                closed.append(inner)

        def left(pool) -> list[int]:
            inner = world.pools.leave(pool)
            return [] if inner is None else [inner]

        for what, argument in steps:
            if what == "publish":
                world.source.publish(SNAPSHOTS[argument])
            elif what == "enter":
                try:
                    running.append(world.pools.enter())
                except SourceError:
                    continue
                assert running[-1].inner not in closed
            elif what == "leave" and argument < len(running):
                close(left(running.pop(argument)))
            elif what == "step":
                world.clock.step(argument)
            elif what == "sweep":
                close(world.pools.take_idle())
                assert 0.0 != world.pools.pending()
        while running:
            close(left(running.pop()))
        close(world.pools.take_all())

        assert sorted(closed) == world.made


class TestWithdrawn:
    def test_what_counts(self) -> None:
        """Only what is taken away counts, and only from where peers can come."""
        full, renewed, without_shop, renamed = SNAPSHOTS[:4]
        shop, other = SHOP.ca.trust_domain, SHOP.other.trust_domain

        assert None is withdrawn(full, renewed, None)
        assert None is withdrawn(without_shop, full, None)
        assert "an authority of shop.test was withdrawn" == withdrawn(full, without_shop, None)
        assert "an authority of shop.test was withdrawn" == withdrawn(full, without_shop, [shop])
        assert None is withdrawn(full, without_shop, [other])
        assert f"the own identity {WEB} was withdrawn" == withdrawn(full, renamed, [other])


class TestHangUp:
    def test_twice(self) -> None:
        """A connection that is gone already is no error."""

        class Stream:
            def __init__(self, sock) -> None:
                self.sock = sock

            def get_extra_info(self, info: str) -> object:
                return self.sock

        here, there = socket.socketpair()
        with here, there:
            hang_up(Stream(here))
            assert b"" == there.recv(1)
        hang_up(Stream(here))


@pytest.mark.anyio
class TestDrainer:
    async def test_crash_is_told(self) -> None:
        """A bug in the background leaves the closing to requests, and says so."""
        world = World()

        async def close(inners) -> None:
            raise ZeroDivisionError("a bug")

        drainer = Drainer(world.pools, close, clock=world.clock, sink=world.events.append)
        world.request()
        world.source.publish(SNAPSHOTS[1])
        world.pools.observe()
        world.clock.step(30)
        drainer.wake()
        await anyio.wait_all_tasks_blocked()

        assert ["connection.drain_crashed"] == [e.name for e in world.events]
        assert "a bug" in world.events[0].message

    async def test_sooner_moment_takes_over(self) -> None:
        """A withdrawal does not wait for the window of an ordinary change to end."""
        world = World()
        closed: list[int] = []

        async def close(inners) -> None:
            closed.extend(inners)

        drainer = Drainer(world.pools, close, clock=world.clock, sink=world.events.append)
        world.request()
        world.source.publish(SNAPSHOTS[1])
        world.pools.observe()
        drainer.wake()
        drainer.wake()  # nothing new
        await world.clock.wait_sleepers()
        assert 1 == len(world.clock.due)

        world.source.publish(SNAPSHOTS[2])
        world.pools.observe()
        drainer.wake()
        await anyio.wait_all_tasks_blocked()
        assert [0] == closed
        assert [] == world.clock.due  # and nobody waits any more

    async def test_stop(self) -> None:
        """Nothing is left waiting."""
        world = World()

        async def close(inners) -> None:
            raise AssertionError("unreachable")

        drainer = Drainer(world.pools, close, clock=world.clock, sink=world.events.append)
        drainer.stop()
        world.request()
        world.source.publish(SNAPSHOTS[1])
        world.pools.observe()
        drainer.wake()
        await world.clock.wait_sleepers()
        drainer.stop()
        await anyio.wait_all_tasks_blocked()

        assert [] == world.clock.due


def test_drainer_without_an_event_loop() -> None:
    """A source that tells from a plain thread has no loop to wait on: the next request closes."""
    world = World()
    drainer = Drainer(world.pools, None, clock=world.clock, sink=world.events.append)
    world.request()
    world.source.publish(SNAPSHOTS[1])
    world.pools.observe()
    drainer.wake()
    drainer.stop()

    world.clock.step(30)
    assert [0] == world.pools.take_idle()
