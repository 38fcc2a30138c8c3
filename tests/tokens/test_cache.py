"""Tokens stay fresh for those who use them; nobody waits who need not, and nobody else pays."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import AsyncIterator, Callable

import anyio
import pytest
from tests.support.manual_clock import settle
from tests.support.token_world import READ, WRITE, TokenWorld, denied, down, text_of
from tests.support.work import counted

from spiffe_client.errors import (
    OAuthError,
    StaleError,
    StoppedError,
    TokenBrokerClosedError,
    TokenBrokerUnavailableError,
    TokenError,
    TokenRequestError,
    UnacceptableTokenError,
)
from spiffe_client.tokens import AccessToken, TokenRequest
from spiffe_client.tokens._cache import TokenCache
from spiffe_client.tokens._form import form_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(anyio_backend: str) -> AsyncIterator[TokenWorld]:
    world = TokenWorld()
    async with world.running():
        yield world


def another(name: str) -> TokenRequest:
    return TokenRequest.of(name, audience="https://orders.prod.example")


async def until_asked(world: TokenWorld, times: int) -> None:
    """Let time go by, a minute at most, until the token broker was asked so often."""
    for _ in range(60):
        if world.broker.asked < times:
            await world.clock.advance(1)
    assert times == world.broker.asked


def purge_elsewhere(world: TokenWorld, which: Callable[[AccessToken], bool]) -> None:
    """Purge in another thread, and wait for it."""
    thread = threading.Thread(target=world.cache.purge, args=(which,))
    thread.start()
    thread.join()


class TestFresh:
    async def test_asked_twice_fetched_once(self, world: TokenWorld) -> None:
        """From memory, without waiting."""
        one = await world.cache.fetch(READ)
        assert one is await world.cache.fetch(READ) is world.cache.peek(READ)
        assert 1 == world.broker.asked

    async def test_an_equal_request_is_the_same_request(self, world: TokenWorld) -> None:
        """Order and repetition mean nothing."""
        one = await world.cache.fetch(TokenRequest.of("b a", audience=["y", "x"]))
        assert one is await world.cache.fetch(TokenRequest.of("a", "b", audience=["x", "y", "x"]))

    async def test_another_request_gets_another_token(self, world: TokenWorld) -> None:
        """A token for one purpose is never handed out for another."""
        assert await world.cache.fetch(READ) is not await world.cache.fetch(WRITE)
        assert (None, 2) == (world.cache.peek(another("orders:delete")), len(world.cache))

    async def test_peek_takes_no_lock(self, world: TokenWorld) -> None:
        """It answers while somebody holds the lock that changes take."""
        token = await world.cache.fetch(READ)
        with world.cache._lock:
            assert token is world.cache.peek(READ)

    async def test_peek_keeps_nothing_it_makes(self, world: TokenWorld) -> None:
        """A million reads leave no memory behind, and do next to nothing."""
        await world.cache.fetch(READ)
        peek, before = world.cache.peek, sys.getallocatedblocks()
        for _ in range(20_000):
            peek(READ)
        assert sys.getallocatedblocks() - before < 200
        with counted("/spiffe_client/") as work:
            peek(READ)
        assert 20 < work.count < 100

    async def test_peek_from_any_thread(self, world: TokenWorld) -> None:
        """Reading needs no event loop."""
        token = await world.cache.fetch(READ)
        seen: list[object] = []
        thread = threading.Thread(target=lambda: seen.append(world.cache.peek(READ)))
        thread.start()
        thread.join()
        assert [token] == seen


class TestDue:
    async def test_one_refresh_in_the_background(self, world: TokenWorld) -> None:
        """From soft expiry on the current token is handed out, and one request replaces it."""
        world.broker.script = [60, anyio.Event()]
        one = await world.cache.fetch(READ)
        await world.clock.advance(46)
        for _ in range(10):
            assert one is await world.cache.fetch(READ)
        assert 2 == world.broker.asked
        assert one is world.cache.peek(READ)

    async def test_the_new_token_takes_over(self, world: TokenWorld) -> None:
        """Nobody waits in between."""
        one = await world.cache.fetch(READ)
        await world.clock.advance(46)
        two = world.cache.peek(READ)
        assert (2, "token-2") == (world.broker.asked, text_of(two))
        assert one is not two
        assert ["token.issued", "token.refreshed"] == world.names

    async def test_a_failing_refresh_costs_nobody_anything(self, world: TokenWorld) -> None:
        """A token broker that is down does not cost a token that is still valid."""
        one = await world.cache.fetch(READ)
        world.broker.script = [down()] * 1000
        await world.clock.advance(53.9)
        assert one is await world.cache.fetch(READ)
        assert {1} == {attempt.number for _, attempt in world.broker.tries}
        assert 1 == world.names.count("broker.unavailable")

    async def test_what_an_outage_held_up_does_not_come_together_again(self, world: TokenWorld) -> None:
        """The successor that comes late is itself replaced at a moment spread over the whole interval."""
        world.draw = 0.5  # after 70 % of the life as a rule, and after 35 % if spread
        world.broker.ttl = 600
        await world.cache.fetch(READ)
        world.broker.script = [down()]
        while len(world.broker.at) < 5:
            await world.clock.advance(1)
            assert world.cache.peek(READ)
        first, failed, late, after, on_time = world.broker.at
        gaps = (failed - first, after - late, on_time - after)
        assert all(-1 <= gap - due <= 2 for gap, due in zip(gaps, (210, 210, 420), strict=True)), gaps
        assert late - failed >= 12

    async def test_a_refusal_while_valid_is_not_raised(self, world: TokenWorld) -> None:
        """Nor one that is final: the token was granted until its end."""
        one = await world.cache.fetch(READ)
        world.broker.script = [denied()] * 1000
        await world.clock.advance(53.9)
        assert one is await world.cache.fetch(READ)
        assert "token.refresh_failed" in world.names

    async def test_attempts_keep_their_distance(self, world: TokenWorld) -> None:
        """No refresh storm, whatever goes wrong: a floor lies between attempts."""
        world.broker.ttl = 600
        await world.cache.fetch(READ)
        world.broker.script = [down()] * 1000
        await world.clock.advance(589)
        gaps = [b - a for a, b in zip(world.broker.at[1:], world.broker.at[2:])]
        assert min(gaps, default=12) >= 12 - 1e-6
        assert len(gaps) < 25

    async def test_the_same_token_again_lives_no_longer(self, world: TokenWorld) -> None:
        """A token broker that keeps tokens gives the one it gave, and says a full life each time."""
        world.broker.script = ["same"] * 1000
        await world.cache.fetch(READ)
        await world.clock.advance(53)
        assert "same" == text_of(world.cache.peek(READ))
        gaps = [b - a for a, b in zip(world.broker.at[1:], world.broker.at[2:])]
        assert min(gaps, default=1.0) >= 1.0
        await world.clock.advance(1.1)
        assert None is world.cache.peek(READ)

    async def test_a_refreshed_token_that_is_expired_is_refused(self, world: TokenWorld) -> None:
        """Keeping it would cost the one that is still valid."""
        one = await world.cache.fetch(READ)
        world.broker.takes = 6.0
        world.broker.script = [5.0] * 1000
        await world.clock.advance(53)
        assert one is world.cache.peek(READ)
        assert world.broker.asked > 1

    async def test_who_uses_nothing_is_sent_nothing(self, world: TokenWorld) -> None:
        """Not used for as long as such a token lives: dropped, and not refreshed."""
        await world.cache.fetch(READ)
        await world.clock.advance(600)
        assert (0, None) == (len(world.cache), world.cache.peek(READ))
        assert world.broker.asked <= 3

    async def test_a_gate_that_is_closed_when_it_is_due(self, world: TokenWorld) -> None:
        """Nothing is sent; a purged token has no appointment any more."""
        one, two = await world.cache.fetch(READ), await world.cache.fetch(WRITE)
        world.cache.purge(two)
        await world.clock.advance(38)
        world.gate.shut(5, now=38.0)
        await world.clock.advance(2)
        assert (one, None, 2) == (world.cache.peek(READ), world.cache.peek(WRITE), world.broker.asked)

    async def test_a_closed_gate_holds_refreshes_back(self, world: TokenWorld) -> None:
        """`Retry-After` to one key is obeyed by all, also in the background."""
        await world.cache.fetch(READ)
        world.gate.shut(45, now=0.0)
        await world.clock.advance(45)
        assert 1 == world.broker.asked
        await world.clock.advance(9.05)
        assert 2 == world.broker.asked


class TestExpired:
    async def test_waits_for_a_new_one(self, world: TokenWorld) -> None:
        """Past its hard expiry a token is not handed out, however much of its life is left."""
        await world.cache.fetch(READ)
        world.broker.script = [down()] * 100
        await world.clock.advance(54.1)
        world.broker.script = []
        assert None is world.cache.peek(READ)
        assert await world.cache.fetch(READ) is world.cache.peek(READ)

    async def test_short_tokens_are_shared_and_not_kept(self, world: TokenWorld) -> None:
        """Up to ten seconds: no cache, no background work."""
        world.broker.ttl = 10
        assert await world.cache.fetch(READ) is not await world.cache.fetch(READ)
        assert 0 == len(world.cache)
        await world.clock.advance(100)
        assert 2 == world.broker.asked

    async def test_a_token_that_was_too_long_on_its_way(self, world: TokenWorld) -> None:
        """Its life began with the request."""
        world.broker.takes, world.broker.ttl = 5.0, 4.0
        failures: list[object] = []
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                failures.append(await world.fails(READ))

            tasks.start_soon(ask)
            await world.clock.advance(6)
        [error] = failures
        assert isinstance(error, UnacceptableTokenError) and "expired" == error.why

    async def test_no_access_token_is_no_access_token(self, world: TokenWorld) -> None:
        """`N_A` (RFC 8693 §2.2.1) never becomes an `Authorization` header."""
        world.broker.script = ["N_A"]
        error = await world.fails(READ)
        assert isinstance(error, UnacceptableTokenError) and "not_an_access_token" == error.why

    async def test_limits_of_what_it_is_bound_to(self, world: TokenWorld) -> None:
        """A token bound to a certificate ends with it."""
        world.limit = lambda _: 20.0
        await world.cache.fetch(READ)
        world.broker.script = [down()] * 100
        await world.clock.advance(18.1)
        assert None is world.cache.peek(READ)


class TestDeadline:
    async def test_a_caller_waits_no_longer_than_it_said(self, world: TokenWorld) -> None:
        """The request goes on, for others; the caller is told."""
        world.broker.script = [anyio.Event()]
        got: dict[str, object] = {}

        async def ask(name: str, timeout: float | None) -> None:
            got[name] = await world.fails(READ, timeout)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "patient", None)
            await settle()
            tasks.start_soon(ask, "hasty", 2.0)
            await world.clock.advance(2.1)
            assert ["hasty"] == list(got)
            await world.clock.advance(8)
        assert all(isinstance(error, TokenBrokerUnavailableError) for error in got.values())
        assert 1 == world.broker.asked

    async def test_a_hung_token_broker_is_given_up(self, world: TokenWorld) -> None:
        """At the deadline, and the next caller starts anew."""
        world.broker.script = [anyio.Event()]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.fails, READ)
            await world.clock.advance(10.1)
        assert "token-2" == text_of(await world.cache.fetch(READ))

    async def test_a_patient_caller_outlives_a_hasty_one(self, world: TokenWorld) -> None:
        """Whoever has time left asks again when the deadline of the first caller ends its request."""
        world.broker.script = [anyio.Event()]
        got = []

        async def patient() -> None:
            got.append(await world.cache.fetch(READ, 30))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.fails, READ, 1.0)
            await settle()
            tasks.start_soon(patient)
            await world.clock.advance(1.1)
        assert ["token-2"] == [text_of(token) for token in got]


class TestRefusals:
    async def test_a_caller_in_a_loop_does_no_harm(self, world: TokenWorld) -> None:
        """A refusal is remembered for a second, for this request alone."""
        world.broker.script = [denied()] * 1
        errors = [await world.fails(READ) for _ in range(100)]
        assert 1 == world.broker.asked
        assert all(isinstance(e, OAuthError) and "access_denied" == e.error for e in errors)
        await world.cache.fetch(WRITE)
        await world.clock.advance(1.0)
        await world.cache.fetch(READ)

    async def test_each_caller_has_its_own_traceback(self, world: TokenWorld) -> None:
        """An error shared by callers would show the frames of one to the crash reporter of another."""
        world.broker.script = [denied(description="no")]
        one, two = await world.fails(READ), await world.fails(READ)
        assert one is not two
        assert (str(one), vars(one)) == (str(two), vars(two))

    async def test_trouble_is_told_once(self, world: TokenWorld) -> None:
        """And its end."""
        world.broker.script = [down()] * 3
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.fails, READ)
            await world.clock.advance(2)
        assert isinstance(world.reports.trouble, TokenBrokerUnavailableError)
        await world.cache.fetch(READ)
        assert ["broker.unavailable", "broker.recovered", "token.issued"] == world.names
        assert None is world.reports.trouble

    async def test_a_bug_in_somebody_elses_code_is_an_error_of_ours(self, world: TokenWorld) -> None:
        """The border to ways of authentication that are not ours: typed, reported, and without frames."""
        world.broker.script = [ZeroDivisionError("secret in a message")]
        error = await world.fails(READ)
        assert TokenError is type(error) and "ZeroDivisionError" in str(error) and "secret" not in str(error)
        assert isinstance(error.__cause__, ZeroDivisionError) and None is error.__cause__.__traceback__
        assert "broker.crashed" in world.names


class TestMemory:
    async def test_bounded(self, anyio_backend: str) -> None:
        """The least recently used go first."""
        world = TokenWorld(capacity=4)
        async with world.running() as cache:
            requests = [another(f"s{n}") for n in range(4)]
            for request in requests:
                await world.clock.advance(1)
                await cache.fetch(request)
            await world.clock.advance(0.5)
            assert None is not cache.peek(requests[0])
            await cache.fetch(READ)
            assert 4 == len(cache)
            assert [True, False, True, True] == [cache.peek(r) is not None for r in requests]

    async def test_a_flood_of_requests_leaves_nothing_behind(self, anyio_backend: str) -> None:
        """Also not in the heap."""
        world = TokenWorld(capacity=32)
        async with world.running() as cache:
            for n in range(500):
                await cache.fetch(another(f"s{n}"))
            assert 32 >= len(cache)
            assert 64 >= len(cache._agenda)
            assert 0 == len(cache._flights._by_key)

    async def test_in_use(self, world: TokenWorld) -> None:
        """What is valid and was used within its lifetime, the latest first."""
        one, two = await world.cache.fetch(READ), await world.cache.fetch(WRITE)
        assert {one, two} == set(world.cache.held())
        await world.clock.advance(1)
        world.cache.peek(READ)
        assert [one, two] == world.cache.in_use()


    async def test_a_refresh_that_brings_too_little(self, world: TokenWorld) -> None:
        """A token of ten seconds is not kept; the one that is held is used to its end, and goes then."""
        one = await world.cache.fetch(READ)
        world.broker.ttl = 9
        await world.clock.advance(53.9)
        assert one is world.cache.peek(READ)
        await world.clock.advance(1)
        assert 0 == len(world.cache)

    async def test_evicted_while_it_was_refreshed(self, anyio_backend: str) -> None:
        """A refresh that fails has nothing to come back to."""
        world = TokenWorld(capacity=1)
        async with world.running() as cache:
            await cache.fetch(READ)
            gate = anyio.Event()
            world.broker.script = [gate]
            await world.clock.advance(40)
            await cache.fetch(WRITE)
            world.broker.script = [down()]
            gate.set()
            await settle()
            assert (None, 1, True) == (cache.peek(READ), len(cache), cache.peek(WRITE) is not None)


class TestPurging:
    async def test_a_purged_token_is_gone(self, world: TokenWorld) -> None:
        """From any thread."""
        one = await world.cache.fetch(READ)
        assert 1 == await anyio.to_thread.run_sync(world.cache.purge, one)
        assert None is world.cache.peek(READ)
        assert "token-2" == text_of(await world.cache.fetch(READ))
        assert "token.purged" in world.names

    async def test_its_successor_is_not(self, world: TokenWorld) -> None:
        """A hundred callers who were refused with one token cost one request, not a hundred."""
        one = await world.cache.fetch(READ)
        world.cache.purge(one)
        two = await world.cache.fetch(READ)
        assert [0] * 100 == [world.cache.purge(one) for _ in range(100)]
        assert two is world.cache.peek(READ)

    async def test_nor_the_request_for_its_successor(self, world: TokenWorld) -> None:
        """It began after the token was dropped."""
        one = await world.cache.fetch(READ)
        world.cache.purge(one)
        gate = anyio.Event()
        world.broker.script = [gate]
        got = []

        async def ask() -> None:
            got.append(await world.cache.fetch(READ))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            world.cache.purge(one)
            gate.set()
        assert (["token-2"], 2) == ([text_of(t) for t in got], world.broker.asked)

    async def test_a_purge_beats_the_refresh_on_its_way(self, world: TokenWorld) -> None:
        """What was asked for before is not adopted after: it may descend from what was revoked."""
        one = await world.cache.fetch(READ)
        gate = anyio.Event()
        world.broker.script = [gate]
        await world.clock.advance(46)
        assert 2 == world.broker.asked
        world.cache.purge(one)
        gate.set()
        await settle()
        assert None is world.cache.peek(READ)
        assert "token-3" == text_of(await world.cache.fetch(READ))

    async def test_a_purge_in_the_very_moment_it_comes(self, world: TokenWorld) -> None:
        """In another thread, while the answer is read: it is not adopted, and who waits is served anew."""
        world.broker.script = [lambda request: purge_elsewhere(world, lambda token: True)]
        assert "token-2" == text_of(await world.cache.fetch(READ))

    async def test_a_stream_of_purges_does_not_hold_up_what_lands(self, world: TokenWorld) -> None:
        """Each purge that is asked about a token makes another one: the token is handed out all the same."""
        home, asked = threading.get_ident(), []

        def another_one(token: AccessToken) -> bool:
            asked.append(threading.get_ident())
            if asked[-1] == home and len(asked) < 1000:
                purge_elsewhere(world, another_one)
            return False

        world.broker.script = [lambda request: purge_elsewhere(world, another_one)]
        assert "token-1" == text_of(await world.cache.fetch(READ))
        assert 2 == len(asked)  # by what landed, and by the one purge that came after

    async def test_a_purge_while_an_earlier_one_is_asked(self, world: TokenWorld) -> None:
        """What has arrived and is not handed out yet goes as well."""

        def undecided(token: AccessToken) -> bool:
            if text_of(token) == "token-1":
                purge_elsewhere(world, lambda token: text_of(token) == "token-1")
            return False

        world.broker.script = [lambda request: purge_elsewhere(world, undecided)]
        assert "token-2" == text_of(await world.cache.fetch(READ))
        assert ["token-2"] == [text_of(token) for token in world.cache.held()]

    async def test_a_purge_that_is_overtaken_by_what_lands(self, world: TokenWorld) -> None:
        """It is asked about a token that has arrived, and answers when that is held: the token goes."""
        go_on, landed = threading.Event(), threading.Event()

        def slow(token: AccessToken) -> bool:
            go_on.set()
            return landed.wait(10)

        purge = threading.Thread(target=world.cache.purge, args=(slow,))

        def meanwhile(token: AccessToken) -> bool:
            if not go_on.is_set():
                purge.start()
                assert go_on.wait(10)
            return False

        world.broker.script = [lambda request: purge_elsewhere(world, meanwhile)]
        await world.cache.fetch(READ)
        landed.set()
        await anyio.to_thread.run_sync(purge.join)
        assert [] == world.cache.held()

    async def test_an_ahead_of_need_one_that_is_purged_in_the_very_moment_it_comes(
        self, world: TokenWorld
    ) -> None:
        """The token that it was to replace stays, and is replaced at its next appointment."""
        one = await world.cache.fetch(READ)
        world.broker.script = [
            lambda request: purge_elsewhere(world, lambda token: text_of(token) == "token-2")
        ]
        await until_asked(world, 2)
        assert one is world.cache.peek(READ)
        await until_asked(world, 3)
        assert "token-3" == text_of(world.cache.peek(READ) or one)

    async def test_who_waits_is_served_anew_after_a_purge(self, world: TokenWorld) -> None:
        """By a request that began after it; the generation counts up."""
        gate = anyio.Event()
        world.broker.script = [gate]
        got = []

        async def ask() -> None:
            got.append(await world.cache.fetch(READ))

        before = world.cache.generation
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            await anyio.to_thread.run_sync(world.cache.purge, lambda token: True)
            gate.set()
        assert ["token-2"] == [text_of(token) for token in got]
        assert before + 1 == world.cache.generation

    async def test_by_what_they_are(self, world: TokenWorld) -> None:
        """All that fit, and no other."""
        await world.cache.fetch(READ)
        kept = await world.cache.fetch(WRITE)
        assert 1 == world.cache.purge(lambda token: "orders:read" in token.scope)
        assert [kept] == world.cache.held()

    async def test_a_withdrawn_identity_ends_the_waiting(self, world: TokenWorld) -> None:
        """Who waits hears why; who comes later asks anew."""
        world.broker.script = [anyio.Event()]
        got = []

        async def ask() -> None:
            got.append(await world.fails(READ))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            world.cache.clear(StaleError("withdrawn", reason="withdrawn"))
        assert ["withdrawn"] == [error.reason for error in got]
        await world.cache.fetch(READ)

    async def test_no_time_for_another_request(self, world: TokenWorld) -> None:
        """A purge at the deadline: the error says so."""
        world.broker.script = [anyio.Event()]
        got = []

        async def ask() -> None:
            got.append(await world.fails(READ, 2.0))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            world.clock._elapsed = 2.0
            world.cache.clear()
        assert "dropped" in str(got[0])


class TestForgetting:
    async def test_one_request(self, world: TokenWorld) -> None:
        """What is held for it goes, and nothing else; who asks again gets a new one."""
        one, other = await world.cache.fetch(READ), await world.cache.fetch(WRITE)
        assert one is world.cache.forget(READ, TokenError("the task ended"))
        assert None is world.cache.forget(READ, TokenError("the task ended"))
        assert [other] == world.cache.held()
        assert one is not await world.cache.fetch(READ)

    async def test_one_on_its_way(self, world: TokenWorld) -> None:
        """Who waits for it hears why, and it is not taken in."""
        world.broker.script = [anyio.Event()]
        got = []

        async def ask() -> None:
            got.append(await world.fails(READ))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            world.cache.forget(READ, TokenError("the task ended"))
        assert ["the task ended"] == [str(error) for error in got]
        assert [] == world.cache.held()

    async def test_partitions_share_nothing(self, world: TokenWorld) -> None:
        """The same request of two tasks is two requests, and looks the same to the token broker."""
        one = TokenRequest.of("orders:read", audience="https://orders.prod.example", partition="task-1")
        two = dataclasses.replace(one, partition="task-2")
        assert await world.cache.fetch(one) is not await world.cache.fetch(two)
        assert form_of(one) == form_of(two)
        with pytest.raises(TokenRequestError, match="partition"):
            TokenRequest.of("x", partition=1)  # type: ignore[arg-type]

    def test_a_request_may_limit_its_token(self) -> None:
        """To less than what the client's own limit is; nothing of that is sent."""
        one = TokenRequest.of("orders:read", audience="https://orders.prod.example", max_ttl=30)
        assert form_of(READ) == form_of(one)
        assert READ.key != one.key
        for seconds in (0, -1, float("nan")):
            with pytest.raises(TokenRequestError, match="max_ttl"):
                TokenRequest.of("x", max_ttl=seconds)


