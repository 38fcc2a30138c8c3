"""A token broker that is a SPIFFE workload itself: both ends show X509-SVIDs, against oidc-provider."""

from __future__ import annotations

import pytest

from spiffe_client.errors import PeerError, TokenBrokerUnavailableError, find
from spiffe_client.tokens import SpiffePeer, X509SvidTls

pytestmark = [pytest.mark.anyio, pytest.mark.peers]

KNOBS = {"TLS": "1"}
SPIFFE_SERVER = True
API = "https://api.example.org/"
BROKER = SpiffePeer("spiffe://example.org/token-broker")


async def test_mutual_tls(agent) -> None:
    """The token broker is known by its SPIFFE ID, and knows its client by that one's."""
    async with agent("x509", authentication=X509SvidTls(BROKER), binding="mtls") as tokens:
        token = await tokens.token("read", resource=API)
        assert "mtls" == token.binding.method
        assert (await tokens.introspect(token)).active


async def test_jwt_svid_over_mutual_tls(agent) -> None:
    """The channel and the client authentication are two things."""
    async with agent("a", trust=BROKER) as tokens:
        assert "dpop" == (await tokens.token("read", resource=API)).binding.method


async def test_impostor(agent) -> None:
    """Another workload of the same trust domain is not the token broker: it gets no assertion."""
    async with agent("a", trust=SpiffePeer("spiffe://example.org/other")) as tokens:
        with pytest.raises(TokenBrokerUnavailableError) as e:
            await tokens.token("read", resource=API, timeout=2)
        assert find(e.value, PeerError)
