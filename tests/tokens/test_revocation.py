"""Revocation (RFC 7009): here first, children before parents, and an outcome that claims no more than is known."""

from __future__ import annotations

import logging
from collections import defaultdict

import anyio
import pytest

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.errors import (
    OAuthError,
    TokenBrokerUnavailableError,
    TokenRequestError,
    UnsupportedByBrokerError,
)
from spiffe_client.tokens import WebPki
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._lineage import Lineage
from spiffe_client.tokens._revocation import Revoker
from tests.support.raw_broker import HANG, json_reply, raw_reply, serve_raw
from tests.support.token_parties import ISSUER, LATER, access_token, endpoint_of, security_token

pytestmark = pytest.mark.anyio

UNSUPPORTED = json_reply({"error": "unsupported_token_type"}, 400)


class Broker:
    """Answers like a token broker that knows which tokens are active; a script may say otherwise."""

    def __init__(self) -> None:
        self.active: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.scripts: dict[str, list[object]] = defaultdict(list)
        self.deaf = False  # takes every revocation and does nothing

    def answer(self, asked):
        what, token = asked.target.removeprefix("/"), dict(asked.form)["token"]
        self.calls.append((what, token))
        if self.scripts[what]:
            return self.scripts[what].pop(0)
        if what == "introspection":
            return json_reply({"active": token in self.active})
        if not self.deaf:
            self.active.discard(token)
        return raw_reply(200)

    def revoked(self) -> list[str]:
        return [token for what, token in self.calls if what == "revocation"]


class World:
    def __init__(self, url: str, channel: Channel, broker: Broker, **endpoints) -> None:
        self.broker = broker
        self.lineage = Lineage()
        self.purged: list[str] = []
        self.events = []
        self.revoker = Revoker(
            ISSUER,
            endpoint_of(url, channel, **endpoints),
            lineage=self.lineage,
            purge=lambda token: self.purged.append(token.token.reveal()),
            clock=SYSTEM_CLOCK,
            sink=self.events.append,
        )

    def issue(self, text: str, subject=None):
        token = access_token(text, subject=subject)
        self.lineage.add(token, now=LATER.replace(year=2000))
        self.broker.active.add(text)
        return token

    async def revoke(self, token, *, timeout: float = 20, **more):
        return await self.revoker.revoke(token, timeout=timeout, **more)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
async def world(broker):
    with serve_raw(broker.answer) as server:
        channel = Channel(WebPki())
        yield World(server.url, channel, broker)
        await channel.aclose()


class TestOutcome:
    async def test_revoked(self, world) -> None:
        """It was active, and after the 200 it is not: that proves something."""
        done = await world.revoke(world.issue("t-0"))
        assert ("revoked", None, ()) == (done.outcome, done.error, done.descendants)
        assert done.complete
        assert ["introspection", "revocation", "introspection"] == [what for what, _ in world.broker.calls]

    async def test_a_200_proves_nothing(self, world) -> None:
        """§2.2: it also comes for what the token broker never heard of."""
        token = world.issue("t-0")
        world.broker.active.clear()
        done = await world.revoke(token)
        assert "unknown" == done.outcome
        assert not done.complete

    async def test_unconfirmed(self, world) -> None:
        """Who does not ask, does not know."""
        done = await world.revoke(world.issue("t-0"), confirm=False)
        assert "unknown" == done.outcome
        assert [("revocation", "t-0")] == world.broker.calls

    async def test_still_active(self, world) -> None:
        """A token broker that takes the revocation and leaves the token alive has failed."""
        world.broker.deaf = True
        done = await world.revoke(world.issue("t-0"))
        assert ("failed", None) == (done.outcome, done.error)
        assert logging.WARNING == world.events[-1].level

    async def test_unsupported_token_type(self, world) -> None:
        """§2.2.1, oidc-provider's JWT access tokens: it lives until it expires, and that is said."""
        world.broker.scripts["revocation"] = [UNSUPPORTED]
        done = await world.revoke(world.issue("t-0"))
        assert isinstance(done.error, OAuthError), repr(done.error)
        assert "unsupported_token_type" == done.outcome
        assert ["t-0"] == world.purged

    async def test_introspection_that_cannot_say(self, world) -> None:
        """If only introspection is not possible, the revocation is made and not proven."""
        world.broker.scripts["introspection"] = [UNSUPPORTED]
        assert "unknown" == (await world.revoke(world.issue("t-0"))).outcome
        assert ["t-0"] == world.broker.revoked()

    async def test_introspection_that_goes_silent(self, world) -> None:
        """Known before, and nobody answers after: not proven."""
        world.broker.scripts["introspection"] = [json_reply({"active": True}), UNSUPPORTED]
        assert "unknown" == (await world.revoke(world.issue("t-0"))).outcome

    async def test_no_endpoint(self, broker) -> None:
        """A token broker that revokes nothing."""
        with serve_raw(broker.answer) as server:
            channel = Channel(WebPki())
            world = World(server.url, channel, broker, revocation_endpoint=None, introspection_endpoint=None)
            done = await world.revoke(world.issue("t-0"))
            await channel.aclose()
        assert "unsupported_token_type" == done.outcome
        assert isinstance(done.error, UnsupportedByBrokerError)
        assert (["t-0"], []) == (world.purged, broker.calls)

    async def test_hung(self, world) -> None:
        """Within the deadline, with the time for revoking not spent on asking."""
        world.broker.scripts["introspection"] = [HANG]
        world.broker.scripts["revocation"] = [HANG]
        with anyio.fail_after(20):
            done = await world.revoke(world.issue("t-0"), timeout=6)
        assert "failed" == done.outcome
        assert isinstance(done.error, TokenBrokerUnavailableError)
        assert ["introspection", "revocation"] == [what for what, _ in world.broker.calls]

    async def test_503_is_tried_again(self, world) -> None:
        """§2.2.1: the token must be assumed to exist still."""
        busy = json_reply({"error": "temporarily_unavailable"}, 503, ("Retry-After", "1"))
        world.broker.scripts["revocation"] = [busy]
        began = SYSTEM_CLOCK.monotonic()
        assert "revoked" == (await world.revoke(world.issue("t-0"))).outcome
        assert SYSTEM_CLOCK.monotonic() - began >= 1
        assert ["t-0", "t-0"] == world.broker.revoked()

    async def test_somebody_elses(self, world) -> None:
        """A token is never shown to a token broker that did not issue it."""
        with pytest.raises(TokenRequestError, match="other.test"):
            await world.revoke(access_token("t-0", issuer="https://other.test"))
        assert [] == world.broker.calls

    async def test_event(self, world) -> None:
        """Told once, with a fingerprint and no token."""
        token = world.issue("secret-token")
        await world.revoke(token)
        (event,) = world.events
        assert "token.revoked" == event.name
        facts = {"fingerprint": token.fingerprint, "outcome": "revoked", "descendants": 0}
        assert facts == event.attributes
        assert "secret-token" not in event.message


