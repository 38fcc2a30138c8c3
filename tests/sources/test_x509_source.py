"""An X509Source always knows the identity, never hands out a wrong one, and never dies of bad news."""

from __future__ import annotations

import gc
import logging
import os
import threading
from dataclasses import FrozenInstanceError
from datetime import timedelta

import anyio
import pytest

from spiffe_client import (
    BundleError,
    EndpointError,
    FirstUpdateTimeoutError,
    InvalidRequestError,
    NoIdentityIssuedError,
    ProtocolError,
    SourceClosedError,
    SourceError,
    StaleError,
    UnavailableError,
    UnimplementedError,
    X509SvidError,
)
from spiffe_client.dev import CertificateAuthority
from spiffe_client.sources import X509Source
from tests.support.fake_workload_api import Refused
from tests.support.manual_clock import settle

pytestmark = pytest.mark.anyio

MISSING = UnavailableError("there is no socket at /run/agent.sock", cause_kind="missing")
DENIED = NoIdentityIssuedError("no identity issued")


@pytest.fixture
def source(world) -> X509Source:
    world.api.x509.greeting = [world.api.context("/billing")]
    return X509Source(world.api, **world.terms)


class TestOpening:
    async def test_the_first_update_opens(self, world, source) -> None:
        """Entering waits for the first update; from then on reads are instant."""
        async with source as entered:
            assert source is entered
            assert "spiffe://prod.example/billing" == str(source.svid.id)
            assert world.api.authority.x509_bundle == source.x509_bundles[source.svid.id.trust_domain]
            assert source.x509_context is source.x509_context
            assert "fresh" == source.health.state
            assert source.svid.not_after == source.health.expires_at
            assert ["svid.updated"] == world.names

    async def test_opening_twice_is_once(self, world, source) -> None:
        """A source that is open is open: one stream, no second wait."""
        async with source:
            assert source is await source.open()
            source.refuse_unopened()
            assert 1 == world.api.x509.opened

    async def test_waiting_says_why_once(self, world, source) -> None:
        """Workload Endpoint §6 (H): it waits for a missing socket, saying so once; repetitions are debug."""
        greeting, world.api.x509.greeting = world.api.x509.greeting, [MISSING]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.open)
            await world.clock.advance(5)
            assert "waiting" == source.health.state
            assert MISSING is source.health.last_error
            assert 10 < source.health.attempts
            assert ["waiting for the X.509 identity: there is no socket at /run/agent.sock"] == world.told(
                "source.unavailable"
            )
            assert 10 < len(world.told("source.unavailable", level=logging.DEBUG))

            world.api.x509.greeting = greeting
            await world.clock.advance(1)
        assert "fresh" == source.health.state
        assert 0 == source.health.attempts
        assert ["source.unavailable", "svid.updated", "source.recovered"] == world.names
        await source.aclose()

    @pytest.mark.parametrize("error", [MISSING, DENIED, ProtocolError("this is not HTTP/2")])
    async def test_deadline_says_why_with_the_cause(self, world, source, error) -> None:
        """No constructor or enter that blocks for ever: the deadline's error names the last cause."""
        world.api.x509.greeting = [error]
        seen = []

        async def enter() -> None:
            try:
                await source.open()
            except FirstUpdateTimeoutError as caught:
                seen.append(caught)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(enter)
            await world.clock.advance(29.9)
            assert [] == seen
            await world.clock.advance(0.2)

        assert [error] == [e.__cause__ for e in seen]
        assert f"waited 30 s for the X.509 identity: {error}" == str(seen[0])
        assert "closed" == source.health.state
        assert not world.api.x509.live

    async def test_deadline_of_a_silent_agent(self, world, source) -> None:
        """An agent that accepts and says nothing is named as that."""
        world.api.x509.greeting = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.clock.advance, 31)
            with pytest.raises(FirstUpdateTimeoutError, match="connected, but nothing came") as e:
                await source.open()
        assert None is e.value.__cause__

    @pytest.mark.parametrize(
        "error",
        [
            EndpointError("SPIFFE_ENDPOINT_SOCKET is not set"),
            InvalidRequestError("security header missing"),
            UnimplementedError("unknown method"),
        ],
    )
    async def test_what_waiting_cannot_cure_fails_at_once(self, world, source, error) -> None:
        """Workload Endpoint §6: InvalidArgument and Unimplemented are reported, never retried."""
        world.api.x509.greeting = [error]

        with pytest.raises(type(error)) as e:
            await source.open()
        assert error is e.value
        assert 1 == world.api.x509.opened
        assert "closed" == source.health.state

    async def test_cancelled_opening_leaves_nothing_behind(self, world, source) -> None:
        """Who gives up waiting does not leave a task that goes on asking."""
        world.api.x509.greeting = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.open)
            await settle()
            assert world.api.x509.live
            tasks.cancel_scope.cancel()

        assert not world.api.x509.live
        assert "closed" == source.health.state

    async def test_a_bad_first_update_is_waited_out(self, world, source) -> None:
        """A refused first message is a reason to wait, not to fail."""
        bad = X509SvidError("the key is another's")
        world.api.x509.next_greetings.append([Refused(bad)])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.open)
            await settle()
            assert ("waiting", bad) == (source.health.state, source.health.last_error)
            world.api.x509.say(world.api.context("/billing"))
        assert "fresh" == source.health.state
        await source.aclose()


