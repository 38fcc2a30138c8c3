"""DPoP where every proof needs a nonce (RFC 9449 §8), against oidc-provider."""

from __future__ import annotations

import pytest

from spiffe_client.errors import InvalidGrantError
from spiffe_client.tokens import TokenRequest
from spiffe_client.tokens._urns import CLIENT_CREDENTIALS
from tests.support.peers import OidcProvider

pytestmark = [pytest.mark.anyio, pytest.mark.peers]

KNOBS = {"DPOP_NONCE": "always"}
API = "https://api.example.org/"


@pytest.mark.parametrize("name", ["dpop", "a"])
async def test_nonce_is_asked_for_once(agent, oidc: OidcProvider, name: str) -> None:
    """One immediate retry with the nonce; the next request has it from the start (RFC 9449 §8.2)."""
    async with agent(name) as tokens:
        await tokens.discover()
        before = oidc.requests("POST", "/token")
        token = await tokens.token("read", resource=API)
        assert 2 == oidc.requests("POST", "/token") - before
        assert ("DPoP", tokens.dpop.jkt) == (token.token_type, token.binding.thumbprint)
        await tokens.token("write", resource=API)
        assert 3 == oidc.requests("POST", "/token") - before


async def test_client_credentials(agent) -> None:
    """It is the same for the token broker's own grants."""
    async with agent("dpop") as tokens:
        token = await tokens.fetch(TokenRequest.of("read", resource=API, grant=CLIENT_CREDENTIALS))
        assert {"jkt": tokens.dpop.jkt} == (await tokens.introspect(token)).confirmation


async def test_own_bound_token_as_subject(agent) -> None:
    """The holder of the key exchanges a bound token; the new one is bound to the same key."""
    async with agent("dpop") as tokens:
        parent = await tokens.token("read", "write", resource=API)
        child = await tokens.token("read", resource=API, subject=parent)
        assert tokens.dpop.jkt == child.binding.thumbprint


async def test_client_that_must_bind_and_does_not(agent) -> None:
    """A missing proof is answered as invalid_grant without any hint; that is what is told."""
    async with agent("dpop", binding="none") as tokens:
        with pytest.raises(InvalidGrantError) as e:
            await tokens.token("read", resource=API)
        assert 400 == e.value.status


async def test_faults_between(agent, oidc: OidcProvider) -> None:
    """After a dropped connection the proof is another one: a replayed `jti` would be refused."""
    async with agent("dpop") as tokens:
        await tokens.token("read", resource=API)
        oidc.fault(path="/token", drop=True, after=True)
        assert {"write"} == (await tokens.token("write", resource=API)).scope