class TestDescendants:
    async def test_children_first(self, world) -> None:
        """Peers leave exchanged children alive when the parent is revoked (A6): the client does it, youngest first."""
        top = world.issue("top")
        a, b = world.issue("a", top), world.issue("b", top)
        world.issue("c", a)
        done = await world.revoke(top)
        order = world.broker.revoked()
        assert ("c", "top") == (order[0], order[-1])
        assert {"a", "b"} == set(order[1:3])
        assert ["revoked"] * 3 == [one.outcome for one in done.descendants]
        assert done.complete
        assert {"top", "a", "b", "c"} == set(world.purged)
        assert b.fingerprint in {one.fingerprint for one in done.descendants}

    async def test_all_are_dropped_here_first(self, world) -> None:
        """Before anything is sent none of them can be got from the cache any more."""
        top = world.issue("top")
        world.issue("a", top)
        purged_at_first_call: list[list[str]] = []
        answer = world.broker.answer

        def watch(asked):
            purged_at_first_call.append(list(world.purged))
            return answer(asked)

        world.broker.answer = watch
        with serve_raw(watch) as server:
            channel = Channel(WebPki())
            world.revoker._endpoints = endpoint_of(server.url, channel)
            await world.revoke(top)
            await channel.aclose()
        assert {"top", "a"} == set(purged_at_first_call[0])

    async def test_one_that_fails(self, world) -> None:
        """Best effort: the others go all the same, and it can be tried again."""
        top = world.issue("top")
        world.issue("a", top)
        world.broker.scripts["revocation"] = [json_reply({"error": "server_error"}, 400)]
        done = await world.revoke(top)
        assert ("revoked", ["failed"]) == (done.outcome, [one.outcome for one in done.descendants])
        assert not done.complete
        again = await world.revoke(top)
        assert ["revoked"] == [one.outcome for one in again.descendants]

    async def test_of_another_token_broker(self, world) -> None:
        """A child that was issued elsewhere is not sent here, and counts as not revoked."""
        top = world.issue("top")
        world.lineage.add(
            access_token("x", subject=top, issuer="https://other.test"), now=LATER.replace(year=2000)
        )
        done = await world.revoke(top, confirm=False)
        assert ["failed"] == [one.outcome for one in done.descendants]
        assert "https://other.test" in str(done.descendants[0].error)
        assert ["top"] == world.broker.revoked()

    async def test_security_token(self, world) -> None:
        """What is not an access token is in no cache, and has no hint."""
        await world.revoke(security_token("grant"))
        assert ([], ["grant"]) == (world.purged, world.broker.revoked())


class TestAll:
    async def test_children_first_and_once(self, world) -> None:
        """Held tokens that descend from each other go in order, each once."""
        top = world.issue("top")
        a = world.issue("a", top)
        lone = world.issue("lone")
        done = await world.revoker.revoke_all([top, lone, a], budget=5)
        assert "a" == world.broker.revoked()[0]
        assert ["a", "lone", "top"] == sorted(world.broker.revoked())
        assert ["unknown"] * 3 == [one.outcome for one in done]
        assert 3 == len(world.events)

    async def test_nothing(self, world) -> None:
        """No token, no request."""
        assert [] == await world.revoker.revoke_all([], budget=5)

    async def test_budget(self, world) -> None:
        """A token broker that hangs costs the budget and no more."""
        world.broker.scripts["revocation"] = [HANG] * 3
        tokens = [world.issue(f"t{number}") for number in range(3)]
        with anyio.fail_after(20):
            done = await world.revoker.revoke_all(tokens, budget=0.5)
        assert ["failed"] * 3 == [one.outcome for one in done]

    async def test_shielded(self, world) -> None:
        """Somebody who is cancelled while closing still has the tokens revoked."""
        tokens = [world.issue(f"t{number}") for number in range(20)]
        with anyio.CancelScope() as scope:
            scope.cancel()
            await world.revoker.revoke_all(tokens, budget=5)
        assert 20 == len(world.broker.revoked())