class TestStarting:
    async def test_without_waiting(self, world, source) -> None:
        """A service may be up before its identity: reads say that there is none yet, and why."""
        greeting, world.api.x509.greeting = world.api.x509.greeting, [MISSING]
        source.start()
        source.start()
        with pytest.raises(SourceError, match="no first update of the X.509 identity yet$"):
            _ = source.svid
        await settle()
        with pytest.raises(SourceError, match=r"yet \(last error: there is no socket"):
            _ = source.svid
        assert "waiting" == source.health.state

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.clock.advance, 31)
            with pytest.raises(FirstUpdateTimeoutError):
                await source.wait_first_update()
        assert "waiting" == source.health.state  # nothing was closed

        world.api.x509.greeting = greeting
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.clock.advance, 1)
            tasks.start_soon(source.wait_first_update)
            await source.wait_first_update()
        await source.wait_first_update()
        assert "spiffe://prod.example/billing" == str(source.svid.id)
        await source.aclose()
        with pytest.raises(SourceClosedError):
            await source.wait_first_update()
        with pytest.raises(SourceClosedError):
            source.start()

    async def test_what_waiting_cannot_cure_is_said_to_each(self, world, source) -> None:
        """Who waits after the answer was final hears it at once; an upgraded agent is found later."""
        greeting, world.api.x509.greeting = world.api.x509.greeting, [UnimplementedError("unknown method")]
        source.start()
        for _ in range(2):
            with pytest.raises(UnimplementedError):
                await source.wait_first_update()
        assert 1 == world.api.x509.opened
        world.api.x509.greeting = greeting
        await world.clock.advance(61)
        await source.wait_first_update()
        assert "fresh" == source.health.state
        await source.aclose()

    async def test_news_and_deadline_in_the_same_moment(self, world, source) -> None:
        """Only the first word counts."""
        world.api.x509.greeting = []
        seen = []

        async def wait() -> None:
            try:
                await source.wait_first_update()
            except FirstUpdateTimeoutError as error:
                seen.append(error)

        source.start()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await settle()
            (waiter,) = source._feed._waiters
            source._feed._give_up(waiter)
            source._feed._settle(None)
        assert 1 == len(seen)
        await source.aclose()


