"""One request for all who want its answer, and it belongs to none of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from tests.support.manual_clock import settle
from tests.support.token_world import READ, WRITE, TokenWorld, denied, down, text_of

from spiffe_client.errors import (
    InvalidClientError,
    InvalidGrantError,
    OAuthError,
    StaleError,
    TokenBrokerUnavailableError,
    UnacceptableTokenError,
)
from spiffe_client.tokens._flight import again

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(anyio_backend: str) -> AsyncIterator[TokenWorld]:
    world = TokenWorld()
    async with world.running():
        yield world


class Crowd:
    """Callers at the same time."""

    def __init__(self, world: TokenWorld) -> None:
        self.world = world
        self.got: list[str | None] = []
        self.failed: list[BaseException] = []

    async def ask(self, request=READ, timeout: float | None = None) -> None:
        try:
            self.got.append(text_of(await self.world.cache.fetch(request, timeout)))
        except TokenBrokerUnavailableError as error:
            self.failed.append(error)
        except OAuthError as error:
            self.failed.append(error)


async def test_a_thousand_callers_one_request(world: TokenWorld) -> None:
    """All get the same token."""
    gate = anyio.Event()
    world.broker.script = [gate]
    crowd = Crowd(world)
    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(crowd.ask)
        await settle()
        gate.set()
    assert (1, ["token-1"] * 1000) == (world.broker.asked, crowd.got)


async def test_keys_do_not_wait_for_each_other(world: TokenWorld) -> None:
    """No lock around the network."""
    gate = anyio.Event()
    world.broker.script = [gate]
    crowd = Crowd(world)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crowd.ask)
        await settle()
        await crowd.ask(WRITE)
        assert ["token-2"] == crowd.got
        gate.set()


async def test_a_cancelled_caller_takes_only_itself_away(world: TokenWorld) -> None:
    """The first caller goes, the second gets the answer to the first one's request."""
    gate = anyio.Event()
    world.broker.script = [gate]
    crowd = Crowd(world)
    first = anyio.CancelScope()

    async def ask_and_leave() -> None:
        with first:
            await crowd.ask()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask_and_leave)
        await settle()
        tasks.start_soon(crowd.ask)
        await settle()
        first.cancel()
        await settle()
        gate.set()
    assert (1, ["token-1"]) == (world.broker.asked, crowd.got)


async def test_all_callers_cancelled_and_the_token_is_still_kept(world: TokenWorld) -> None:
    """It was paid for; the next caller has it."""
    gate = anyio.Event()
    world.broker.script = [gate]
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.cache.fetch, READ)
            await settle()
            scope.cancel()
    gate.set()
    await settle()
    assert "token-1" == text_of(world.cache.peek(READ))


async def test_three_tries(world: TokenWorld) -> None:
    """With time between them, and each knows what is left."""
    world.broker.script = [down(), down()]
    crowd = Crowd(world)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crowd.ask)
        await world.clock.advance(1)
    assert (["token-3"], [1, 2, 3]) == (crowd.got, [attempt.number for _, attempt in world.broker.tries])
    remaining = [attempt.remaining for _, attempt in world.broker.tries]
    assert 10.0 == remaining[0] >= remaining[1] >= remaining[2] > 9.0


async def test_and_no_fourth(world: TokenWorld) -> None:
    """The caller hears it within a second, and the next caller tries anew."""
    world.broker.script = [down()] * 3
    crowd = Crowd(world)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crowd.ask)
        await world.clock.advance(1)
    assert (1, 3) == (len(crowd.failed), world.broker.asked)
    await crowd.ask()
    assert ["token-4"] == crowd.got


@pytest.mark.parametrize("refused", [InvalidClientError, InvalidGrantError])
async def test_what_was_refused_is_read_anew_at_once(world: TokenWorld, refused: type[OAuthError]) -> None:
    """One more try, which says so."""
    world.broker.script = [denied("invalid_x", kind=refused)]
    await world.cache.fetch(READ)
    assert [False, True] == [attempt.refresh for _, attempt in world.broker.tries]


async def test_the_cache_is_looked_at_before_each_try(world: TokenWorld) -> None:
    """A token that came from elsewhere meanwhile, such as from a rotation, ends the tries."""
    world.broker.script = [down()]
    crowd = Crowd(world)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crowd.ask)
        await settle()
        world.cache.adopt(READ, await world.broker.mint(READ, None), 0.0)
        await world.clock.advance(1)
    assert (["token-2"], 2) == (crowd.got, world.broker.asked)


