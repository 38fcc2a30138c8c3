"""Introspection (RFC 7662): what a token broker says of a token, and that no failure reads as active."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client._redact import Secret
from spiffe_client.errors import (
    InvalidClientError,
    OAuthError,
    TokenBrokerUnavailableError,
    TokenError,
    TokenProtocolError,
    UnsupportedByBrokerError,
)
from spiffe_client.tokens import Introspection, WebPki
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._introspection import introspect
from tests.support.canary import assert_no_secret
from tests.support.raw_broker import HANG, json_reply, raw_reply, serve_raw
from tests.support.token_parties import endpoint_of

pytestmark = pytest.mark.anyio

TOKEN = "token-9c41f0b7e2aa4d55b1c7"


@pytest.fixture
async def channel():
    channel = Channel(WebPki())
    yield channel
    await channel.aclose()


async def ask(
    channel, answer, *, timeout: float = 5, hint: str = "access_token", **endpoints
) -> Introspection:
    """Have a server answer so, and ask it."""
    answers = list(answer) if isinstance(answer, list) else None
    with serve_raw(lambda _: answers.pop(0) if answers is not None else answer) as broker:
        try:
            return await introspect(
                endpoint_of(broker.url, channel, **endpoints),
                Secret(TOKEN),
                timeout=timeout,
                clock=SYSTEM_CLOCK,
                hint=hint,
            )
        finally:
            ask.asked = broker.asked


class TestWhatIsSaid:
    async def test_the_request(self, channel) -> None:
        """A form with the token, its kind and client authentication (§2.1)."""
        await ask(channel, json_reply({"active": False}))
        (asked,) = ask.asked
        assert ("POST", "/introspection") == (asked.method, asked.target)
        assert [("token", TOKEN), ("token_type_hint", "access_token")] == asked.form
        assert asked.header("authorization").startswith("Basic ")

    async def test_no_hint(self, channel) -> None:
        """What is not an access token is called nothing."""
        await ask(channel, json_reply({"active": False}), hint="")
        assert [("token", TOKEN)] == ask.asked[0].form

    async def test_everything(self, channel) -> None:
        """All members of §2.2, RFC 8693 §4 and RFC 9396 §9.1, and unknown ones."""
        claims = {
            "active": True,
            "scope": "read write",
            "client_id": "c1",
            "username": "jo",
            "token_type": "DPoP",
            "sub": "spiffe://a.test/x",
            "iss": "https://tokens.test",
            "aud": ["a", "b"],
            "jti": "j1",
            "exp": 1893456000,
            "iat": 1893455000.5,
            "nbf": 1893455000,
            "act": {"sub": "spiffe://a.test/agent", "act": {"sub": "spiffe://a.test/first"}},
            "cnf": {"jkt": "thumb"},
            "authorization_details": [{"type": "t", "b": 1, "a": 2}],
            "tenant": 7,
        }
        said = await ask(channel, json_reply(claims))
        assert said.active
        assert frozenset({"read", "write"}) == said.scope
        assert ("c1", "jo", "DPoP", "j1") == (said.client_id, said.username, said.token_type, said.token_id)
        assert ("spiffe://a.test/x", "https://tokens.test") == (said.subject, said.issuer)
        assert frozenset({"a", "b"}) == said.audience
        assert datetime(2030, 1, 1, tzinfo=UTC) == said.expires_at
        assert (500000, 0) == (said.issued_at.microsecond, said.not_before.microsecond)
        assert {"sub": "spiffe://a.test/first"} == said.actor["act"]
        assert {"jkt": "thumb"} == said.confirmation
        assert '[{"a":2,"b":1,"type":"t"}]' == said.authorization_details
        assert claims == said.claims

    async def test_one_audience(self, channel) -> None:
        """RFC 7519 §4.1.3: one audience may stand alone."""
        said = await ask(channel, json_reply({"active": True, "aud": "orders"}))
        assert frozenset({"orders"}) == said.audience

    async def test_nulls_are_not_said(self, channel) -> None:
        """authgent-server sends every optional member as null."""
        names = ["scope", "client_id", "sub", "iss", "aud", "exp", "iat", "nbf", "act", "cnf"]
        said = await ask(channel, json_reply({"active": True, **dict.fromkeys(names)}))
        assert {"active": True} == said.claims
        assert Introspection(active=True, claims=said.claims) == said

    async def test_inactive_says_nothing_more(self, channel) -> None:
        """§2.2: of a token that is not active nothing is believed, whatever comes along."""
        said = await ask(channel, json_reply({"active": False, "scope": "admin", "exp": "never"}))
        assert Introspection(active=False) == said
        assert {} == said.claims


class TestNoFailureReadsAsActive:
    @pytest.mark.parametrize(
        "document",
        [
            {},
            {"active": None},
            {"active": "true"},
            {"active": 1},
            {"active": [True]},
            {"active": True, "scope": ["read"]},
            {"active": True, "client_id": 1},
            {"active": True, "sub": {}},
            {"active": True, "aud": [1]},
            {"active": True, "aud": {}},
            {"active": True, "exp": "1893456000"},
            {"active": True, "exp": True},
            {"active": True, "exp": 1e300},
            {"active": True, "act": "somebody"},
            {"active": True, "cnf": []},
            {"active": True, "authorization_details": {}},
            {"active": True, "authorization_details": ["x"]},
        ],
    )
    async def test_wrong_types(self, channel, document) -> None:
        """A member of the wrong type is no answer."""
        with pytest.raises(TokenProtocolError):
            await ask(channel, json_reply(document))

    @pytest.mark.parametrize(
        "reply",
        [
            raw_reply(200, b'{"active":true,"active":true}', ("Content-Type", "application/json")),
            raw_reply(200, b'{"active":true}', ("Content-Type", "text/html")),
            raw_reply(200, b"[true]", ("Content-Type", "application/json")),
            raw_reply(200, b"eyJ.eyJ.x", ("Content-Type", "application/token-introspection+jwt")),
            raw_reply(204),
            json_reply({"active": True}, 201),
            raw_reply(302, b"", ("Location", "https://evil.test/")),
        ],
    )
    async def test_no_json(self, channel, reply) -> None:
        """Nor is anything that is not one JSON object with status 200."""
        with pytest.raises(TokenError):
            await ask(channel, reply)

    async def test_refused(self, channel) -> None:
        """oidc-provider: JWT access tokens cannot be introspected."""
        with pytest.raises(OAuthError) as e:
            await ask(channel, json_reply({"error": "unsupported_token_type"}, 400))
        assert "unsupported_token_type" == e.value.error
        assert_no_secret(e.value, TOKEN)

    async def test_no_endpoint(self, channel) -> None:
        """A token broker without introspection is not asked elsewhere."""
        with pytest.raises(UnsupportedByBrokerError) as e:
            await ask(channel, json_reply({"active": True}), introspection_endpoint=None)
        assert "introspection_endpoint" == e.value.feature
        assert [] == ask.asked

    async def test_hung(self, channel) -> None:
        """It ends with the deadline."""
        with pytest.raises(TokenBrokerUnavailableError):
            await ask(channel, HANG, timeout=0.3)

    async def test_tried_again(self, channel) -> None:
        """D3: 503 and a stale client assertion are worth another try, with fresh credentials."""
        trouble = [
            json_reply({"error": "temporarily_unavailable"}, 503),
            json_reply({"error": "invalid_client"}, 401),
        ]
        said = await ask(channel, [*trouble, json_reply({"active": True})])
        assert said.active
        assert 3 == len(ask.asked)

    async def test_not_for_ever(self, channel) -> None:
        """A client that is refused twice gives up."""
        with pytest.raises(InvalidClientError):
            await ask(channel, json_reply({"error": "invalid_client"}, 401))
        assert 2 == len(ask.asked)

    async def test_no_time_left(self, channel) -> None:
        """Without time nothing is sent."""
        with pytest.raises(TokenBrokerUnavailableError, match="no time"):
            await ask(channel, json_reply({"active": True}), timeout=0)
        assert [] == ask.asked
