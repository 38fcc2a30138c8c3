"""Messages and `repr` speak of what the user made, a `Workload`, and of how it is opened."""

from __future__ import annotations

import httpx
import pytest

from spiffe_client import TokenBrokerClosedError, Workload, sync
from spiffe_client.agents import AgentHost
from spiffe_client.dev import DevTokenBroker, DevTrustDomain
from spiffe_client.sources import JwtSource, X509Source
from spiffe_client.tokens import NoAuthentication, TokenBroker

pytestmark = pytest.mark.anyio

NOBODY = "http://127.0.0.1:1"
ORDERS = "https://orders.prod.example"


async def test_without_async_with(dev: DevTrustDomain) -> None:
    """By `token`, and by a request with `auth`."""
    me = Workload(dev.endpoint, token_broker=NOBODY)
    said = r"^this Workload is not open: `async with Workload\(…\) as me:`$"
    with pytest.raises(TokenBrokerClosedError, match=said):
        await me.token("orders:read", audience=ORDERS)
    async with httpx.AsyncClient(auth=me.auth("orders:read", audience=ORDERS)) as http:
        with pytest.raises(TokenBrokerClosedError, match=said):
            await http.get(ORDERS)


async def test_without_with(dev: DevTrustDomain) -> None:
    """The blocking one is opened otherwise."""
    me = sync.Workload(dev.endpoint, token_broker=NOBODY)
    with pytest.raises(
        TokenBrokerClosedError, match=r"^this Workload is not open: `with Workload\(…\) as me:`$"
    ):
        me.token("orders:read", audience=ORDERS)


async def test_after_it_was_closed(dev: DevTrustDomain) -> None:
    """It was the workload that was closed."""
    async with Workload(dev.endpoint, token_broker=NOBODY) as me:
        pass
    with pytest.raises(TokenBrokerClosedError, match="^this Workload was closed; open a new one$"):
        await me.token("orders:read", audience=ORDERS)


async def test_a_token_broker_made_by_its_user() -> None:
    """It is what was made, and is named."""
    tokens = TokenBroker(NOBODY, authentication=NoAuthentication(), binding="none")
    with pytest.raises(TokenBrokerClosedError, match="^this TokenBroker is not open: use `async with`"):
        await tokens.token("orders:read", audience=ORDERS)


async def test_repr(dev: DevTrustDomain) -> None:
    """Who it is and how it is doing; without an identity it says so."""
    me = Workload(dev.endpoint)
    assert "Workload(no identity, closed)" == repr(me)
    async with me:
        assert "Workload(spiffe://prod.example/billing, fresh)" == repr(me)
    assert "sync.Workload(no identity, closed)" == repr(sync.Workload(dev.endpoint))


ASYNC_ONLY = [Workload, X509Source, JwtSource, TokenBroker, AgentHost, DevTrustDomain, DevTokenBroker]


@pytest.mark.parametrize("kind", ASYNC_ONLY, ids=lambda kind: kind.__name__)
def test_with_in_the_place_of_async_with(kind: type) -> None:
    """Regression: Python said that an internal protocol is not there; now it is told what to write."""
    with pytest.raises(TypeError, match=f"^{kind.__name__} needs `async with`; for blocking code"):
        with kind.__new__(kind):
            raise AssertionError("it ran")