async def test_deadline_and_answer_in_the_same_moment(world: TokenWorld) -> None:
    """The answer counts: nobody is told that it did not come."""
    gate = anyio.Event()
    world.broker.script = [gate]
    crowd = Crowd(world)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crowd.ask)
        await settle()
        tasks.start_soon(crowd.ask, READ, 1.0)
        await settle()
        flights = world.cache._flights
        [flight] = flights._by_key.values()
        flights.end(max(flights._deadlines))
        world.cache._landing.land(READ, flight, await world.broker.mint(READ, None), 0.0)
        flight.done.set()
        gate.set()
    assert (2, []) == (len(crowd.got), crowd.failed)


class TestPatience:
    async def test_all_keys_wait_for_what_one_was_told(self, world: TokenWorld) -> None:
        """`Retry-After: 3` to one key, and the other one's request starts three seconds later."""
        world.broker.script = [down(3.0)]
        crowd = Crowd(world)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(crowd.ask)
            await settle()
            tasks.start_soon(crowd.ask, WRITE)
            await world.clock.advance(4)
        assert 2 == len(crowd.got)
        assert [0.0, True, True] == [world.broker.at[0], *(at >= 3.0 for at in world.broker.at[1:])]

    async def test_longer_than_the_deadline_fails_fast(self, world: TokenWorld) -> None:
        """For the one who was told, at once; for others, too, without a request."""
        world.broker.script = [down(45.0)]
        assert 45.0 == (await world.fails(READ)).retry_after
        error = await world.fails(WRITE)
        assert isinstance(error, TokenBrokerUnavailableError) and 45.0 == error.retry_after
        assert 1 == world.broker.asked
        await world.clock.advance(45)
        await world.cache.fetch(WRITE)


class TestJoiningARefresh:
    async def test_its_token_serves_who_came_late(self, world: TokenWorld) -> None:
        """A caller who finds the token expired while it is being replaced waits for that."""
        world.broker.ttl = 30
        await world.cache.fetch(READ)
        gate = anyio.Event()
        world.broker.script = [gate]
        await world.clock.advance(27.1)
        crowd = Crowd(world)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(crowd.ask)
            await settle()
            assert [] == crowd.got
            gate.set()
        assert (["token-2"], 2) == (crowd.got, world.broker.asked)

    async def test_its_failure_is_not_theirs(self, world: TokenWorld) -> None:
        """A renewal asks once; who waits for its answer and does not get it asks for itself."""
        world.broker.ttl = 30
        await world.cache.fetch(READ)
        gate = anyio.Event()
        world.broker.script = [gate, down()]
        await world.clock.advance(19.6)
        assert 2 == world.broker.asked
        crowd = Crowd(world)
        async with anyio.create_task_group() as tasks:
            await world.clock.advance(7.5)  # expired; the renewal is still under way
            tasks.start_soon(crowd.ask)
            await settle()
            assert 2 == world.broker.asked
            gate.set()
        assert (["token-3"], []) == (crowd.got, crowd.failed)

    async def test_its_refusal_is(self, world: TokenWorld) -> None:
        """What will not be granted to the renewal will not be granted to them."""
        world.broker.ttl = 30
        await world.cache.fetch(READ)
        gate = anyio.Event()
        world.broker.script = [gate, denied()]
        crowd = Crowd(world)
        async with anyio.create_task_group() as tasks:
            await world.clock.advance(27.1)
            tasks.start_soon(crowd.ask)
            await settle()
            gate.set()
        assert (1, 2) == (len(crowd.failed), world.broker.asked)


def test_a_copy_is_like_its_original() -> None:
    """Of every kind, also those that are an OSError or take more than a message."""
    cause = ValueError("why")
    for error in (
        down(5.0),
        denied("invalid_scope", description="too much"),
        UnacceptableTokenError("wider", why="wider_scope"),
        StaleError("withdrawn", reason="withdrawn"),
    ):
        error.__cause__ = cause
        copy = again(error)
        assert (type(error), str(error), vars(error)) == (type(copy), str(copy), vars(copy))
        assert (cause, None, False) == (copy.__cause__, copy.__traceback__, copy is error)