class TestReading:
    async def test_not_open_yet(self, source) -> None:
        """A source that was never opened says how to open it."""
        with pytest.raises(SourceClosedError, match="not opened yet"):
            _ = source.x509_context
        assert "closed" == source.health.state
        with pytest.raises(SourceClosedError):
            await source.wait_updated()
        for use in (source.changes, source.refuse_unopened):
            with pytest.raises(SourceClosedError):
                use()

    async def test_after_close(self, source) -> None:
        """Reading after close raises, and a closed source does not open again."""
        async with source:
            pass
        with pytest.raises(SourceClosedError, match="was closed"):
            _ = source.svid
        with pytest.raises(SourceClosedError, match="make a new one"):
            await source.open()

    async def test_a_snapshot_never_changes(self, world, source) -> None:
        """Who read a context keeps it whole; the next update is another object."""
        async with source:
            before = source.x509_context
            world.api.x509.say(world.api.context("/billing"))
            await source.wait_updated()
            assert before is not source.x509_context
            assert "spiffe://prod.example/billing" == str(before.svid.id)
            with pytest.raises(FrozenInstanceError):
                before.svid = None

    async def test_expired_is_never_handed_out(self, world, source) -> None:
        """Trap: expired SVIDs handed out. From `not_after` on every read raises, and it is said once."""
        world.backoff.seconds = 30
        async with source:
            world.api.x509.down()
            await world.clock.advance(3599)
            _ = source.svid
            assert "degraded" == source.health.state
            await world.clock.advance(1)
            with pytest.raises(StaleError, match="no socket at /run/agent.sock") as e:
                _ = source.x509_context
            assert "expired" == e.value.reason
            assert ("stale", source.health.expires_at) == (source.health.state, source.health.since)
            assert 1 == len(world.told("svid.expired"))

            world.api.x509.greeting = [world.api.context("/billing")]
            await world.clock.advance(30)
            assert "fresh" == source.health.state
            assert "spiffe://prod.example/billing" == str(source.svid.id)

    async def test_what_is_held_is_held_until_it_is_not(self, world, source, monkeypatch) -> None:
        """`holds`, asked at each read and write: no after an update, in a child, after a stop; yes when it merely expired."""
        assert not source.holds(None)
        async with source:
            first = source.x509_context
            assert source.holds(first)
            world.api.x509.say(world.api.context("/billing"))
            await source.wait_updated()
            second = source.x509_context
            assert (False, True) == (source.holds(first), source.holds(second))
            with monkeypatch.context() as child:
                child.setattr(os, "getpid", lambda: 1)
                assert not source.holds(second)
            world.clock.skew += timedelta(seconds=3600)  # nobody has looked at the clock yet
            with pytest.raises(StaleError):
                _ = source.x509_context
            assert source.holds(second)
            source.stop("compromised")
            assert not source.holds(second)
        assert not source.holds(second)

    async def test_a_wall_clock_set_back_does_not_expire(self, world, source) -> None:
        """Expiry goes by the wall clock of the moment, not by a timer set earlier."""
        async with source:
            world.clock.skew -= timedelta(seconds=2000)
            await world.clock.advance(3601)
            _ = source.svid
            assert [] == world.told("svid.expired")
            await world.clock.advance(2000)
            with pytest.raises(StaleError):
                _ = source.svid
            assert 1 == len(world.told("svid.expired"))


class TestUpdates:
    async def test_identical_delivery_is_no_update(self, world, source) -> None:
        """The same certificates and bundles again are no new generation."""
        async with source:
            held, at = source.x509_context, source.health.last_update
            world.api.x509.say(world.api.x509.greeting[0])
            await world.clock.advance(5)
            assert held is source.x509_context
            assert at == source.health.last_update
            assert ["svid.updated"] == world.names

    async def test_a_new_bundle_is_an_update(self, world, source) -> None:
        """The same SVID with another bundle is another generation."""
        other = CertificateAuthority("other.example", clock=world.clock)
        async with source:
            svids = source.x509_context.svids
            context = world.api.context("/billing", bundles=[other.x509_bundle])
            world.api.x509.say(type(context)(svids, context.bundles, svids[0]))
            await source.wait_updated()
            assert other.trust_domain in source.x509_bundles
            assert svids == source.x509_context.svids

    async def test_changes_give_the_newest(self, world, source) -> None:
        """Iterating misses what a slow reader missed, never the newest, and ends with the source."""
        seen = []

        async def read() -> None:
            async for context in changes:
                seen.append(str(context.svid.id))

        async with anyio.create_task_group() as tasks:
            async with source:
                changes = source.changes()
                for path in ("/one", "/two", "/three"):
                    world.api.x509.say(world.api.context(path))
                await settle()
                tasks.start_soon(read)
                await settle()
                world.api.x509.say(world.api.context("/four"))
                await settle()
        assert ["spiffe://prod.example/three", "spiffe://prod.example/four"] == seen

    async def test_a_slow_reader_gets_nothing_expired(self, world, source) -> None:
        """Trap: expired SVIDs handed out. What expired before it was read is skipped."""
        async with source:
            changes = source.changes()
            world.api.x509.say(world.api.context("/short", ttl=10))
            await world.clock.advance(20)
            async with anyio.create_task_group() as tasks:

                async def read() -> None:
                    seen.append(str((await anext(changes)).svid.id))

                seen = []
                tasks.start_soon(read)
                await settle()
                assert [] == seen
                world.api.x509.say(world.api.context("/long"))
            assert ["spiffe://prod.example/long"] == seen

    async def test_waiting_ends_with_the_source(self, source) -> None:
        """Who waits for an update of a source that is closed is told so."""
        seen = []

        async def wait() -> None:
            with pytest.raises(SourceClosedError):
                await source.wait_updated()
            seen.append(True)

        async with anyio.create_task_group() as tasks:
            async with source:
                tasks.start_soon(wait)
                await settle()
        assert [True] == seen

    async def test_what_is_absent_is_dropped_at_once(self, world, source) -> None:
        """Workload API §4.4: absence is redaction; each message replaces the former whole."""
        other = CertificateAuthority("other.example", clock=world.clock)
        world.api.x509.greeting = [world.api.context("/billing", "/reports", bundles=[other.x509_bundle])]
        async with source:
            world.api.x509.say(world.api.context("/billing"))
            await source.wait_updated()
            assert 1 == len(source.x509_context.svids)
            assert other.trust_domain not in source.x509_bundles
            assert [
                "the X.509 identity: not issued any more, dropped: "
                "spiffe://prod.example/reports, the bundle of other.example"
            ] == world.told("svid.redacted")


