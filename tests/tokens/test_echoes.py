"""Attacks by repetition: a token broker that sends a secret back where it would be shown.

Each of these came to light by the canary (test_canary.py).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import anyio
import pytest

from spiffe_client._redact import Secret
from spiffe_client.errors import TokenProtocolError
from spiffe_client.tokens import ClientSecret, ForeignToken, Metadata, SecretCall, TokenBroker, TokenRequest
from spiffe_client.tokens._channel import Channel, WebPki
from spiffe_client.tokens._http import get, post, post_json
from spiffe_client.tokens._introspection import read_introspection
from spiffe_client.tokens._reply import issued, read_object
from spiffe_client.tokens._unprinted import Unprinted
from tests.support.canary import assert_no_secret
from tests.support.raw_broker import HANG, issues, json_reply, raw_reply, serve_raw

FOREIGN = "canary-foreign-8d1e6b3f9a7c5042-token"
PROOF = "canary-proof-1f2e3d4c5b6a7980-of-possession"
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.anyio
@pytest.mark.parametrize("secret", [FOREIGN, PROOF, "issued-token-of-many-letters"])
@pytest.mark.parametrize("member", ["issued_token_type", "scope", "authorization_details"])
async def test_secret_as_a_member_that_is_shown(member: str, secret: str) -> None:
    """What was sent in the form or in a header, and the new token: refused (RFC 8693 §2.2.1)."""
    echo = [{"type": secret}] if member == "authorization_details" else f"urn:{secret}"
    answer = issues(access_token="issued-token-of-many-letters", **{member: echo})
    channel = Channel(WebPki())
    with serve_raw(lambda _: answer) as broker:
        form, headers = [("subject_token", FOREIGN)], [("dpop", Unprinted(PROOF))]
        reply = await post(channel, broker.url, form, headers=headers, timeout=5)
        await channel.aclose()
    with pytest.raises(TokenProtocolError, match="a secret in a member") as e:
        issued(reply, now=NOW)
    assert_no_secret(e.value, secret)


@pytest.mark.anyio
async def test_token_that_is_its_own_id() -> None:
    """Opaque tokens are looked up by what they are: `jti` would show the token (RFC 7662 §2.2)."""
    answer = json_reply({"active": True, "jti": FOREIGN, "sub": "me", "act": {"sub": f"x {FOREIGN}"}})
    channel = Channel(WebPki())
    with serve_raw(lambda _: answer) as broker:
        reply = await post(channel, broker.url, [("token", FOREIGN)], timeout=5)
        await channel.aclose()
    said = read_introspection(reply)
    assert (True, "me", "", {}) == (said.active, said.subject, said.token_id, dict(said.actor))
    assert {"active", "sub"} == set(said.claims)


@pytest.mark.anyio
async def test_short_secret_that_is_a_word() -> None:
    """A client secret such as `orders` is none, and the scope has it for another reason."""
    channel = Channel(WebPki())
    with serve_raw(lambda _: issues(scope="orders:read")) as broker:
        reply = await post(channel, broker.url, [("client_secret", "orders")], timeout=5)
        await channel.aclose()
    assert {"orders:read"} == issued(reply, now=NOW).scope


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["get", "post_json"])
async def test_secret_as_a_media_type(how: str) -> None:
    """Of a poll for security events, whose bearer token is in a header (RFC 8936 §2)."""
    channel = Channel(WebPki())
    headers = [("authorization", Unprinted(f"Bearer {FOREIGN}"))]
    with serve_raw(lambda _: raw_reply(200, b"{}", ("content-type", f"text/{FOREIGN}"))) as broker:
        if how == "get":
            reply = await get(channel, broker.url, headers=headers, timeout=5)
        else:
            reply = await post_json(channel, broker.url, {}, headers=headers, timeout=5)
        await channel.aclose()
    assert [FOREIGN] == [secret.reveal() for secret in reply.sent]
    with pytest.raises(TokenProtocolError) as e:
        read_object(reply)
    assert FOREIGN not in f"{e.value} {vars(e.value)}"


@pytest.mark.anyio
async def test_secret_as_a_media_type_of_a_redirect() -> None:
    """It is an attribute of the error, which crash reporters print."""
    channel = Channel(WebPki())
    answer = raw_reply(302, b"", ("location", "/"), ("content-type", f"text/{FOREIGN}"))
    with serve_raw(lambda _: answer) as broker:
        with pytest.raises(TokenProtocolError) as e:
            await post(channel, broker.url, [("subject_token", FOREIGN)], timeout=5)
        await channel.aclose()
    assert FOREIGN not in f"{e.value} {vars(e.value)}"


def test_deadline_of_a_caller_leads_to_no_form() -> None:
    """`asyncio.timeout` raises a TimeoutError whose context is the cancellation, with all its frames."""

    async def main(url: str) -> BaseException:
        metadata = Metadata(url, f"{url}/token", introspection_endpoint=f"{url}/introspection")
        secret = ClientSecret(SecretCall(lambda: PROOF), "me", method="client_secret_post")
        async with TokenBroker(metadata=metadata, authentication=secret, binding="none") as tokens:
            request = TokenRequest.of("orders:read", subject=ForeignToken(Secret(FOREIGN)))
            token = await tokens.token("orders:read", subject=request.subject)
            with pytest.raises(TimeoutError) as e:
                async with asyncio.timeout(0.1):
                    await tokens.introspect(token)
            return e.value

    def script(asked):
        return HANG if asked.target == "/introspection" else issues(access_token=FOREIGN[::-1], scope="orders:read")

    with serve_raw(script) as broker:
        error = anyio.run(main, broker.url)
    assert_no_secret(error, PROOF, FOREIGN[::-1])
