"""Client and server over streamable HTTP, with tokens of a real token broker, bound to keys and to calls."""

from __future__ import annotations

import threading

import anyio
import httpx2
import pytest
from mcp.shared.exceptions import MCPError
from integrations.mcp.tests.world import AGENT, GATE, LIST, OTHER, READ, REFUND, World, open_world, text_of

from spiffe_client import Workload
from spiffe_client.errors import TaskEndedError
from spiffe_client.tokens import TokenBrokerOptions
from spiffe_client_httpx2 import adapt_auth
from spiffe_client_mcp import SESSION_METHODS, TaskTransport

pytestmark = [
    pytest.mark.anyio,
    # A stream that is given up leaves generators of httpx2's and mcp's behind, also without us.
    pytest.mark.filterwarnings("ignore:.*async_generator:pytest.PytestUnraisableExceptionWarning"),
]

MODES = pytest.mark.parametrize("mode", ["auto", "legacy"])


@pytest.fixture
async def world(anyio_backend: str):
    async with open_world() as world:
        yield world


@MODES
async def test_a_call(world: World, mode: str) -> None:
    """It has a token of its own; what belongs to the session has another one."""
    async with world.task(), world.client(mode) as client:
        assert {"read_order", "refund"} <= {tool.name for tool in (await client.list_tools()).tools}
        result = await client.call_tool("read_order", {"order": "7"})
        assert "order 7 of acme" == text_of(result)
    (call,) = world.told("call.finished")
    assert ("ok", READ, "tenants/acme/orders/7") == (call["outcome"], call["action"], call["resource"])
    tokens = {headers.get("authorization") for headers in world.seen}
    assert None not in tokens and len(tokens) == 2
    assert all(token.startswith("DPoP ") for token in tokens)


@MODES
async def test_denied(world: World, mode: str) -> None:
    """A model calls tools for another tenant, with `../`, and one that its task does not have.

    Before anything is sent, in public words; the session goes on.
    """
    async with world.task(), world.client(mode) as client:
        await client.list_tools()
        sent = world.posts
        for name, order, tenant in (("read_order", "7", "globex"), ("read_order", "../7", "acme"), ("erase", "7", "acme")):
            with pytest.raises(MCPError, match="not permitted: ") as caught:
                await client.call_tool(name, {"order": order, "tenant": tenant})
            assert -32001 == caught.value.error.code
        assert world.posts == sent
        assert "order 7 of acme" == text_of(await client.call_tool("read_order", {"order": "7"}))
    assert ["tenant_boundary", "outside_purpose", "missing_scope"] == [f["reason"] for f in world.told("call.denied")]


@MODES
async def test_outside_of_a_task(world: World, mode: str) -> None:
    """Call a tool of a server outside of any task.

    Nobody's work is not done: nothing is sent.
    """
    async with world.client(mode) as client:
        with pytest.raises(MCPError, match="no part of any task"):
            await client.call_tool("read_order", {"order": "7"})
    assert ["no_task"] == [facts["reason"] for facts in world.told("call.denied")]


@MODES
async def test_bound_to_the_call(world: World, mode: str) -> None:
    """A sensitive action's token says what for, and the server holds that against what came."""
    async with world.task(), world.client(mode) as client:
        result = await client.call_tool("refund", {"order": "7", "amount": 1.0, "tenant": "acme"})
        assert "refunded 1.0 for tenants/acme/orders/7 as acme in 32" == text_of(result)
    assert world.broker.requests["revocation"], "the call has ended, and its token has not"


@MODES
async def test_a_default_of_the_servers(world: World, mode: str) -> None:
    """What a caller leaves out is what its token says, and not another tenant's, which the tool would take."""
    async with world.me.task("x", [REFUND], tenant="globex"), world.client(mode) as client:
        result = await client.call_tool("refund", {"order": "7", "amount": 1.0})
    assert "refunded 1.0 for tenants/globex/orders/7 as globex in 32" == text_of(result)


@MODES
async def test_resources_and_prompts(world: World, mode: str) -> None:
    """The server looks at the tokens of those, too: a session's is not enough, and what it does not list it refuses."""
    async with world.task(), world.client(mode) as client:
        assert "all orders" == (await client.read_resource("orders://all")).contents[0].text
        with pytest.raises(MCPError, match="not one for this call"):
            await client.get_prompt("advice")
    assert ["ok", "error"] == [call["outcome"] for call in world.told("call.finished")]
    loose = world.transport(session_methods={*SESSION_METHODS, "resources/read"})
    async with world.client(mode, loose) as client:
        assert ["advice"] == [prompt.name for prompt in (await client.list_prompts()).prompts]
        with pytest.raises(MCPError, match="not one for this call"):
            await client.read_resource("orders://all")
    assert ["the method is not listed", f"the token lacks {READ}"] == [
        event.message.removeprefix("a request was refused: ") for event in world.server_audit
    ]