class TestBadUpdates:
    async def test_a_refused_update_costs_nothing(self, world, source) -> None:
        """Trap: one malformed update closing the source for good. The last known good stays."""
        bad = X509SvidError("the chain leads to no authority in its bundle")
        async with source:
            held = source.x509_context
            world.api.x509.say(Refused(bad))
            await settle()
            assert held is source.x509_context
            assert ("degraded", bad) == (source.health.state, source.health.last_error)
            assert [f"an update was refused: {bad}"] == world.told("svid.refused")

            world.api.x509.say(world.api.context("/billing"))
            await source.wait_updated()
            assert "fresh" == source.health.state
            assert "source.recovered" == world.names[-1]

    async def test_a_bad_federated_bundle_costs_only_itself(self, world, source) -> None:
        """Trap: one bad federated bundle closing the source. The rest of its message is taken."""
        bad = BundleError("other.example: not DER")
        async with source:
            world.api.x509.say(Refused(bad), world.api.context("/newer"))
            await source.wait_updated()
            assert "spiffe://prod.example/newer" == str(source.svid.id)
            assert ("degraded", bad) == (source.health.state, source.health.last_error)
            assert 1 == len(world.told("bundle.refused"))

            world.api.x509.say(world.api.context("/newer"))
            await source.wait_updated()
            assert "fresh" == source.health.state

    async def test_a_message_refused_whole_takes_its_flaws_along(self, world, source) -> None:
        """What was wrong with a refused message is not held against the next one."""
        async with source:
            world.api.x509.say(
                Refused(BundleError("other.example: not DER")),
                Refused(X509SvidError("the key is another's")),
                world.api.context("/newer"),
            )
            await source.wait_updated()
            assert "fresh" == source.health.state

    async def test_the_same_refusal_again_is_debug(self, world, source) -> None:
        """A broken issuer does not fill the log."""
        async with source:
            for _ in range(50):
                world.api.x509.say(Refused(X509SvidError("the key is another's")))
            await settle()
            assert 1 == len(world.told("svid.refused"))
            assert 50 == len(world.told("svid.refused", level=logging.DEBUG))

    async def test_ever_new_refusals_are_debug_after_a_while(self, world, source) -> None:
        """An issuer whose mistakes all differ does not fill the log either."""
        async with source:
            for n in range(50):
                world.api.x509.say(Refused(X509SvidError(f"mistake {n}")))
            await settle()
            assert 16 == len(world.told("svid.refused"))


