"""What networks and overloaded servers do, by oidc-provider's fault injector: nothing of it costs a token held."""

from __future__ import annotations

import anyio
import pytest

from spiffe_client import Workload
from spiffe_client.errors import (
    OAuthError,
    TokenBrokerUnavailableError,
    TokenError,
    TokenProtocolError,
    UnacceptableTokenError,
)
from spiffe_client.tokens import TokenBroker
from tests.support.peers import Domain, OidcProvider, free_port, serve_oidc_provider

pytestmark = [pytest.mark.anyio, pytest.mark.peers]

API = "https://api.example.org/"


async def test_busy_for_a_moment(agent, oidc: OidcProvider) -> None:
    """503 with Retry-After (RFC 9110 §10.2.3): asked again when it may be, and not before."""
    async with agent("a") as tokens:
        await tokens.discover()
        oidc.fault(path="/token", status=503, retryAfter="1")
        before = oidc.requests("POST", "/token")
        started = anyio.current_time()
        await tokens.token("read", resource=API)
        assert 1.0 <= anyio.current_time() - started
        assert 2 == oidc.requests("POST", "/token") - before


async def test_busy_for_longer_than_anybody_waits(agent, oidc: OidcProvider) -> None:
    """A long Retry-After fails at once, holds for other tokens too, and costs none that is held."""
    async with agent("a") as tokens:
        held = await tokens.token("read", resource=API)
        oidc.fault(path="/token", status=503, retryAfter="40")
        before = oidc.requests("POST", "/token")
        with anyio.fail_after(10):
            with pytest.raises(OAuthError) as refused:
                await tokens.token("write", resource=API)
            assert ("temporarily_unavailable", 40) == (refused.value.error, refused.value.retry_after)
            with pytest.raises(TokenBrokerUnavailableError) as gated:
                await tokens.token("admin", resource=API)
            assert 30 < gated.value.retry_after <= 40
        assert 1 == oidc.requests("POST", "/token") - before
        assert held is await tokens.token("read", resource=API)


@pytest.mark.parametrize(
    "fault",
    [
        {"drop": True},
        {"drop": True, "after": True},
        {"status": 500, "type": "text/html", "body": "<h1>Oops</h1>"},
        {"status": 502, "body": ""},
        {"status": 400},
    ],
    ids=["dropped", "reply lost", "HTML page", "nothing", "temporarily_unavailable"],
)
async def test_passing_trouble_is_tried_again(agent, oidc: OidcProvider, fault: dict[str, object]) -> None:
    """What may go away is tried again, with an assertion and a proof of its own each time."""
    async with agent("a") as tokens:
        await tokens.discover()
        oidc.fault(path="/token", **fault)
        before = oidc.requests("POST", "/token")
        assert {"read"} == (await tokens.token("read", resource=API)).scope
        assert 2 == oidc.requests("POST", "/token") - before


async def test_hung_socket(agent, oidc: OidcProvider) -> None:
    """A server that does not answer ends at the caller's deadline, as unavailable."""
    async with agent("a") as tokens:
        await tokens.discover()
        oidc.fault(path="/token", delayMs=20000, n=9)
        with anyio.fail_after(15):
            with pytest.raises(TokenBrokerUnavailableError):
                await tokens.token("read", resource=API, timeout=0.5)


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 200, "type": "text/html", "body": "<h1>canary</h1>"},
        {"status": 200, "body": "canary{"},
        {"status": 200, "body": '{"access_token":"canary","access_token":"canary","token_type":"Bearer"}'},
        {"status": 200, "body": '{"access_token": "canary", "token_type": "MAC", "expires_in": 60}'},
        {"status": 200, "body": '{"access_token": "canary"}'},
        {"status": 403, "type": "text/html", "body": "<h1>canary</h1>"},
        {"status": 307, "headers": {"location": "https://elsewhere.example/canary"}},
        {"status": 200, "body": '{"pad":"' + "canary" * 12000 + '"}'},
    ],
    ids=["HTML", "broken", "twice", "MAC", "untyped", "portal", "redirect", "oversized"],
)
async def test_answers_that_are_none(agent, oidc: OidcProvider, fault: dict[str, object]) -> None:
    """A typed error with nothing of the body in it (RFC 6749 §5); what is held stays usable."""
    async with agent("a") as tokens:
        held = await tokens.token("read", resource=API)
        oidc.fault(path="/token", n=9, **fault)
        with anyio.fail_after(9):
            with pytest.raises((TokenProtocolError, UnacceptableTokenError)) as e:
                await tokens.token("write", resource=API)
        assert isinstance(e.value, TokenError)
        assert "canary" not in f"{e.value!r}{e.value}{e.value.__cause__!r}"
        assert held is await tokens.token("read", resource=API)


async def test_revocation_is_tried_again(agent, oidc: OidcProvider) -> None:
    """503 means that the token still exists (RFC 7009 §2.2.1): it is tried again."""
    async with agent("a") as tokens:
        token = await tokens.token("read", resource=API)
        oidc.fault(path="/token/revocation", status=503, retryAfter="0")
        assert "revoked" == (await tokens.revoke(token)).outcome


async def test_revocation_that_fails(agent, oidc: OidcProvider) -> None:
    """What the token broker was not told is not called revoked; here the token is gone all the same."""
    async with agent("a") as tokens:
        token = await tokens.token("read", resource=API)
        oidc.fault(path="/token/revocation", status=503, retryAfter="600", n=9)
        assert "failed" == (await tokens.revoke(token)).outcome
        assert tokens.peek(token.request) is None


async def test_introspection_that_fails(agent, oidc: OidcProvider) -> None:
    """No failure reads as an active token (RFC 7662 §4)."""
    async with agent("a") as tokens:
        token = await tokens.token("read", resource=API)
        for body in ('{"active":"true"}', "{}", "[]", "true"):
            oidc.fault(path="/token/introspection", status=200, body=body)
            with pytest.raises(TokenProtocolError):
                await tokens.introspect(token)


async def test_restart(domain: Domain) -> None:
    """While it is away tokens held are used; when it is back with other secrets, its new nonce is taken."""
    port, me = free_port(), "spiffe://example.org/agent/a"
    knobs = {"PORT": str(port), "DPOP_NONCE": "always"}
    async with Workload(domain.endpoint_for(me)) as workload:
        async with TokenBroker(f"http://127.0.0.1:{port}", identity=workload) as tokens:
            with serve_oidc_provider(domain, **knobs):
                held = await tokens.token("read", resource=API)
            with pytest.raises(TokenBrokerUnavailableError):
                await tokens.token("write", resource=API, timeout=1)
            assert held is await tokens.token("read", resource=API)
            with serve_oidc_provider(domain, **knobs):
                assert {"write"} == (await tokens.token("write", resource=API)).scope
