"""authgent-server when it has had enough, and when it insists on nonces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spiffe_client.errors import TokenBrokerUnavailableError
from spiffe_client.tokens import ClientSecret, SecretCall, TokenBroker, TokenRequest
from spiffe_client.tokens._urns import CLIENT_CREDENTIALS
from tests.support.peers import Authgent, serve_authgent

pytestmark = [pytest.mark.anyio, pytest.mark.peers]

READ = TokenRequest.of("read", grant=CLIENT_CREDENTIALS)
WRITE = TokenRequest.of("write", grant=CLIENT_CREDENTIALS)


def broker_of(peer: Authgent, **options: object) -> TokenBroker:
    name, secret = peer.register(scope="read write")
    authentication = ClientSecret(SecretCall(lambda: secret), name, "client_secret_post")
    return TokenBroker(peer.issuer, authentication=authentication, client_id=name, **options)


async def test_too_many_requests(anyio_backend: str) -> None:
    """429 without `error`, as problem+json (RFC 9457): the time it names holds, and tokens held stay usable."""
    with serve_authgent(token_rate_limit=2) as peer:  # the registration is the first, a token the second
        async with broker_of(peer) as tokens:
            held = await tokens.fetch(READ)
            with pytest.raises(TokenBrokerUnavailableError) as e:
                await tokens.fetch(WRITE)
            assert 30 < e.value.retry_after <= 61
            assert held is await tokens.fetch(READ)


@pytest.fixture(scope="module")
def strict() -> Iterator[Authgent]:
    with serve_authgent(require_dpop=True) as peer:
        yield peer


async def test_nonce_demanded_by_401(anyio_backend: str, strict: Authgent) -> None:
    """`use_dpop_nonce` comes with 401 here, where RFC 9449 §8 says 400: the nonce is taken all the same."""
    async with broker_of(strict) as tokens:
        assert "DPoP" == (await tokens.fetch(READ)).token_type
        assert "DPoP" == (await tokens.fetch(WRITE)).token_type
