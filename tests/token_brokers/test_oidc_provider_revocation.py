"""Revocation (RFC 7009) and introspection (RFC 7662), against oidc-provider."""

from __future__ import annotations

import pytest

from spiffe_client.errors import OAuthError

pytestmark = [pytest.mark.anyio, pytest.mark.peers]

API = "https://api.example.org/"
JWT_API = "https://jwt.example.org/"


async def test_revocation(agent) -> None:
    """A revoked token is forgotten here and inactive there (RFC 7009 §2.1)."""
    async with agent("a") as tokens:
        token = await tokens.token("write", resource=API)
        revocation = await tokens.revoke(token)
        assert "revoked" == revocation.outcome
        assert tokens.peek(token.request) is None
        assert not (await tokens.introspect(token)).active
        again = await tokens.token("write", resource=API)
        assert token.fingerprint != again.fingerprint


async def test_children_are_revoked_by_us(agent) -> None:
    """This token broker leaves exchanged tokens alive when their parent is revoked; they are revoked one by one."""
    async with agent("a") as tokens:
        parent = await tokens.token("read", "write", resource=API)
        child = await tokens.token("read", resource=API, subject=parent)
        await tokens.revoke(parent)
        assert tokens.peek(child.request) is None
        assert not (await tokens.introspect(child)).active


async def test_revocation_at_the_end(agent) -> None:
    """`aclose(revoke=True)` takes back what was held."""
    async with agent("a") as witness, agent("a") as tokens:
        token = await tokens.token("read", resource=API)
        assert (await witness.introspect(token)).active
        await tokens.aclose(revoke=True)
        assert not (await witness.introspect(token)).active


async def test_jwt_access_tokens_cannot_be_revoked_or_looked_up(agent) -> None:
    """unsupported_token_type (RFC 7009 §2.2.1) is an outcome of its own; only the short life ends the token."""
    async with agent("a") as tokens:
        token = await tokens.token("read", resource=JWT_API)
        assert "unsupported_token_type" == (await tokens.revoke(token)).outcome
        with pytest.raises(OAuthError) as e:
            await tokens.introspect(token)
        assert ("unsupported_token_type", 400) == (e.value.error, e.value.status)