class TestReconnecting:
    async def test_a_clean_end_reconnects_at_once(self, world, source) -> None:
        """Workload API §4.3: a stream that ends is opened again at once, without trouble."""
        async with source:
            await world.clock.advance(60)
            world.api.x509.end()
            await settle()
            assert 2 == world.api.x509.opened
            assert ("fresh", 0) == (source.health.state, source.health.attempts)

    @pytest.mark.parametrize("greets", [True, False])
    async def test_accept_and_close_is_no_tight_loop(self, world, source, greets) -> None:
        """Workload Endpoint §6: never a tight loop, whether the server greets before it closes or not."""
        async with source:
            end = StopAsyncIteration()
            world.api.x509.greeting = [source.x509_context, end] if greets else [end]
            world.api.x509.end()
            await world.clock.advance(10)
            assert 15 <= world.api.x509.opened <= 25

    async def test_an_end_without_an_answer_is_said(self, world, source) -> None:
        """A server that closes well and never answers shows in the health."""
        async with source:
            world.api.x509.greeting = [StopAsyncIteration()]
            world.api.x509.end()
            await world.clock.advance(1)
            assert "ended the stream without an answer" in str(source.health.last_error)
            assert "degraded" == source.health.state

    async def test_an_agent_that_comes_back_is_used(self, world, source) -> None:
        """An outage of any length is over within the backoff's small cap."""
        async with source:
            held = source.x509_context
            world.api.x509.down()
            await world.clock.advance(60)
            assert held is source.x509_context
            assert "degraded" == source.health.state
            assert 1 == len(world.told("source.unavailable"))

            world.api.x509.greeting = [world.api.context("/billing")]
            await world.clock.advance(1)
            assert held is not source.x509_context
            assert ("fresh", 0) == (source.health.state, source.health.attempts)
            assert 1 == len(world.told("source.recovered"))

    @pytest.mark.parametrize("error", [InvalidRequestError("header"), UnimplementedError("gone")])
    async def test_final_answers_are_not_asked_in_a_loop(self, world, source, error) -> None:
        """Workload Endpoint §6: report, keep the last known good, look again rarely."""
        async with source:
            held = source.x509_context
            world.api.x509.down(error)
            await world.clock.advance(599)
            assert held is source.x509_context
            assert ("degraded", error) == (source.health.state, source.health.last_error)
            assert 10 >= world.api.x509.opened - 1
            assert 1 == len(world.told("source.unavailable"))


class TestWithdrawal:
    async def test_a_denial_is_asked_again_at_once(self, world, source) -> None:
        """Design decision 7: an agent that denies once, while it starts up, does no harm."""
        async with source:
            held = source.x509_context
            world.api.x509.next_greetings.append([held])
            world.api.x509.say(DENIED)
            await settle()
            assert 2 == world.api.x509.opened
            await world.clock.advance(60)
            assert held is source.x509_context
            assert "fresh" == source.health.state

    async def test_a_denial_that_stands_fails_closed(self, world, source) -> None:
        """Trap: PermissionDenied swallowed, the old SVID served on. After the grace nothing is served."""
        async with source:
            world.api.x509.down(DENIED)
            await world.clock.advance(2.9)
            assert "degraded" == source.health.state
            _ = source.svid
            await world.clock.advance(0.1)
            with pytest.raises(StaleError, match="no identity issued") as e:
                _ = source.svid
            assert "withdrawn" == e.value.reason
            assert ("withdrawn", None) == (source.health.state, source.health.expires_at)
            await world.clock.advance(60)
            assert 1 == len(world.told("svid.withdrawn"))

    async def test_issued_again_it_comes_back_by_itself(self, world, source) -> None:
        """A withdrawn identity that is issued again, even the very same, is served again."""
        async with source:
            held = source.x509_context
            updated = []

            async def wait() -> None:
                await source.wait_updated()
                updated.append(True)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                world.api.x509.down(DENIED)
                await world.clock.advance(10)
                assert [] == updated  # a withdrawal is no update
                world.api.x509.greeting = [held]
                await world.clock.advance(1)
            assert held.svid is source.svid
            assert "fresh" == source.health.state

    async def test_an_outage_in_between_does_not_save_it(self, world, source) -> None:
        """Two denials in a row stand, even if nobody answers any more."""
        async with source:
            world.api.x509.next_greetings.append([DENIED])
            world.api.x509.down(DENIED)
            await settle()
            world.api.x509.greeting = [MISSING]
            await world.clock.advance(3)
            assert "withdrawn" == source.health.state

    async def test_a_lone_denial_before_an_outage_counts_for_nothing(self, world, source) -> None:
        """A denial that nobody could confirm does not cut off what is held."""
        async with source:
            world.api.x509.greeting = [MISSING]
            world.api.x509.say(DENIED)
            await world.clock.advance(60)
            assert "degraded" == source.health.state
            _ = source.svid

    async def test_keep_until_expiry(self, world) -> None:
        """The documented opt-out: serve until it expires, and not a moment longer."""
        world.backoff.seconds = 30
        world.api.x509.greeting = [world.api.context("/billing")]
        async with X509Source(world.api, on_redaction="keep-until-expiry", **world.terms) as source:
            world.api.x509.down(DENIED)
            await world.clock.advance(3599)
            _ = source.svid
            assert ("degraded", DENIED) == (source.health.state, source.health.last_error)
            await world.clock.advance(1)
            with pytest.raises(StaleError) as e:
                _ = source.svid
            assert "expired" == e.value.reason

    async def test_no_grace(self, world) -> None:
        """With a grace of zero the second denial is the end."""
        world.api.x509.greeting = [world.api.context("/billing")]
        async with X509Source(world.api, grace=0, **world.terms) as source:
            world.api.x509.down(DENIED)
            await settle()
            assert "withdrawn" == source.health.state