class TestStopping:
    async def test_stopping_fails_closed_at_once(self, world: TokenWorld) -> None:
        """The kill switch, from another thread: nothing is handed out, those who wait are woken."""
        await world.cache.fetch(WRITE)
        world.broker.script = [anyio.Event()]
        got = []

        async def ask() -> None:
            got.append(await world.fails(READ))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            assert 1 == await anyio.to_thread.run_sync(world.cache.close, StoppedError("compromised"))
        got.append(await world.fails(WRITE))
        assert ["compromised"] * 2 == [error.reason for error in got]
        assert (None, 0) == (world.cache.peek(WRITE), len(world.cache))

    async def test_what_was_on_its_way_is_nobodys(self, world: TokenWorld) -> None:
        """A token that comes after the stop is not adopted."""
        gate = anyio.Event()
        world.broker.script = [gate]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.fails, READ)
            await settle()
            world.cache.close(StoppedError("compromised"))
            gate.set()
        await world.clock.advance(1)
        assert (0, None) == (len(world.cache), world.cache.peek(READ))

    async def test_a_request_that_began_in_the_moment_of_the_stop(self, world: TokenWorld) -> None:
        """The stop came from another thread after the caller had looked and before its request was known."""
        launch = world.cache._flights.launch

        def stopped_meanwhile(request, flight):
            world.cache.close(StoppedError("compromised"))
            return launch(request, flight)

        world.cache._flights.launch = stopped_meanwhile
        assert isinstance(await world.fails(READ), StoppedError)
        await settle()
        assert (None, 0, 0, []) == (world.cache.peek(READ), len(world.cache), world.broker.asked, world.names)

    async def test_the_first_reason_counts(self, world: TokenWorld) -> None:
        """Closing after stopping does not change the story."""
        world.cache.close(StoppedError("compromised"))
        world.cache.close(TokenBrokerClosedError("closed"))
        assert isinstance(await world.fails(READ), StoppedError)

    async def test_a_cache_whose_loop_is_over_is_closed(self, anyio_backend: str) -> None:
        """It would not refresh anything any more."""
        world = TokenWorld()
        async with world.running() as cache:
            await cache.fetch(READ)
        assert (None, TokenBrokerClosedError) == (cache.peek(READ), type(await world.fails(READ)))

    async def test_nothing_is_adopted_after_the_end(self, world: TokenWorld) -> None:
        """Nor from a rotation."""
        minted = await world.broker.mint(READ, None)
        world.cache.close(StoppedError("compromised"))
        world.cache.adopt(READ, minted, 0.0)
        assert 0 == len(world.cache)


