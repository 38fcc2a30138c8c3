"""Without the agent there is nothing to show to the token broker: that is said, and the token broker is not blamed."""

from __future__ import annotations

import re

import pytest

from spiffe_client import TokenBrokerOptions, TokenBrokerUnavailableError, UnavailableError, Workload
from spiffe_client.audit import Event
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from spiffe_client.tokens import _in_time

pytestmark = pytest.mark.anyio

BILLING = "spiffe://prod.example/billing"
RULES = [Client.of(BILLING, audiences=["*"], scopes="orders:read")]


async def test_a_cold_token_while_the_agent_is_away(
    dev: DevTrustDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The identity's error, with the agent's socket, within the deadline; tokens come again when it does."""
    monkeypatch.setattr(_in_time, "_SPARE", 10)  # seconds to say so, also on a slow machine
    monkeypatch.setattr(_in_time, "_SHARE", 0.8)
    events: list[Event] = []
    async with DevTokenBroker(dev, rules=RULES) as broker:
        options = TokenBrokerOptions(broker.issuer, timeout=5.0)
        async with Workload(dev.endpoint, token_broker=options, on_event=events.append) as me:
            await dev.stop_serving()
            with pytest.raises(UnavailableError) as e:
                await me.token("orders:read", audience="https://orders.prod.example")

            assert re.match(
                rf"no token from {broker.issuer}: this workload has no JWT-SVID to show within [\d.]+ s \(cannot "
                r"connect to unix://\S+: .*is the agent running",
                str(e.value),
            )
            assert isinstance(e.value.__cause__, UnavailableError)
            assert e.value.retryable
            health = me.tokens.health
            assert ("no_identity", "unavailable") == (health.state, getattr(health.last_error, "code", None))
            assert 0 == broker.requests["token"]

            await dev.resume()
            await me.token("orders:read", audience="https://orders.prod.example", timeout=40)
            assert "ready" == me.tokens.health.state

    assert not {"broker.unavailable", "broker.recovered"} & {event.name for event in events}


async def test_a_token_broker_that_does_not_answer_is_named(dev: DevTrustDomain) -> None:
    """It is its own fault then, and its own event."""
    events: list[Event] = []
    async with DevTokenBroker(dev, rules=RULES) as broker:
        options = TokenBrokerOptions(broker.issuer, timeout=3.0)
        async with Workload(dev.endpoint, token_broker=options, on_event=events.append) as me:
            await me.tokens.discover()
            broker.fail_next(None, delay=30.0)
            with pytest.raises(TokenBrokerUnavailableError) as e:
                await me.token("orders:read", audience="https://orders.prod.example")

            assert f"the token broker at {broker.issuer} did not answer within 3 s" == str(e.value)
            assert "unavailable" == me.tokens.health.state

    assert "broker.unavailable" in {event.name for event in events}
