"""Tokens that are kept, shared and renewed, against oidc-provider."""

from __future__ import annotations

import anyio
import pytest

from spiffe_client.tokens import TokenRequest
from tests.support.peers import OidcProvider

pytestmark = [pytest.mark.anyio, pytest.mark.peers]

API = "https://api.example.org/"
BRIEF = "https://brief.example.org/"
RENEWED = "https://renewed.example.org/"


async def test_kept_tokens_cost_no_request(agent, oidc: OidcProvider) -> None:
    """Who asks for the same again gets the same from memory."""
    async with agent("a") as tokens:
        token = await tokens.token("read", "write", resource=API)
        before = oidc.requests("POST", "/token")
        assert token is await tokens.token("write read", resource=API)
        assert token is tokens.peek(token.request)
        assert before == oidc.requests("POST", "/token")


async def test_three_hundred_callers_make_one_request(agent, oidc: OidcProvider) -> None:
    """A herd that meets an empty cache makes exactly one POST."""
    async with agent("a") as tokens:
        await tokens.discover()
        before = oidc.requests("POST", "/token")
        got = []

        async def call() -> None:
            got.append(await tokens.token("admin", resource=API))

        async with anyio.create_task_group() as group:
            for _ in range(300):
                group.start_soon(call)
        assert 300 == len(got)
        assert 1 == len({token.fingerprint for token in got})
        assert 1 == oidc.requests("POST", "/token") - before


async def test_threads_and_tasks_share(agent, oidc: OidcProvider) -> None:
    """Blocking callers in threads and tasks get the same token of one POST."""
    async with agent("a") as tokens:
        await tokens.discover()
        before = oidc.requests("POST", "/token")
        request = TokenRequest.of("read", "admin", resource=API)
        got = []

        async def in_a_thread() -> None:
            got.append(await anyio.to_thread.run_sync(tokens.fetch_blocking, request))

        async def in_a_task() -> None:
            got.append(await tokens.fetch(request))

        async with anyio.create_task_group() as group:
            for _ in range(15):
                group.start_soon(in_a_thread)
                group.start_soon(in_a_task)
        assert (30, 1) == (len(got), len({token.fingerprint for token in got}))
        assert 1 == oidc.requests("POST", "/token") - before


async def test_short_lived_tokens_are_not_kept(agent, oidc: OidcProvider) -> None:
    """Ten seconds or less are too little to share: each caller gets one of its own."""
    async with agent("a") as tokens:
        one, two = await tokens.token("read", resource=BRIEF), await tokens.token("read", resource=BRIEF)
        assert one.fingerprint != two.fingerprint
        assert tokens.peek(one.request) is None


async def test_renewal_ahead_of_expiry(agent, oidc: OidcProvider) -> None:
    """A token in use is renewed in the background; nobody waits for that."""
    async with agent("a") as tokens:
        first = await tokens.token("read", resource=RENEWED)
        before = oidc.requests("POST", "/token")
        with anyio.fail_after(10):
            while first is tokens.peek(first.request):
                await anyio.sleep(0.02)  # a request of the application's, now and then
        assert 1 == oidc.requests("POST", "/token") - before
        assert (await tokens.introspect(tokens.peek(first.request))).active


async def test_renewal_that_fails(agent, oidc: OidcProvider) -> None:
    """An outage costs no token that is still valid: it is handed out at once, all the same."""
    async with agent("a") as tokens:
        first = await tokens.token("read", resource=RENEWED)
        oidc.fault(path="/token", status=503, n=99)
        before = oidc.requests("POST", "/token")
        with anyio.fail_after(10):
            while before == oidc.requests("POST", "/token"):
                assert first is tokens.peek(first.request)
                await anyio.sleep(0.02)
        assert first is tokens.peek(first.request)
        assert first is await tokens.token("read", resource=RENEWED)