class TestChoosing:
    async def test_the_first_is_the_default(self, world) -> None:
        """Workload API §5.2: the first SVID is the default identity."""
        world.api.x509.greeting = [world.api.context("/one", "/two")]
        async with X509Source(world.api, **world.terms) as source:
            assert "spiffe://prod.example/one" == str(source.svid.id)

    async def test_hint(self, world) -> None:
        """A hint picks the identity that the operator means."""
        world.api.x509.greeting = [world.api.context("/one", "/two", hints=["external", "internal"])]
        async with X509Source(world.api, hint="internal", **world.terms) as source:
            assert "spiffe://prod.example/two" == str(source.svid.id)
            assert 2 == len(source.x509_context.svids)

    async def test_picker(self, world) -> None:
        """A picker chooses among all, or among those of the hint."""
        world.api.x509.greeting = [world.api.context("/1", "/2", "/3", hints=["a", "b", "b"])]
        async with X509Source(world.api, picker=lambda svids: svids[-1], hint="b", **world.terms) as source:
            assert "spiffe://prod.example/3" == str(source.svid.id)

    async def test_waiting_for_a_hint(self, world) -> None:
        """Without an identity of that hint opening waits, and says which hints there are."""
        world.api.x509.greeting = [world.api.context("/one", hints=["external"])]
        source = X509Source(world.api, hint="internal", **world.terms)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.open)
            await settle()
            assert (
                "no identity with the hint 'internal' is issued, only spiffe://prod.example/one (hint 'external')"
                == str(source.health.last_error)
            )
            world.api.x509.say(world.api.context("/one", "/two", hints=["external", "internal"]))
        assert "spiffe://prod.example/two" == str(source.svid.id)
        await source.aclose()

    async def test_the_hinted_identity_goes_away(self, world) -> None:
        """Workload API §4.4: absence of the one in use drops it at once, whatever else is issued."""
        world.api.x509.greeting = [world.api.context("/one", "/two", hints=["external", "internal"])]
        async with X509Source(world.api, hint="internal", **world.terms) as source:
            world.api.x509.say(world.api.context("/one", hints=["external"]))
            await settle()
            with pytest.raises(StaleError, match="no identity with the hint 'internal'") as e:
                _ = source.svid
            assert "withdrawn" == e.value.reason
            assert 1 == len(world.told("svid.withdrawn"))

    async def test_the_hinted_identity_is_kept_on_request(self, world) -> None:
        """The opt-out holds for absence too."""
        world.api.x509.greeting = [world.api.context("/one", "/two", hints=["external", "internal"])]
        terms = world.terms | {"hint": "internal", "on_redaction": "keep-until-expiry"}
        async with X509Source(world.api, **terms) as source:
            world.api.x509.say(world.api.context("/one", hints=["external"]))
            await settle()
            assert "spiffe://prod.example/two" == str(source.svid.id)
            assert "degraded" == source.health.state

    @pytest.mark.parametrize(
        ("picker", "why"),
        [
            (lambda svids: svids[7], "the picker failed with IndexError"),
            (lambda svids: None, "something else than one of the identities"),
        ],
    )
    async def test_a_broken_picker_refuses_the_update(self, world, picker, why) -> None:
        """Errors of the user's function are one refused update, never the end of the source."""
        world.api.x509.greeting = [world.api.context("/one")]
        broken = []
        source = X509Source(
            world.api, picker=lambda svids: picker(svids) if broken else svids[0], **world.terms
        )
        async with source:
            broken.append(True)
            world.api.x509.say(world.api.context("/one"))
            await settle()
            assert "spiffe://prod.example/one" == str(source.svid.id)
            assert why in str(source.health.last_error)
            assert "degraded" == source.health.state

    async def test_a_picker_may_speak_for_itself(self, world) -> None:
        """An error of the tree raised by a picker is reported as it is."""

        def picker(svids):
            raise NoIdentityIssuedError("none of these is for me")

        world.api.x509.greeting = [world.api.context("/one")]
        source = X509Source(world.api, picker=picker, timeout=1, **world.terms)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.clock.advance, 2)
            with pytest.raises(FirstUpdateTimeoutError, match="none of these is for me"):
                await source.open()