@MODES
async def test_attack_a_cached_answer(world: World, mode: str) -> None:
    """Read from the client's cache what another task has read.

    What one task has read a client does not keep for another one, nor for nobody, though the server says it
    may.
    """
    async with world.client(mode) as client:
        async with world.task():
            await client.read_resource("orders://all")
        with pytest.raises(MCPError, match="no part of any task"):
            await client.read_resource("orders://all")
        async with world.me.task("x", [REFUND], tenant="globex"):
            with pytest.raises(MCPError, match="not permitted"):
                await client.read_resource("orders://all")
    assert ["no_task", "missing_scope"] == [facts["reason"] for facts in world.told("call.denied")]


async def test_a_session_of_somebody_else(world: World) -> None:
    """Use the id of another agent's session.

    Its id is of no use to another agent, whatever its own token permits.
    """
    async with world.client("legacy") as client:
        await client.list_tools()
        session = world.seen[-1]["mcp-session-id"]
        said = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        headers = {"mcp-session-id": session, "accept": "application/json, text/event-stream"}
        endpoint = await world.domain.endpoint_for(OTHER)
        async with Workload(endpoint, token_broker=TokenBrokerOptions(world.broker.issuer)) as other:
            for who, status in ((other, 404), (world.me, 200)):
                auth = adapt_auth(who.auth(LIST, audience=world.origin))
                async with httpx2.AsyncClient(auth=auth) as http:
                    for method in ("POST", "GET", "DELETE") if who is other else ("POST",):
                        body = said if method == "POST" else None
                        answer = await http.request(method, world.url, json=body, headers=headers)
                        assert status == answer.status_code, f"{method} {answer.text}"


@MODES
async def test_what_comes_back(world: World, mode: str) -> None:
    """A server returns the call's own token, in results and in progress.

    It, and what looks like one, is taken out before a model sees it.
    """
    told = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async with world.task(), world.client(mode) as client:
        assert "here: [redacted] and [redacted] end" == text_of(await client.call_tool("spill", {"order": "7"}))
        result = await client.call_tool("report", {"order": "7"}, progress_callback=progress)
        assert "reported" == text_of(result)
    assert [f"step {n} [redacted]" for n in range(3)] == told
    assert [2 * 2, 3] == [call["redacted"] for call in world.told("call.finished")]


@MODES
async def test_what_the_server_refuses(world: World, mode: str) -> None:
    """Call a tool that the server does not list, with a good token.

    The server refuses it, whatever the token.
    """
    async with world.task(), world.client(mode) as client:
        result = await client.call_tool("unchecked", {"order": "7"})
        assert (True, "not permitted: the caller's credential is not one for this call") == (result.is_error, text_of(result))
    assert ["error"] == [call["outcome"] for call in world.told("call.finished")]
    assert ["a call of a tool was refused: the tool is not listed"] == [e.message for e in world.server_audit]
    assert ["tool.refused"] == [e.name for e in world.server_audit]


@MODES
async def test_for_somebody_else(world: World, mode: str) -> None:
    """Have an action's token sent to a server that it is not for.

    An action's token is not sent to a server that it is not for.
    """
    async with world.task(), world.client(mode) as client:
        await client.list_tools()
        sent = world.posts
        with pytest.raises(MCPError, match="not one for this server"):
            await client.call_tool("away", {})
        assert world.posts == sent
        await client.list_tools()
    (facts,) = world.told("credential.withheld")
    assert ("credential.withheld", "token_origin") == ("credential.withheld", facts["reason"])
    assert ("away", world.origin) == (facts["action"], facts["origin"])


