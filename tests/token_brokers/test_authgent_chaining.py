"""From one trust domain's token broker to another's (draft-ietf-oauth-identity-chaining), on two authgent-servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import jwt
import pytest

from spiffe_client.errors import InvalidGrantError, OAuthError, SecretSourceError, find
from spiffe_client.tokens import (
    ChainedTokens,
    ClientSecret,
    ForeignToken,
    SecretCall,
    SecurityToken,
    TokenBroker,
    TokenRequest,
)
from spiffe_client.tokens._urns import CLIENT_CREDENTIALS, JWT, JWT_BEARER
from tests.support.peers import Authgent, free_port, serve_authgent

pytestmark = [pytest.mark.anyio, pytest.mark.peers]

OWN = TokenRequest.of("read", "write", grant=CLIENT_CREDENTIALS)
API = "https://api.there.example/"


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Authgent, Authgent]]:
    """Here issues assertions for there alone; there accepts those of here alone."""
    ports = free_port(), free_port()
    here, there = (f"http://127.0.0.1:{port}" for port in ports)
    with ExitStack() as stack:
        yield (
            stack.enter_context(serve_authgent(ports[0], trusted_chaining_targets=[there])),
            stack.enter_context(serve_authgent(ports[1], trusted_chaining_issuers=[here])),
        )


@pytest.fixture(scope="module")
def brokers(both: tuple[Authgent, Authgent]) -> Callable[[], tuple[TokenBroker, TokenBroker]]:
    """A client of each, which is registered once: the broker hashes slowly."""
    clients = [(peer, *peer.register(scope="read write")) for peer in both]
    return lambda: tuple(broker_of(*client) for client in clients)


def broker_of(peer: Authgent, name: str, secret: str) -> TokenBroker:
    authentication = ClientSecret(SecretCall(lambda: secret), name, "client_secret_post")
    return TokenBroker(peer.issuer, authentication=authentication, client_id=name)


async def assertion_for(here: TokenBroker, there: str) -> SecurityToken:
    parent = await here.fetch(OWN)
    request = TokenRequest.of("read", audience=there, subject=parent, requested_token_type=JWT)
    assertion = await here.exchange(request)
    assert isinstance(assertion, SecurityToken)
    return assertion


async def test_two_legs(anyio_backend: str, both, brokers) -> None:
    """An assertion of one is a grant at the other (§2.3, §2.4): `N_A` here, an access token there."""
    one, two = brokers()
    async with one as here, two as there:
        assertion = await assertion_for(here, both[1].issuer)
        request = TokenRequest.of("read", resource=API, grant=JWT_BEARER, subject=assertion)
        token = await there.exchange(request)
        claims = jwt.decode(token.token.reveal(), options={"verify_signature": False})
        assert (both[0].issuer, f"client:{here.client_id}") == (claims["chained_from"], claims["sub"])
        assert {"jkt": there.dpop.jkt} == claims["cnf"]


async def test_chained_tokens(anyio_backend: str, both, brokers) -> None:
    """Both legs in one call; the token is kept, and each new one has an assertion of its own."""
    one, two = brokers()
    async with one as here, two as there:
        chained = ChainedTokens(here, there, subject=await here.fetch(OWN))
        token = await chained.token("read", resource=API)
        assert (both[1].issuer, {"read"}) == (token.issuer, token.scope)
        assert token is await chained.token("read", resource=API)
        there.purge(token)
        assert token.fingerprint != (await chained.token("read", resource=API)).fingerprint


async def test_first_leg_that_is_refused(anyio_backend: str, both, brokers) -> None:
    """What the first token broker refuses is not taken for an answer of the second."""
    one, two = brokers()
    async with one as here, two as there:
        chained = ChainedTokens(here, there, subject=ForeignToken((await there.fetch(OWN)).token))
        with pytest.raises(SecretSourceError) as e:
            await chained.token("read", resource=API)
        assert find(e.value, InvalidGrantError)


async def test_assertion_counts_once(anyio_backend: str, both, brokers) -> None:
    """This broker takes an assertion once: a second time is invalid_grant (RFC 7523 §3)."""
    one, two = brokers()
    async with one as here, two as there:
        request = TokenRequest.of(
            "read", resource=API, grant=JWT_BEARER, subject=await assertion_for(here, both[1].issuer)
        )
        await there.exchange(request)
        with pytest.raises(InvalidGrantError):
            await there.exchange(request)


async def test_target_that_is_not_trusted(anyio_backend: str, both, brokers) -> None:
    """403 access_denied: no assertion for whom this broker does not know."""
    async with brokers()[0] as here:
        with pytest.raises(OAuthError) as e:
            await assertion_for(here, "https://elsewhere.example")
        assert ("access_denied", 403) == (e.value.error, e.value.status)


async def test_assertion_for_somebody_else(anyio_backend: str, both, brokers) -> None:
    """What is not issued for the other broker, it does not take."""
    one, two = brokers()
    async with one as here, two as there:
        own = ForeignToken((await here.fetch(OWN)).token)
        with pytest.raises(OAuthError) as e:
            await there.exchange(TokenRequest.of("read", resource=API, grant=JWT_BEARER, subject=own))
        assert "invalid_grant" == e.value.error
