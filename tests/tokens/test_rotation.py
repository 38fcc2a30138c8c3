"""What a new SVID means for tokens (RFC 8705 §6.3): those bound to the former certificate are worthless."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import pytest
from tests.support.manual_clock import settle
from tests.support.token_world import READ, WRITE, TokenWorld, denied, down, text_of

from spiffe_client.errors import SourceClosedError, SourceError, StaleError, StoppedError
from spiffe_client.ids import SpiffeId
from spiffe_client.tokens import Binding
from spiffe_client.tokens._kill_switch import KillSwitch
from spiffe_client.tokens._rotation import Rotation
from spiffe_client.workload_api import is_any_thread

pytestmark = pytest.mark.anyio

ORDERS, REPORTS = SpiffeId.parse("spiffe://prod.example/orders"), SpiffeId.parse("spiffe://prod.example/reports")


@dataclass(frozen=True)
class Svid:
    id: SpiffeId
    ders: tuple[bytes, ...]


@dataclass(frozen=True)
class Context:
    svid: Svid


def context(der: bytes, id: SpiffeId = ORDERS) -> Context:
    return Context(Svid(id, (der,)))


def x5t(der: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


class Identity:
    """A source of identities that is told what to publish, as `Feed` does: hooks first in a thread of their own."""

    def __init__(self) -> None:
        self.now: Context | SourceError = SourceError("there was no first update yet")
        self.before: list[object] = []
        self.after: list[object] = []

    @property
    def x509_context(self) -> Context:
        if isinstance(self.now, SourceError):
            raise self.now
        return self.now

    def before_publish(self, prepare) -> None:
        self.before.append(prepare)

    def after_publish(self, notify) -> None:
        self.after.append(notify)

    async def publish(self, new: Context | SourceError) -> None:
        for prepare in self.before:
            thread = threading.Thread(target=prepare, args=(new,))
            thread.start()
            while thread.is_alive():
                await anyio.sleep(0.002)
        self.now = new
        for notify in self.after:
            notify()


class Channel:
    def __init__(self) -> None:
        self.staged_for: list[Context] = []
        self.closed = 0

    def staged(self, new: Context) -> Channel:
        self.staged_for.append(new)
        return self

    async def aclose(self) -> None:
        self.closed += 1


class Session:
    def __init__(self, world: TokenWorld, binding: str) -> None:
        self._world = world
        self.binding = binding
        self.channel = Channel()

    async def mint(self, request, attempt, channel=None):
        if channel is not None:
            self._world.broker.binding = Binding("mtls", x5t(channel.staged_for[-1].svid.ders[0]))
        return await self._world.broker.mint(request, attempt)


class Rotating(TokenWorld):
    """A token world whose tokens are bound to certificates."""

    binding = "mtls"

    async def begin(self, first: Context | SourceError) -> None:
        self.identity = Identity()
        self.identity.now = first
        self.session = Session(self, self.binding)
        self.switch = KillSwitch()
        self.rotation = Rotation(
            self.cache,
            self.session,
            self.identity,
            self.home,
            clock=self.clock,
            reports=self.reports,
            switch=self.switch,
            seconds=2.0,
        )
        if isinstance(first, Context):
            method = "mtls" if self.binding == "mtls" else "dpop"
            self.broker.binding = Binding(method, x5t(first.svid.ders[0]))
        self.rotation.follow()


@pytest.fixture
async def world(anyio_backend: str) -> AsyncIterator[Rotating]:
    world = Rotating()
    async with world.running():
        await world.begin(context(b"one"))
        yield world


class TestPrefetching:
    async def test_tokens_in_use_are_there_before_the_switch(self, world: Rotating) -> None:
        """Fetched over connections that show the next SVID; nobody waits after the switch."""
        await world.cache.fetch(READ)
        seen = []
        world.identity.after.insert(0, _Probe(lambda: seen.append(text_of(world.cache.peek(READ)))))
        await world.identity.publish(context(b"two"))
        token = world.cache.peek(READ)
        assert ["token-1"] == seen
        assert ("token-2", x5t(b"two")) == (text_of(token), token.binding.thumbprint)
        assert ([b"two"], 1) == ([c.svid.ders[0] for c in world.session.channel.staged_for], world.session.channel.closed)

    async def test_idle_ones_are_dropped(self, world: Rotating) -> None:
        """Nobody asks for them."""
        world.broker.ttl = 20
        await world.cache.fetch(READ)
        world.broker.ttl = 600
        await world.cache.fetch(WRITE)
        await world.clock.advance(13.5)
        asked = world.broker.asked
        world.cache._entries.get(READ.key).used_at = -1e3
        await world.identity.publish(context(b"two"))
        assert (asked + 1, None) == (world.broker.asked, world.cache.peek(READ))
        assert None is not world.cache.peek(WRITE)

    async def test_a_token_broker_that_is_down_refuses_no_rotation(self, world: Rotating) -> None:
        """The identity comes first; who needs a token fetches it."""
        await world.cache.fetch(READ)
        await world.cache.fetch(WRITE)
        world.broker.script = [down()] * 10
        await world.identity.publish(context(b"two"))
        assert (None, None, x5t(b"two")) == (world.cache.peek(READ), world.cache.peek(WRITE), world.rotation._certificate)
        assert world.broker.asked <= 4

    async def test_a_refused_one_costs_no_other(self, world: Rotating) -> None:
        """It is fetched when it is needed, and refused then."""
        await world.cache.fetch(READ)
        await world.clock.advance(1)
        await world.cache.fetch(WRITE)
        world.broker.script = [denied()]
        await world.identity.publish(context(b"two"))
        assert [None, "token-4"] in ([text_of(world.cache.peek(r)) for r in p] for p in ([READ, WRITE], [WRITE, READ]))

    async def test_a_rotation_waits_two_seconds(self, world: Rotating) -> None:
        """And takes what has come by then."""
        await world.cache.fetch(READ)
        await world.clock.advance(1)
        await world.cache.fetch(WRITE)
        world.broker.script = [anyio.Event(), "in time"]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.identity.publish, context(b"two"))
            while world.broker.asked < 4:
                await anyio.sleep(0.002)
            await world.clock.advance(2.1)
        assert 1 == [world.cache.peek(READ), world.cache.peek(WRITE)].count(None)

    async def test_a_bug_refuses_no_rotation(self, world: Rotating) -> None:
        """Whatever is raised: it is reported, and the SVID is published."""
        await world.cache.fetch(READ)
        world.broker.script = [ZeroDivisionError()]
        await world.identity.publish(context(b"two"))
        assert ("broker.crashed" in world.names, None) == (True, world.cache.peek(READ))

    async def test_nothing_to_fetch(self, world: Rotating) -> None:
        """No connection is opened for nothing."""
        await world.identity.publish(context(b"two"))
        assert [] == world.session.channel.staged_for

    async def test_the_same_certificate(self, world: Rotating) -> None:
        """Other bundles are no rotation: tokens stay, and so does what is on its way."""
        one = await world.cache.fetch(READ)
        gate = anyio.Event()
        world.broker.script = [gate]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.cache.fetch, WRITE)
            await settle()
            await world.identity.publish(context(b"one"))
            gate.set()
        assert (one, 2) == (world.cache.peek(READ), world.broker.asked)

    async def test_what_was_on_its_way_is_bound_to_the_former_certificate(self, world: Rotating) -> None:
        """It is not adopted; who waits gets one that is bound to the new one."""
        gate = anyio.Event()
        world.broker.script = [gate, "late"]
        got = []

        async def ask() -> None:
            got.append(text_of(await world.cache.fetch(READ)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await settle()
            await world.identity.publish(context(b"two"))
            world.broker.script = []
            gate.set()
        assert (["token-2"], "token-2") == (got, text_of(world.cache.peek(READ)))


class TestStoppedOrPurged:
    async def test_a_purge_while_tokens_are_staged(self, world: Rotating) -> None:
        """Regression: what was fetched for the next SVID before a security event came back with that SVID."""
        await world.cache.fetch(READ)
        new = context(b"two")
        thread = threading.Thread(target=world.rotation.prepare, args=(new,))
        thread.start()
        while thread.is_alive():
            await anyio.sleep(0.002)
        world.cache.purge(lambda _: True)
        world.identity.now = new
        world.rotation.settle()
        assert (2, None) == (world.broker.asked, world.cache.peek(READ))

    async def test_an_identity_that_is_stopped_stops_its_tokens(self, world: Rotating) -> None:
        """At once, in the thread that stops it."""
        assert is_any_thread(world.rotation.settle)
        world.identity.now = StoppedError("compromised")
        thread = threading.Thread(target=world.rotation.settle)
        thread.start()
        thread.join()
        assert "compromised" == world.switch.error.reason


class TestSomebodyElse:
    async def test_another_spiffe_id_drops_everything(self, world: Rotating) -> None:
        """Tokens issued to one identity are not used by another."""
        await world.cache.fetch(READ)
        await world.identity.publish(context(b"two", REPORTS))
        assert (0, []) == (len(world.cache), world.session.channel.staged_for)

    @pytest.mark.parametrize("why", [StaleError("withdrawn", reason="withdrawn"), SourceClosedError("closed")])
    async def test_a_withdrawn_identity_drops_everything(self, world: Rotating, why: SourceError) -> None:
        """Whatever tokens are bound to: nobody may speak for it any more."""
        world.broker.binding = Binding()
        await world.cache.fetch(READ)
        world.identity.now = why
        world.rotation.settle()
        assert 0 == len(world.cache)

    async def test_an_expired_one_drops_what_is_bound_to_it(self, world: Rotating) -> None:
        """An agent that is down costs no token that is valid without its certificate."""
        await world.cache.fetch(READ)
        world.broker.binding = Binding()
        kept = await world.cache.fetch(WRITE)
        world.identity.now = StaleError("expired", reason="expired")
        world.rotation.settle()
        assert [kept] == world.cache.held()

    async def test_the_first_identity_is_no_change(self, anyio_backend: str) -> None:
        """A source that starts after the client."""
        world = Rotating()
        async with world.running():
            await world.begin(SourceError("there was no first update yet"))
            world.broker.binding = Binding()
            await world.cache.fetch(READ)
            await world.identity.publish(context(b"one"))
            assert 1 == len(world.cache)


async def test_after_closing_it_listens_no_more(anyio_backend: str) -> None:
    """The hooks may still be called; there is nothing to report."""
    world = Rotating()
    async with world.running():
        await world.begin(context(b"one"))
        await world.cache.fetch(READ)
    await world.identity.publish(context(b"two"))
    assert ["token.issued"] == world.names


async def test_tokens_bound_to_a_key_survive(anyio_backend: str) -> None:
    """DPoP binds to a key of ours, which does not rotate with the SVID."""
    world = Rotating()
    world.binding = "dpop"
    async with world.running():
        await world.begin(context(b"one"))
        one = await world.cache.fetch(READ)
        await world.identity.publish(context(b"two"))
        assert (one, []) == (world.cache.peek(READ), world.identity.before)


class _Probe:
    def __init__(self, call) -> None:
        self.call = call

    def __call__(self) -> None:
        self.call()
