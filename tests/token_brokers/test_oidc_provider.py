"""Discovery, exchange, client credentials, authorization details, against oidc-provider."""

from __future__ import annotations

import pytest

from spiffe_client._redact import Secret
from spiffe_client.errors import (
    InvalidAuthorizationDetailsError,
    InvalidScopeError,
    InvalidTargetError,
    OAuthError,
    UnacceptableTokenError,
    UnsupportedByBrokerError,
)
from spiffe_client.tokens import ForeignToken, OwnSvid, TokenRequest
from spiffe_client.tokens._urns import CLIENT_CREDENTIALS, JWT, JWT_BEARER
from tests.support.peers import Domain, OidcProvider

pytestmark = [pytest.mark.anyio, pytest.mark.peers]

#: A JWT-SVID without `client_id` is refused, as a later draft wants it.
KNOBS = {"REQUIRE_CLIENT_ID": "1"}

API = "https://api.example.org/"
JWT_API = "https://jwt.example.org/"
ME = "spiffe://example.org/agent/a"
ACTION = {"type": "agent_action", "actions": ["close"]}


async def test_discovery(agent, oidc: OidcProvider) -> None:
    """Metadata is found and believed (RFC 8414 §3)."""
    async with agent("a") as tokens:
        metadata = await tokens.discover()
        assert oidc.issuer == metadata.issuer
        assert f"{oidc.issuer}/token" == metadata.token_endpoint
        assert f"{oidc.issuer}/token/revocation" == metadata.revocation_endpoint
        assert "spiffe_jwt" in metadata.token_endpoint_auth_methods_supported
        assert "ES256" in metadata.dpop_signing_alg_values_supported


async def test_exchange_of_the_own_svid(agent, oidc: OidcProvider) -> None:
    """A JWT-SVID authenticates and is exchanged; the token is bound to this process's key (RFC 9449 §5)."""
    async with agent("a") as tokens:
        token = await tokens.token("read", resource=API)
        assert ("DPoP", frozenset({"read"}), oidc.issuer) == (token.token_type, token.scope, token.issuer)
        assert ("dpop", tokens.dpop.jkt) == (token.binding.method, token.binding.thumbprint)
        known = await tokens.introspect(token)
        assert known.active
        assert (ME, {"read"}) == (known.subject, known.scope)
        assert {"jkt": tokens.dpop.jkt} == known.confirmation


async def test_bearer_tokens_if_asked_for(agent) -> None:
    """Without binding a bearer token is accepted (RFC 6750)."""
    async with agent("a", binding="none") as tokens:
        token = await tokens.token("read", audience=API)
        assert ("Bearer", "none") == (token.token_type, token.binding.method)


async def test_less_than_asked_for_is_visible(agent) -> None:
    """A scope the token broker left out without a word is told (RFC 6749 §5.1), or refused if exactness is asked."""
    async with agent("a") as tokens:
        token = await tokens.token("read", "fly", resource=API)
        assert ({"read"}, {"fly"}) == (token.scope, token.missing_scope)
        with pytest.raises(UnacceptableTokenError) as e:
            await tokens.token("read", "fly", resource=API, exact=True)
        assert "narrower" == e.value.why


async def test_unknown_and_ambiguous_targets(agent, oidc: OidcProvider) -> None:
    """invalid_target (RFC 8693 §2.2.2) is an error of its own and is not asked again."""
    async with agent("a") as tokens:
        await tokens.discover()
        before = oidc.requests("POST", "/token")
        for resource in ("https://elsewhere.example/", [API, JWT_API]):
            with pytest.raises(InvalidTargetError) as e:
                await tokens.token("read", resource=resource)
            assert ("invalid_target", 400) == (e.value.error, e.value.status)
        assert 2 == oidc.requests("POST", "/token") - before


async def test_exchange_of_an_own_token_only_narrows(agent) -> None:
    """A token that was issued here is a subject too; more than it permits is refused (RFC 8693 §2.1)."""
    async with agent("a") as tokens:
        parent = await tokens.token("read", "write", resource=API)
        child = await tokens.token("read", resource=JWT_API, subject=parent)
        assert {"read"} == child.scope
        with pytest.raises(InvalidScopeError):
            await tokens.token("admin", resource=API, subject=parent)


