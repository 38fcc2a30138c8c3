"""Revocation and introspection through `TokenBroker`, at a real token broker."""

from __future__ import annotations

import anyio
import pytest

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from spiffe_client.errors import StoppedError, TokenBrokerClosedError, TokenRequestError
from spiffe_client.tokens import TokenBroker, TokenRequest, _open
from tests.support.manual_clock import ManualClock
from tests.support.token_parties import DomainIdentity

pytestmark = pytest.mark.anyio

AGENT = "spiffe://dev.example/agent"
ORDERS = "https://orders.example"
READ = TokenRequest.of("orders:read", audience=ORDERS)


@pytest.fixture
async def domain():
    async with DevTrustDomain("dev.example") as domain:
        yield domain


@pytest.fixture
async def dev(domain):
    client = Client.of(AGENT, audiences=[ORDERS], scopes="orders:read orders:refund")
    async with DevTokenBroker(domain, rules=[client]) as dev:
        yield dev


@pytest.fixture
async def broker(domain, dev):
    async with TokenBroker(dev.issuer, identity=DomainIdentity(domain, AGENT)) as broker:
        yield broker


class TestRevoke:
    async def test_here_and_there(self, broker) -> None:
        """It is not handed out any more, and the token broker says so too."""
        token = await broker.fetch(READ)
        assert (await broker.introspect(token)).active
        done = await broker.revoke(token)
        assert ("revoked", token.fingerprint) == (done.outcome, done.fingerprint)
        assert None is broker.peek(READ)
        assert not (await broker.introspect(token)).active
        assert token.token != (await broker.fetch(READ)).token

    async def test_what_was_made_from_it(self, broker) -> None:
        """Children of an in-process delegation go with it, and before it."""
        parent = await broker.fetch(TokenRequest.of("orders:read", "orders:refund", audience=ORDERS))
        child = await broker.fetch(TokenRequest.of("orders:read", audience=ORDERS, subject=parent))
        done = await broker.revoke(parent)
        assert [child.fingerprint] == [one.fingerprint for one in done.descendants]
        assert done.complete
        assert not (await broker.introspect(child)).active

    async def test_too_deep(self, broker) -> None:
        """D4: a token made from a token made from … comes to an end, before anything is sent."""
        token = await broker.fetch(READ)
        for _ in range(4):
            token = await broker.exchange(TokenRequest.of("orders:read", audience=ORDERS, subject=token))
        with pytest.raises(TokenRequestError, match="more than 4"):
            await broker.exchange(TokenRequest.of("orders:read", audience=ORDERS, subject=token))

    async def test_facts(self, broker, dev) -> None:
        """What the token broker knows, typed."""
        token = await broker.fetch(READ)
        said = await broker.introspect(token)
        assert (frozenset({"orders:read"}), frozenset({ORDERS})) == (said.scope, said.audience)
        assert (AGENT, AGENT, dev.issuer) == (said.subject, said.client_id, said.issuer)
        assert {"jkt": broker.dpop.jkt} == said.confirmation
        assert abs((said.expires_at - token.expires_at).total_seconds()) < 2

    async def test_broker_that_is_down(self, broker, dev) -> None:
        """It is gone here at once, and the outcome says that it is not known to be gone there."""
        token = await broker.fetch(READ)
        dev.fail_next(503, times=None, endpoint="revocation")
        done = await broker.revoke(token, timeout=1)
        assert "failed" == done.outcome
        assert None is broker.peek(READ)
        dev.heal()
        assert "revoked" == (await broker.revoke(token)).outcome


class TestForgetting:
    async def test_in_time(self, domain, dev) -> None:
        """No text of a child is kept for longer than it lives, also if nobody asks for anything any more."""
        clock = ManualClock(SYSTEM_CLOCK.now())
        async with TokenBroker(dev.issuer, identity=DomainIdentity(domain, AGENT), clock=clock) as broker:
            parent = await broker.exchange(READ)
            for _ in range(2):
                await broker.exchange(TokenRequest.of("orders:read", audience=ORDERS, subject=parent))
                await clock.advance(10)
            lineage = broker._session.lineage
            assert 2 == len(lineage)
            await clock.advance(285)
            assert 1 == len(lineage)
            await clock.advance(10)
            assert (0, None) == (len(lineage), lineage.next_expiry)


class TestClosing:
    async def test_revokes_what_is_held(self, domain, dev) -> None:
        """aclose(revoke=True): nothing that was held outlives the client."""
        broker = TokenBroker(dev.issuer, identity=DomainIdentity(domain, AGENT))
        async with broker:
            requests = [TokenRequest.of("orders:read", audience=ORDERS, purpose=f"p{n}") for n in range(20)]
            tokens = [await broker.fetch(request) for request in requests]
            await broker.aclose(revoke=True)
        assert 20 == dev.requests["revocation"]
        async with TokenBroker(dev.issuer, identity=DomainIdentity(domain, AGENT)) as other:
            assert not any([(await other.introspect(token)).active for token in tokens])

    async def test_not_unless_asked(self, domain, dev) -> None:
        """Closing alone sends nothing."""
        async with TokenBroker(dev.issuer, identity=DomainIdentity(domain, AGENT)) as broker:
            await broker.fetch(READ)
        assert 0 == dev.requests["revocation"]

    async def test_while_cancelled(self, domain, dev) -> None:
        """Somebody who is cancelled still has them revoked."""
        broker = TokenBroker(dev.issuer, identity=DomainIdentity(domain, AGENT))
        await broker.open()
        await broker.fetch(READ)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await broker.aclose(revoke=True)
        assert 1 == dev.requests["revocation"]

    async def test_token_broker_that_hangs(self, domain, dev, monkeypatch) -> None:
        """It costs the budget, 5 seconds, and no more."""
        assert 5.0 == _open._BUDGET
        monkeypatch.setattr(_open, "_BUDGET", 0.5)
        broker = TokenBroker(dev.issuer, identity=DomainIdentity(domain, AGENT))
        async with broker:
            await broker.fetch(READ)
            dev.fail_next(None, times=None, endpoint="revocation", delay=30)
            with anyio.fail_after(20):
                await broker.aclose(revoke=True)
            dev.heal()
        with pytest.raises(TokenBrokerClosedError):
            await broker.fetch(READ)


async def test_stopped(broker) -> None:
    """The kill switch asks nobody anything: tokens are dropped here, and nothing goes out any more."""
    token = await broker.fetch(READ)
    broker.stop("drill")
    for call in (broker.revoke, broker.introspect):
        with pytest.raises(StoppedError):
            await call(token)