@MODES
async def test_a_task_that_ends(world: World, mode: str) -> None:
    """Let a call run on at the server when its task ends.

    It ends at once, and the token with it.
    """
    async with world.client(mode) as client:
        with pytest.raises((TaskEndedError, MCPError), match="enough"):  # whichever comes first
            async with world.task() as task:
                threading.Thread(target=lambda: (world.waiting.wait(10), task.end("stopped", "enough"))).start()
                with anyio.fail_after(15):
                    await client.call_tool("wait", {"order": "7"})
        with pytest.raises(MCPError, match="no part of any task"):
            await client.call_tool("read_order", {"order": "7"})
    assert ["cancelled"] == [call["outcome"] for call in world.told("call.finished")]
    assert ["stopped"] == [call["ended"] for call in world.told("call.finished")]
    assert ["no_task"] == [facts["reason"] for facts in world.told("call.denied")]


@MODES
async def test_a_caller_that_gives_up(world: World, mode: str) -> None:
    """Its call ends; the session and the task go on."""
    async with world.task() as task, world.client(mode) as client:
        with anyio.move_on_after(15) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "wait", {"order": "7"})
                await anyio.to_thread.run_sync(world.waiting.wait, 10)
                group.cancel_scope.cancel()
        assert not scope.cancelled_caught
        with anyio.fail_after(20):
            while task.calls:
                await anyio.sleep(0.01)
        assert "order 8 of acme" == text_of(await client.call_tool("read_order", {"order": "8"}))
    assert ["cancelled", "ok"] == [call["outcome"] for call in world.told("call.finished")]


@MODES
async def test_calls_side_by_side(world: World, mode: str) -> None:
    """Each is its own task's, on one session."""
    found = {}

    async with world.client(mode) as client:

        async def work(order: str) -> None:
            async with world.task() as task:
                found[task.id] = text_of(await client.call_tool("read_order", {"order": order}))

        async with anyio.create_task_group() as group:
            for n in range(5):
                group.start_soon(work, str(n))
    calls = world.told("call.finished")
    assert {f"order {n} of acme" for n in range(5)} == set(found.values())
    assert found.keys() == {call["task"] for call in calls}
    assert 5 == len({call["token"] for call in calls})


@MODES
async def test_an_action_for_the_session(world: World, mode: str) -> None:
    """What belongs to the session can be calls, too: decided, counted, told."""
    async with world.task(READ, LIST), world.client(mode, TaskTransport(GATE, session=LIST)) as client:
        await client.list_tools()
        assert "order 7 of acme" == text_of(await client.call_tool("read_order", {"order": "7"}))
    assert {READ, LIST} == {call["action"] for call in world.told("call.finished")}


@pytest.mark.parametrize("binding", ["none", "dpop"])
async def test_a_token_that_was_revoked(anyio_backend: str, binding: str) -> None:
    """Go on with a token that was revoked.

    A server that asks the token broker takes it no more; its client gets another one, and sends that.
    """
    async with open_world(introspect=True, binding=binding) as world, world.task(), world.client() as client:
        for _ in range(2):
            assert "order 7 of acme" == text_of(await client.call_tool("read_order", {"order": "7"}))
            world.broker.revoke_all(AGENT)
    assert ["an access token was refused: the token was revoked, or the token broker does not know it"] == [
        event.message for event in world.server_audit
    ]
    assert ["token.refused"] == [event.name for event in world.server_audit]


async def test_without_proofs(anyio_backend: str) -> None:
    """Show a bound token to a server that does not look at proofs, as what it is, and as a bearer.

    A server that does not look at proofs takes no token that is bound to a key.
    """
    async with open_world(proofs=False) as world, world.task() as task:
        with pytest.raises((MCPError, ExceptionGroup)):
            async with world.client() as client:
                await client.call_tool("read_order", {"order": "7"})
        assert world.posts and not world.told("call.finished")
        async with task.call(READ, "tenants/acme/orders/7") as call, httpx2.AsyncClient() as http:
            stolen = {"authorization": f"Bearer {call.token.token.reveal()}"}
            assert 401 == (await http.post(world.url, headers=stolen)).status_code
    assert {("token.refused", "invalid_token")} == {(it.name, it.attributes["reason"]) for it in world.server_audit}


@pytest.mark.parametrize("json_response", [False, True])
async def test_bearer(anyio_backend: str, json_response: bool) -> None:
    """Tokens that are bound to nothing need no proofs."""
    async with open_world(binding="none", proofs=False, json_response=json_response, stateless=True) as world:
        async with world.task(), world.client("legacy") as client:
            assert "order 7 of acme" == text_of(await client.call_tool("read_order", {"order": "7"}))
            result = await client.call_tool("refund", {"order": "7", "amount": 2})
            assert text_of(result).startswith("refunded 2")
    assert REFUND in {call["action"] for call in world.told("call.finished")}