async def test_actor_and_chain(agent) -> None:
    """Who acts for whom is in the token, latest first (RFC 8693 §4.1)."""
    async with agent("a") as first, agent("sub") as second:
        parent = await first.token("read", resource=API)
        one = await second.token("read", resource=API, subject=foreign(parent), actor=OwnSvid())
        assert {"sub": "spiffe://example.org/agent/sub"} == (await second.introspect(one)).actor
        two = await first.token("read", resource=API, subject=foreign(one), actor=OwnSvid())
        known = await first.introspect(two)
        assert {"sub": ME, "act": {"sub": "spiffe://example.org/agent/sub"}} == known.actor
        assert ME == known.subject


def foreign(token) -> ForeignToken:
    """A token as it arrives at somebody else."""
    return ForeignToken(token.token, token.issued_token_type)


async def test_foreign_subjects(domain: Domain, agent, oidc: OidcProvider) -> None:
    """A JWT-SVID of somebody else is exchanged; one that is none is refused by invalid_request."""
    svid = domain.ca.issue_jwt_svid("spiffe://example.org/someone", oidc.issuer)
    async with agent("a") as tokens:
        token = await tokens.token("read", resource=API, subject=ForeignToken(Secret(svid), JWT))
        assert "spiffe://example.org/someone" == (await tokens.introspect(token)).subject
        with pytest.raises(OAuthError) as e:
            await tokens.token("read", resource=API, subject=ForeignToken(Secret("rubbish"), JWT))
        assert ("invalid_request", 400) == (e.value.error, e.value.status)
        assert "rubbish" not in f"{e.value!r}{e.value}"


async def test_uncached_exchange(agent, oidc: OidcProvider) -> None:
    """`exchange` gives each caller a token of its own."""
    async with agent("a") as tokens:
        request = TokenRequest.of("read", resource=API)
        one, two = await tokens.exchange(request), await tokens.exchange(request)
        assert one.fingerprint != two.fingerprint
        assert tokens.peek(request) is None


async def test_what_this_broker_cannot_do(agent) -> None:
    """Other token types and other grants are refused in its own words, and nothing weaker is taken."""
    async with agent("a") as tokens:
        with pytest.raises(OAuthError) as e:
            await tokens.exchange(TokenRequest.of("read", resource=API, requested_token_type=JWT))
        assert "invalid_request" == e.value.error
        with pytest.raises((OAuthError, UnsupportedByBrokerError)):
            await tokens.exchange(TokenRequest.of("read", grant=JWT_BEARER))


async def test_client_credentials(agent) -> None:
    """The client itself is the subject (RFC 6749 §4.4), for a resource (RFC 8707 §2)."""
    async with agent("a") as tokens:
        request = TokenRequest.of("read", resource=API, grant=CLIENT_CREDENTIALS)
        token = await tokens.fetch(request)
        known = await tokens.introspect(token)
        assert (ME, {API}) == (known.client_id, known.audience)
        assert {"read"} == token.scope


async def test_authorization_details(agent) -> None:
    """What was granted is compared with what was asked for (RFC 9396 §7): less is visible, or refused."""
    async with agent("a") as tokens:
        whole = await tokens.token("read", resource=API, authorization_details=[ACTION])
        assert '[{"actions":["close"],"type":"agent_action"}]' == whole.authorization_details
        more = {**ACTION, "actions": ["close", "admin"]}
        reduced = await tokens.token("read", resource=API, authorization_details=[more])
        assert whole.authorization_details == reduced.authorization_details
        with pytest.raises(UnacceptableTokenError) as e:
            await tokens.token("read", resource=API, authorization_details=[more], exact=True)
        assert "narrower" == e.value.why
        for wrong in ({"type": "agent_action"}, {"type": "unheard_of"}):
            with pytest.raises((InvalidAuthorizationDetailsError, UnsupportedByBrokerError)):
                await tokens.token("read", resource=API, authorization_details=[wrong])