class Listener:
    def __init__(self, source=None, fail=None) -> None:
        self.source = source
        self.fail = fail
        self.prepared = []
        self.notified = []

    def prepare(self, context) -> None:
        self.prepared.append(str(context.svid.id))
        if self.fail:
            raise self.fail

    def notify(self) -> None:
        if self.fail:
            raise self.fail
        self.notified.append(self.source.health.state)


class TestListeners:
    async def test_prepared_before_anybody_can_read_it(self, world, source) -> None:
        """A new generation is prepared in a worker thread before it is published."""
        threads, seen = [], []

        class Preparing:
            def prepare(self, context) -> None:
                threads.append(threading.current_thread() is threading.main_thread())
                seen.append((str(context.svid.id), str(source.svid.id)))

        preparing = Preparing()
        async with source:
            source.before_publish(preparing.prepare)
            world.api.x509.say(world.api.context("/newer"))
            await source.wait_updated()
            assert [("spiffe://prod.example/newer", "spiffe://prod.example/billing")] == seen
            assert [False] == threads

    @pytest.mark.parametrize(
        ("fail", "why"),
        [
            (RuntimeError("secret detail"), "a listener could not prepare it: RuntimeError"),
            (X509SvidError("OpenSSL refused the key"), "OpenSSL refused the key"),
        ],
    )
    async def test_one_that_cannot_prepare_refuses_the_update(self, world, source, fail, why) -> None:
        """An update that TLS cannot use is refused whole; the last known good stays."""
        listener = Listener(fail=fail)
        async with source:
            held = source.x509_context
            source.before_publish(listener.prepare)
            world.api.x509.say(world.api.context("/billing"))
            await world.hear("svid.refused")
            assert held is source.x509_context
            assert why == str(source.health.last_error)

    async def test_a_refused_update_cannot_hide_a_withdrawal(self, world, source) -> None:
        """If the identity in use is not in a message that is refused, it is dropped all the same."""
        listener = Listener(fail=RuntimeError())
        async with source:
            source.before_publish(listener.prepare)
            world.api.x509.say(world.api.context("/somebody-else"))
            await world.hear("svid.withdrawn")
            with pytest.raises(StaleError):
                _ = source.svid

    async def test_identical_delivery_is_not_prepared_again(self, world, source) -> None:
        """No work for what does not change."""
        listener = Listener()
        async with source:
            source.before_publish(listener.prepare)
            world.api.x509.say(source.x509_context)
            await settle()
            assert [] == listener.prepared

    async def test_told_after_each_change(self, world, source) -> None:
        """After an update, a withdrawal, an expiry and the close, in the state they lead to."""
        listener = Listener(source)
        async with source:
            source.after_publish(listener.notify)
            world.api.x509.say(world.api.context("/billing"))
            await source.wait_updated()
            world.api.x509.down(DENIED)
            await world.clock.advance(5)
            world.api.x509.greeting = [world.api.context("/billing", ttl=10)]
            await world.clock.advance(1)
            world.api.x509.down()
            await world.clock.advance(20)
        assert ["fresh", "withdrawn", "fresh", "stale", "closed"] == listener.notified

    async def test_a_failing_listener_harms_nobody(self, world, source) -> None:
        """The next listener is told, and the failure is an event."""
        bad, good = Listener(fail=RuntimeError("secret detail")), Listener(source)
        async with source:
            source.after_publish(bad.notify)
            source.after_publish(good.notify)
            world.api.x509.say(world.api.context("/billing"))
            await source.wait_updated()
            assert ["fresh"] == good.notified
            assert ["a listener failed with RuntimeError"] == world.told("source.listener_failed")

    async def test_listeners_are_not_kept_alive(self, world, source) -> None:
        """Trap: subscriber leaks. A listener that is gone is not called and not kept."""
        async with source:
            for _ in range(100):
                listener = Listener(source)
                source.before_publish(listener.prepare)
                source.after_publish(listener.notify)
            del listener
            gc.collect()
            assert (0, 0) == (len(source._feed.before), len(source._feed.after))