class TestExchanging:
    async def test_one_for_each_caller(self, world: TokenWorld) -> None:
        """Nobody else gets it and nobody keeps it."""
        one, two = await world.cache.exchange(READ), await world.cache.exchange(READ)
        assert one is not two
        assert (0, ["token.issued"] * 2) == (len(world.cache), world.names)

    async def test_tokens_that_are_no_access_tokens(self, world: TokenWorld) -> None:
        """That is what it is for."""
        world.broker.script = ["N_A"]
        assert "SecurityToken" == type(await world.cache.exchange(READ)).__name__

    async def test_cancelled_with_its_caller(self, world: TokenWorld) -> None:
        """Nobody else waits for it."""
        world.broker.script = [anyio.Event()]
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(world.cache.exchange, READ)
                await settle()
                scope.cancel()
        await settle()
        assert 0 == len(world.cache._flights._by_key)

    async def test_stopped_while_it_waits(self, world: TokenWorld) -> None:
        """Woken, with the reason."""
        world.broker.script = [anyio.Event()]
        got = []

        async def ask() -> None:
            try:
                await world.cache.exchange(READ)
            except StoppedError as error:
                got.append(error.reason)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            world.cache.close(StoppedError("compromised"))
        assert ["compromised"] == got

    async def test_refusals_are_remembered_here_too(self, world: TokenWorld) -> None:
        """A loop of exchanges does no harm either."""
        world.broker.script = [denied()]
        for _ in range(10):
            with pytest.raises(OAuthError):
                await world.cache.exchange(READ)
        assert 1 == world.broker.asked


