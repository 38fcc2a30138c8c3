"""Exchange, delegation, DPoP, revocation and transaction tokens, against authgent-server, which has its own ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta

import jwt
import pytest

from spiffe_client._clock import SystemClock
from spiffe_client._redact import Secret
from spiffe_client.errors import InvalidClientError, InvalidGrantError, OAuthError
from spiffe_client.tokens import (
    AccessToken,
    ClientSecret,
    ForeignToken,
    SecretCall,
    TokenBroker,
    TokenRequest,
)
from spiffe_client.tokens._urns import CLIENT_CREDENTIALS, TXN_TOKEN
from spiffe_client.tokens.experimental import (
    TransactionToken,
    fetch_transaction_token,
    replace_transaction_token,
)
from tests.support.peers import Authgent

pytestmark = [pytest.mark.anyio, pytest.mark.peers]

API = "https://api.example.org/"
#: A client's own token, whatever it may do; it authenticates by secret alone, so there is no SVID to exchange.
OWN = TokenRequest.of("read", "write", grant=CLIENT_CREDENTIALS)
Client = Callable[..., AbstractAsyncContextManager[TokenBroker]]


def claims_of(token: AccessToken | TransactionToken) -> dict[str, object]:
    """What a resource server would see."""
    return jwt.decode(token.token.reveal(), options={"verify_signature": False})


@pytest.fixture(scope="module")
def registered(authgent: Authgent) -> list[tuple[str, str]]:
    """Clients and their secrets, as many as one test needs; the broker hashes slowly."""
    return [authgent.register(scope="read write") for _ in range(3)]


@pytest.fixture
def client(anyio_backend: str, authgent: Authgent, registered: list[tuple[str, str]]) -> Client:
    """`async with client() as tokens`: another client each time."""
    others = iter(registered)

    @asynccontextmanager
    async def open_client(method: str = "client_secret_post", **options: object) -> AsyncIterator[TokenBroker]:
        name, secret = next(others)
        authentication = ClientSecret(SecretCall(lambda: secret), name, method)
        async with TokenBroker(
            authgent.issuer, authentication=authentication, client_id=name, **options
        ) as tokens:
            yield tokens

    return open_client


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_client_credentials_with_null_members(client: Client, method: str) -> None:
    """`"refresh_token": null` and `"issued_token_type": null` are members that are not there."""
    async with client(method) as tokens:
        token = await tokens.fetch(OWN)
        assert ("DPoP", {"read", "write"}) == (token.token_type, token.scope)
        assert {"jkt": tokens.dpop.jkt} == claims_of(token)["cnf"]
        known = await tokens.introspect(token)
        assert known.active
        assert tokens.client_id == known.client_id


async def test_secret_that_is_wrong(authgent: Authgent, registered, anyio_backend: str) -> None:
    """invalid_client with a `WWW-Authenticate: Bearer` that fits no RFC is invalid_client."""
    name, _ = registered[0]
    authentication = ClientSecret(SecretCall(lambda: "wrong"), name, "client_secret_post")
    async with TokenBroker(authgent.issuer, authentication=authentication, client_id=name) as tokens:
        with pytest.raises(InvalidClientError) as e:
            await tokens.fetch(OWN)
        assert 401 == e.value.status


async def test_credentials_are_in_one_place(client: Client) -> None:
    """With a secret in the header nothing of the client is in the form (RFC 6749 §2.3)."""
    async with client("client_secret_basic") as tokens:
        token = await tokens.fetch(OWN)
        await tokens.revoke(token)
        assert not (await tokens.introspect(token)).active


async def test_scope_beyond_the_registration(client: Client) -> None:
    """403 insufficient_scope is no code of RFC 6749 §5.2: told as it came, not asked again."""
    async with client() as tokens:
        with pytest.raises(OAuthError) as e:
            await tokens.fetch(TokenRequest.of("admin", grant=CLIENT_CREDENTIALS))
        assert ("insufficient_scope", 403) == (e.value.error, e.value.status)
        assert not e.value.retryable


async def test_delegation_chain(client: Client) -> None:
    """Each exchange by another client adds an actor, latest first (RFC 8693 §4.1)."""
    async with client(binding="none") as one, client(binding="none") as two, client(binding="none") as three:
        root = await one.fetch(OWN)
        middle = await two.token("read", audience=API, subject=foreign(root))
        last = await three.token("read", audience="https://far.example/", subject=foreign(middle))
        act = {"sub": f"client:{three.client_id}", "act": {"sub": f"client:{two.client_id}"}}
        assert act == claims_of(last)["act"]
        assert act == (await three.introspect(last)).actor
        assert f"client:{one.client_id}" == claims_of(last)["sub"]


def foreign(token: AccessToken) -> ForeignToken:
    """A token as it arrives at somebody else."""
    return ForeignToken(token.token)


async def test_more_than_the_parent_permits(client: Client) -> None:
    """403 scope_escalation: an unknown code at an odd status is an `OAuthError` with both."""
    async with client() as tokens:
        parent = await tokens.fetch(TokenRequest.of("read", grant=CLIENT_CREDENTIALS))
        with pytest.raises(OAuthError) as e:
            await tokens.token("write", audience=API, subject=parent)
        assert ("scope_escalation", 403) == (e.value.error, e.value.status)


async def test_subjects_it_does_not_accept(client: Client) -> None:
    """A bad subject is invalid_grant here, where RFC 8693 §2.2.2 says invalid_request."""
    async with client() as tokens:
        bad = ForeignToken(Secret("rubbish"), "urn:ietf:params:oauth:token-type:access_token")
        with pytest.raises(InvalidGrantError):
            await tokens.token("read", audience=API, subject=bad)
        with pytest.raises(OAuthError) as e:
            await tokens.token("read", audience=API, subject=ForeignToken(Secret("rubbish"), TXN_TOKEN))
        assert "invalid_request" == e.value.error


async def test_children_survive_there_and_are_revoked_by_us(authgent: Authgent, client: Client) -> None:
    """Revoking a parent leaves children active (no cascade): they are revoked one by one, first."""
    async with client() as tokens:
        parent = await tokens.fetch(OWN)
        child = await tokens.token("read", audience=API, subject=parent)
        grandchild = await tokens.token("read", audience="https://far.example/", subject=child)
        await tokens.revoke(parent)
        for token in (parent, child, grandchild):
            assert tokens.peek(token.request) is None
            assert not (await tokens.introspect(token)).active


async def test_subject_that_was_revoked(client: Client) -> None:
    """401 token_revoked, with a challenge, at the token endpoint: told as it came; the client is not in doubt."""
    async with client() as tokens:
        parent = await tokens.fetch(OWN)
        text = foreign(parent)
        await tokens.revoke(parent)
        with pytest.raises(OAuthError) as e:
            await tokens.token("read", audience=API, subject=text)
        assert ("token_revoked", 401) == (e.value.error, e.value.status)
        assert parent.token.reveal() not in f"{e.value!r}{e.value}"


async def test_tokens_it_does_not_know(client: Client, authgent: Authgent) -> None:
    """Inactive comes with eleven nulls, active with some: null is not there (RFC 7662 §2.2)."""
    async with client() as tokens:
        token = await tokens.fetch(OWN)
        assert {} == (await tokens.introspect(token)).actor
        await tokens.revoke(token)
        known = await tokens.introspect(token)
        assert (False, {}) == (known.active, dict(known.claims))


class SkewedClock(SystemClock):
    """A wall clock that is wrong."""

    def now(self) -> datetime:
        return super().now() - timedelta(minutes=5)


async def test_clock_that_is_wrong(client: Client) -> None:
    """401 invalid_dpop_proof for a proof that looks old: told as it came, where RFC 9449 §5 says 400."""
    async with client(clock=SkewedClock()) as tokens:
        with pytest.raises(OAuthError) as e:
            await tokens.fetch(OWN)
        assert ("invalid_dpop_proof", 401) == (e.value.error, e.value.status)


async def test_transaction_token(client: Client) -> None:
    """A transaction token is of a type of its own, and no access token."""
    async with client() as tokens:
        token = await fetch_transaction_token(
            tokens,
            "read",
            trust_domain="prod.example",
            subject=await tokens.fetch(OWN),
            request_context={"tool": "close"},
            request_details={"order": 7},
        )
        assert (tokens.issuer, "prod.example", {"read"}) == (token.issuer, token.audience, token.scope)
        claims = claims_of(token)
        assert ({"order": 7}, "close") == (claims["tctx"], claims["rctx"]["tool"])
        assert token.transaction == claims["txn"]
        assert not isinstance(token, AccessToken)


async def test_transaction_that_is_more_than_its_parent(client: Client) -> None:
    """403 access_denied for more than the subject's token permits."""
    async with client() as tokens:
        subject = await tokens.fetch(TokenRequest.of("read", grant=CLIENT_CREDENTIALS))
        with pytest.raises(OAuthError) as e:
            await fetch_transaction_token(tokens, "write", trust_domain="prod.example", subject=subject)
        assert ("access_denied", 403) == (e.value.error, e.value.status)


async def test_replacement_it_does_not_know(client: Client) -> None:
    """A transaction token is no subject here (the draft's §5 says it may be): told as it came."""
    async with client() as tokens:
        subject = await tokens.fetch(OWN)
        token = await fetch_transaction_token(tokens, "read", trust_domain="prod.example", subject=subject)
        with pytest.raises(OAuthError) as e:
            await replace_transaction_token(tokens, token, "read")
        assert ("invalid_request", 400) == (e.value.error, e.value.status)