class TestClosing:
    async def test_close_is_idempotent_and_from_any_task(self, world, source) -> None:
        """Closing twice, from a task that did not open it, at the same time, is one close."""
        await source.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.aclose)
            tasks.start_soon(source.aclose)
        await source.aclose()
        assert not world.api.x509.live
        assert "closed" == source.health.state

    async def test_closing_one_that_was_never_opened(self, source) -> None:
        """There is nothing to close, and it stays closed."""
        await source.aclose()
        with pytest.raises(SourceClosedError, match="make a new one"):
            await source.open()

    async def test_close_lets_who_still_opens_go(self, world, source) -> None:
        """Closing while somebody waits for the first update ends that wait with an error."""
        world.api.x509.greeting = []
        seen = []

        async def enter() -> None:
            with pytest.raises(SourceClosedError):
                await source.open()
            seen.append(True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(enter)
            await settle()
            await source.aclose()
        assert [True] == seen

    def test_its_event_loop_ends(self, world, anyio_backend) -> None:
        """Left open when its loop ends, nobody would refresh it: it serves nothing any more."""
        world.api.x509.greeting = [world.api.context("/billing")]
        source = X509Source(world.api, **world.terms)
        assert source is anyio.run(source.open, backend=anyio_backend)
        with pytest.raises(SourceClosedError, match="ended together with its event loop"):
            _ = source.svid
        anyio.run(source.aclose, backend=anyio_backend)

    async def test_close_while_preparing(self, world, source) -> None:
        """A listener that hangs in its thread does not hold up the close."""
        entered, leave = threading.Event(), threading.Event()

        class Hanging:
            def prepare(self, context) -> None:
                entered.set()
                leave.wait(30)

        hanging = Hanging()
        try:
            async with source:
                source.before_publish(hanging.prepare)
                world.api.x509.say(world.api.context("/newer"))
                await anyio.to_thread.run_sync(entered.wait)
                with anyio.fail_after(20):
                    await source.aclose()
        finally:
            leave.set()

    async def test_unclosed_warns(self, world) -> None:
        """A source that is forgotten says so."""
        world.api.x509.greeting = [world.api.context("/billing")]
        source = await X509Source(world.api, **world.terms).open()
        service = source._lifetime._service
        with pytest.warns(ResourceWarning, match="was not closed"):
            del source
            gc.collect()
        await service.stop()

    async def test_errors_of_the_body_arrive_bare(self, source) -> None:
        """A KeyError inside `async with` is a KeyError, not an ExceptionGroup."""
        with pytest.raises(KeyError, match="mine"):
            async with source:
                raise KeyError("mine")

    async def test_crash_fails_closed(self, world, source) -> None:
        """A bug in the background task closes the source, says where, and never says what."""
        async with source:
            changes = source.changes()
            world.api.x509.say(ZeroDivisionError("a secret"))
            with pytest.raises(SourceClosedError, match="crashed: ZeroDivisionError in __anext__"):
                await anext(changes)
            with pytest.raises(SourceClosedError, match="crashed") as e:
                _ = source.svid
            assert isinstance(e.value.__cause__.__cause__, ZeroDivisionError)
            assert "closed" == source.health.state
            (told,) = world.told("source.crashed", level=logging.CRITICAL)
            assert "a secret" not in told

    async def test_crash_while_opening(self, world, source) -> None:
        """Opening a source that crashes raises, without an ExceptionGroup."""
        world.api.x509.greeting = [ZeroDivisionError()]
        with pytest.raises(SourceClosedError, match="crashed: ZeroDivisionError"):
            await source.open()