async def test_threads_that_read_and_purge_while_tokens_are_fetched(world: TokenWorld) -> None:
    """Nothing breaks, and nobody gets a token of another request."""
    requests = [another(f"s{n}") for n in range(8)]
    wrong: list[object] = []
    stop = threading.Event()
    # Threads take turns after microseconds: many more meetings, in less time.
    turns = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def disturb(purges: bool) -> None:
        try:
            while not stop.is_set():
                for request in requests:
                    token = world.cache.peek(request)
                    if token is not None and token.request is not request:
                        wrong.append(token)
                    if purges and token is not None:
                        world.cache.purge(token)
                if purges:
                    world.cache.purge(lambda token: False)
        except BaseException as error:  # handed to the test
            wrong.append(error)

    threads = [threading.Thread(target=disturb, args=(n > 1,)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            for request in requests:
                token = await world.cache.fetch(request, 1000)
                assert token.request is request
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(turns)
    assert [] == wrong


async def test_one_task_and_one_heap_for_any_number(world: TokenWorld) -> None:
    """No task and no timer per token."""
    import asyncio

    def tasks() -> int:
        if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_task():
            return sys.modules["trio"].lowlevel.current_statistics().tasks_living
        return len(asyncio.all_tasks())

    await settle()
    before = tasks()
    for n in range(90):
        await world.cache.fetch(another(f"s{n}"))
    await settle()
    assert (before, 1) == (tasks(), world.clock.sleepers)


def test_the_cache_is_what_its_users_were_promised() -> None:
    """The names that other rooms call."""
    assert {"peek", "fetch", "purge", "clear", "close", "in_use", "adopt", "run"} <= set(dir(TokenCache))
