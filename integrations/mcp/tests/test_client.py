"""The client's side by itself: what is sent with which credential, and what of the answer is passed on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx2
import pytest

from spiffe_client.agents import Requires, Scrubber, ToolGate
from spiffe_client.authorize import allow
from spiffe_client.errors import TaskError
from spiffe_client.testing import ManualClock
from spiffe_client.tls import SpiffeTls
from spiffe_client.tokens._channel import Channel, WebPki
from spiffe_client_httpx2 import AsyncSpiffeTransport
from spiffe_client_mcp import TaskAuth, TaskTransport
from spiffe_client_mcp._answers import CleanStream, Events, UnreadableAnswerError
from spiffe_client_mcp._credentials import Credentials
from spiffe_client_mcp._keys import BrokerKeys
from tests.support.agent_world import AgentWorld, contract

pytestmark = pytest.mark.anyio

URL = "https://tools.prod.example/mcp"
JWT = "eyJhbGciOiJub25lIn0.eyJhIjoxfQ."
GATE = ToolGate({"summarize": Requires("summarize"), "resources/read": "summarize", "far": "far"})
PEER = "spiffe://prod.example/tools"
JSON, EVENTS = {"content-type": "application/json"}, {"content-type": "text/event-stream; charset=utf-8"}


def message(method: str = "tools/call", number: Any = 1, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


CALL = message(name="summarize", arguments={"text": "x"})
RESULT = {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}


class Server(httpx2.AsyncBaseTransport):
    """Notes what it gets, and answers as it is told."""

    def __init__(self, answer: Any = RESULT, headers: dict[str, str] = JSON) -> None:
        self.answer, self.headers = answer, headers
        self.got: list[httpx2.Request] = []
        self.closed = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.got.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        if callable(self.answer):
            return httpx2.Response(200, headers=self.headers, stream=Stream(self.answer()))
        content = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return httpx2.Response(200, headers=self.headers, content=content)

    async def aclose(self) -> None:
        self.closed = True


class Stream(httpx2.AsyncByteStream):
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def aclose(self) -> None:
        await self._chunks.aclose()  # type: ignore[attr-defined]


class Session(httpx2.Auth):
    def auth_flow(self, request: httpx2.Request):
        request.headers["Authorization"] = "Bearer an-opaque-session-token"
        yield request


class Desk:
    """A task's client to such a server."""

    def __init__(self, world: AgentWorld, server: Server | None = None, **options: Any) -> None:
        self.world, self.server = world, server or Server()
        self.transport = TaskTransport(GATE, self.server, **options)

    async def send(self, body: Any = CALL, method: str = "POST", url: str = URL, **headers: str) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with httpx2.AsyncClient(transport=Kept(self.transport)) as http:
            response = await http.request(method, url, content=content, headers=headers)
        return response.json() if response.headers.get("content-type") == "application/json" else response.text

    async def denied(self, *args: Any, **options: Any) -> str:
        sent = len(self.server.got)
        answer = await self.send(*args, **options)
        assert len(self.server.got) == sent
        assert -32001 == answer["error"]["code"]
        return answer["error"]["message"]


class Kept(httpx2.AsyncBaseTransport):
    """A client closes its transport; this is for several."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self.handle_async_request = inner.handle_async_request  # type: ignore[method-assign]


@pytest.fixture
async def world(anyio_backend: str) -> AsyncIterator[AgentWorld]:
    actions = {"summarize": {}, "read": {"resources": ["a/*/*"]}, "far": {"peer": PEER}, "list": {}}
    async with AgentWorld(contract(actions=actions, delegates={})).running() as world:
        yield world


@pytest.fixture
async def desk(world: AgentWorld) -> AsyncIterator[Desk]:
    async with world.host.task("x", ["summarize", "far", "list"]):
        yield Desk(world)


class TestMessages:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"x",
            [CALL],
            {**CALL, "jsonrpc": "1.0"},
            {**CALL, "id": True},
            {**CALL, "id": None},
            {**CALL, "id": 1.5},
            {**CALL, "params": []},
            {**CALL, "params": None},
            {**CALL, "method": ""},
            {**CALL, "method": 7},
            message(name=7),
            message(name=""),
            message(name="summarize", arguments=[]),
            {name: value for name, value in CALL.items() if name != "id"},
            {"jsonrpc": "2.0", "id": 1},
            {"jsonrpc": "2.0", "id": 1, "result": 1, "error": 2},
            {"jsonrpc": "2.0", "result": 1},
            b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{"name":"a"}}',
            b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":NaN}}}',
            b" " * 5000,
        ],
        ids=[f"message {number}" for number in range(21)],
    )
    async def test_no_message(self, desk: Desk, body: Any) -> None:
        """Send what is not one message with one meaning: two methods, no id, `NaN`, a list.

        What is not one message with one meaning is not sent, and told.
        """
        desk.transport._most = 4096
        assert "not one message" in await desk.denied(body)
        assert ["missing_scope"] == desk.world.reasons

    async def test_no_task_to_tell(self, world: AgentWorld) -> None:
        """The same where it is nobody's."""
        assert "not one message" in await Desk(world).denied(b"x")

    async def test_methods_of_http(self, desk: Desk) -> None:
        """Those of the protocol; with a body where they have one."""
        assert "not one message" in await desk.denied(method="PUT")
        assert "not one message" in await desk.denied(method="GET")
        await desk.send(b"", method="DELETE")
        assert 1 == len(desk.server.got)

    async def test_another_method(self, desk: Desk) -> None:
        """It is denied, unless the gate knows it by its name."""
        assert "not permitted: prompts/get" in await desk.denied(message("prompts/get", name="x"))
        kept = {**RESULT["result"], "ttlMs": 0, "cacheScope": "private"}
        assert {**RESULT, "result": kept} == await desk.send(message("resources/read", uri="x"))
        await desk.send({"jsonrpc": "2.0", "method": "resources/read"})  # has no answer that could be given up
        assert ["summarize", "summarize"] == [call["action"] for call in desk.world.told("call.finished")]

    def test_calls_are_no_sessions(self) -> None:
        """They cannot be declared to be."""
        with pytest.raises(ValueError, match="tools/call"):
            TaskTransport(GATE, session_methods=["tools/call"])

    async def test_answers_to_the_server(self, desk: Desk) -> None:
        """They are the session's, and so is what has no answer."""
        await desk.send({"jsonrpc": "2.0", "id": 7, "result": {}})
        await desk.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        assert 2 == len(desk.server.got)

    async def test_another_server(self, desk: Desk) -> None:
        """Send the second message to another server.

        One transport is for one.
        """
        await desk.send()
        assert "another server" in await desk.denied(url="https://evil.example/mcp")
        assert ["missing_scope"] == desk.world.reasons

    async def test_what_the_model_leaves_out(self, world: AgentWorld) -> None:
        """A part of the resource that the server says it puts in is decided about, and sent."""
        gate = ToolGate({"read": Requires("read", "a/{tenant}/{order}")})
        schema = {"properties": {"tenant": {"default": "globex"}, "order": {}, "more": {"default": 1}, "odd": 7}}
        tools: list[Any] = [{"name": "read", "inputSchema": schema}, {"name": "other", "inputSchema": schema}]
        tools += [7, {"name": "read"}, {"inputSchema": {"properties": {}}}, {"name": "x", "inputSchema": {}}]
        listed = {"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}

        async def chunks() -> AsyncIterator[bytes]:
            yield b"data: " + json.dumps(listed).encode() + b"\n\n"

        for server in (Server(listed), Server(chunks, EVENTS)):
            desk = Desk(world, server)
            desk.transport = TaskTransport(gate, server)
            async with world.host.task("x", ["read"]):
                await desk.send(message("tools/list"))
                server.answer, server.headers = RESULT, JSON
                await desk.send(message(name="read", arguments={"order": "7"}))
                await desk.send(message(name="read", arguments={"order": "7", "tenant": "acme"}))
            sent = [json.loads(request.content)["params"]["arguments"] for request in server.got[1:]]
            assert [{"tenant": "globex", "order": "7"}, {"tenant": "acme", "order": "7"}] == sent
        resources = [call["resource"] for call in world.told("call.finished")]
        assert {"a/globex/7", "a/acme/7"} == set(resources)


class TestCredentials:
    async def test_the_sessions(self, world: AgentWorld) -> None:
        """It is the session's; a call without a token has none, and what comes back does not show it."""
        desk = Desk(world, session=Session())
        async with world.host.task("x", ["summarize"]):
            desk.server.answer = {"said": "an-opaque-session-token"}
            assert {"said": "[redacted]"} == await desk.send(message("tools/list"))
            await desk.send()
        assert ["Bearer an-opaque-session-token", None] == [r.headers.get("authorization") for r in desk.server.got]

    async def test_attack_a_credential_in_another_answer(self, world: AgentWorld) -> None:
        """A server returns a credential in a later answer, or in a stream that was open before.

        Whenever it was sent, and in a stream that was there before: what is not known by its looks is
        remembered.
        """

        class Rotating(httpx2.Auth):
            count = 0

            def auth_flow(self, request: httpx2.Request):
                Rotating.count += 1
                request.headers["Authorization"] = f"Bearer opaque-{Rotating.count}-token"
                yield request

        desk, later = Desk(world, session=Rotating()), anyio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            await later.wait()
            yield b'data: {"method":"x","params":{"said":"opaque-1-token opaque-2-token"}}\n\n'

        told: list[str] = []

        async def listen() -> None:
            told.append(await desk.send(b"", "GET"))

        async with anyio.create_task_group() as group:
            desk.server.answer, desk.server.headers = chunks, EVENTS
            group.start_soon(listen)
            while not desk.server.got:
                await anyio.sleep(0.001)
            desk.server.answer, desk.server.headers = {"said": "opaque-1-token opaque-2-token"}, JSON
            assert {"said": "[redacted] [redacted]"} == await desk.send(message("tools/list"))
            later.set()
        assert 'data: {"method":"x","params":{"said":"[redacted] [redacted]"}}\n\n' == told[0]

    def test_how_many_are_remembered(self) -> None:
        """The latest; longer ones go first, and what looks like a token needs no memory."""
        sent = Credentials()
        sent.note([JWT, "", *(f"opaque-{n}" for n in range(100)), "opaque-99", "opaque-99-and-longer"])
        assert "opaque-3 [redacted] [redacted]" == sent.scrubber().text("opaque-3 opaque-50 opaque-99-and-longer")
        assert 64 == len(sent._latest) == len(sent._longest_first)

    async def test_of_ones_own(self, world: AgentWorld) -> None:
        """A client sends a credential of its own with a call.

        A client's own is no call's; it is the session's only where there is no other.
        """
        async with world.host.task("x", ["summarize"]):
            for desk in (Desk(world), Desk(world, session=Session())):
                assert "credential of its own" in await desk.denied(Authorization="Bearer x")
            assert "credential of its own" in await desk.denied(message("tools/list"), Authorization="Bearer x")
            await Desk(world).send(message("tools/list"), Authorization="Bearer x")
        assert ["missing_scope"] * 3 == world.reasons

    async def test_an_action(self, world: AgentWorld) -> None:
        """The session's requests are calls then; without a task there are none."""
        desk = Desk(world, session="list")
        assert "no part of any task" in await desk.denied(message("tools/list"))
        async with world.host.task("x", ["list"]) as task:
            await desk.send(message("tools/list"))
        assert ["list"] == [call["action"] for call in world.told("call.finished")]
        assert "has finished" in await Desk(world, session="list", task=task).denied(message("tools/list"))

    async def test_a_peer(self, world: AgentWorld) -> None:
        """What a contract wants to be called by mutual TLS is called by no other transport."""
        async with world.host.task("x", ["far"]):
            desk = Desk(world)
            assert "the peer that the contract names" in await desk.denied(message(name="far"))
            for peer, reached in ((PEER, True), ("spiffe://prod.example/other", False)):
                inner = AsyncSpiffeTransport(SpiffeTls(world.identity, allow(peer)))
                desk = Desk(world)
                desk.transport = TaskTransport(GATE, inner)
                if reached:
                    with pytest.raises(httpx2.ConnectError):
                        await desk.send(message(name="far"), url="https://127.0.0.1:1/mcp")
                else:
                    assert "names" in await desk.denied(message(name="far"))
                await desk.transport.aclose()

    async def test_an_auth_that_fails(self, world: AgentWorld) -> None:
        """Its answer is closed."""

        class Failing(httpx2.Auth):
            def auth_flow(self, request: httpx2.Request):
                yield request
                raise TaskError("not permitted: it is over")

        desk = Desk(world, session=Failing())
        assert "it is over" in (await desk.send(message("ping")))["error"]["message"]


class TestAnswers:
    async def test_escapes(self, desk: Desk) -> None:
        """A server returns a token, spelled with JSON's escapes.

        A token is one however it is spelled; headers are looked at, too.
        """
        spelled = "".join(f"\\u{ord(letter):04x}" for letter in JWT)
        desk.server.answer = b'{"x":"%b"}' % spelled.encode()
        desk.server.headers = {**JSON, "x-said": JWT}
        assert {"x": "[redacted]"} == await desk.send()
        assert [2] == [call["redacted"] for call in desk.world.told("call.finished")]

    async def test_text(self, desk: Desk) -> None:
        """What is no JSON is looked through as it is."""
        desk.server.answer, desk.server.headers = f"<{JWT}>".encode(), {"content-type": "text/html"}
        assert "<[redacted]>" == await desk.send()

    @pytest.mark.parametrize("answer", [b"[]", b"x", b'{"a":1,"a":2}', b"{}" + b" " * 5000])
    async def test_what_cannot_be_read(self, desk: Desk, answer: bytes) -> None:
        """It is not passed on."""
        desk.transport._most = 4096
        desk.server.answer = answer
        assert "cannot be read" in (await desk.send())["error"]["message"]
        assert ["error"] == [call["outcome"] for call in desk.world.told("call.finished")]

    @pytest.mark.parametrize(
        "answer",
        [{"error": {"code": 1, "message": "x"}}, {"result": {"isError": True}}],
        ids=["request", "tool"],
    )
    async def test_what_failed(self, desk: Desk, answer: dict[str, Any]) -> None:
        """It is passed on, and told."""
        desk.server.answer = answer
        assert answer == await desk.send()
        (call,) = desk.world.told("call.finished")
        assert ("error", "ToolFailedError") == (call["outcome"], call["error"])

    async def test_a_connection_that_fails(self, desk: Desk) -> None:
        """It is the library's error, without secrets."""
        desk.server.answer = httpx2.ConnectError(f"refused {JWT}")
        with pytest.raises(httpx2.ConnectError, match=r"refused \[redacted\]"):
            await desk.send()

    async def test_closing(self, desk: Desk) -> None:
        """What is below is closed, too."""
        await desk.transport.aclose()
        assert desk.server.closed


def feed(*chunks: bytes, most: int = 1000) -> bytes:
    events = Events(Scrubber(), most)
    return b"".join(events.feed(chunk) for chunk in chunks)


class TestEvents:
    def test_in_pieces(self) -> None:
        """However they are cut and their lines are ended."""
        for end in (b"\n", b"\r\n", b"\r"):
            lines = (b": ping", b"id: 7", b"event:message", b'data: {"a":', f'data: "{JWT}"}}'.encode(), b"", b"data", b"")
            text = end.join(lines) + end
            wanted = b':\nid: 7\nevent: message\ndata: {"a":"[redacted]"}\n\ndata:\n\n'
            assert wanted == feed(text, b":") == feed(*(text[n : n + 1] for n in range(len(text))), b":")

    def test_names_and_ids(self) -> None:
        """They are text of the server's, too."""
        assert b"[redacted]: \nid: [redacted]\n\n" == feed(f"{JWT}\nid:{JWT}\n\n".encode())

    @pytest.mark.parametrize("text", [b"data: x\n\n", b"data: []\n\n", b"data: " + b"x" * 2000, b"id: 7\n" * 400])
    def test_what_cannot_be_read(self, text: bytes) -> None:
        """No JSON object, or too long."""
        with pytest.raises(UnreadableAnswerError):
            feed(text)


class TestStreams:
    async def test_what_breaks_off(self, desk: Desk) -> None:
        """The error is the library's, and the call has ended."""

        async def chunks() -> AsyncIterator[bytes]:
            yield b'data: {"a":1}\n\n'
            raise httpx2.ReadError("gone")

        desk.server.answer, desk.server.headers = chunks, EVENTS
        with pytest.raises(httpx2.ReadError, match="gone"):
            await desk.send()
        assert ["error"] == [call["outcome"] for call in desk.world.told("call.finished")]

    async def test_what_cannot_be_read(self, desk: Desk) -> None:
        """An event says so, and that is the end."""

        async def chunks() -> AsyncIterator[bytes]:
            yield b'id: 1\ndata: {"a":1}\n\n'
            yield b"data: x\n\n"
            yield b'data: {"b":1}\n\n'

        desk.server.answer, desk.server.headers = chunks, EVENTS
        text = await desk.send()
        assert 'data: {"a":1}' in text and "cannot be read" in text and "b" not in text.partition("read")[2][:2]
        assert ["error"] == [call["outcome"] for call in desk.world.told("call.finished")]

    async def test_what_failed(self, desk: Desk) -> None:
        """It is passed on, and told."""

        async def chunks() -> AsyncIterator[bytes]:
            yield b'data: {"result":'
            yield b'{"isError":true}}\n\n'

        desk.server.answer, desk.server.headers = chunks, EVENTS
        assert 'data: {"result":{"isError":true}}\n\n' == await desk.send()
        assert ["error"] == [call["outcome"] for call in desk.world.told("call.finished")]

    async def test_the_rest_elsewhere(self, desk: Desk) -> None:
        """Where a server breaks off, nobody can ask for the rest in a request that is no part of the call."""

        async def chunks() -> AsyncIterator[bytes]:
            yield b'id: 1\nretry: 1\ndata:\n\n'
            yield b'id: 2\nevent: message\ndata: {"method":"notifications/progress"}\n\n'

        desk.server.answer, desk.server.headers = chunks, EVENTS
        assert 'data:\n\nevent: message\ndata: {"method":"notifications/progress"}\n\n' == await desk.send()
        assert ["error"] == [call["outcome"] for call in desk.world.told("call.finished")]

    async def test_a_call_that_is_answered(self, desk: Desk) -> None:
        """It went well."""

        async def chunks() -> AsyncIterator[bytes]:
            yield b'data: {"method":"notifications/progress"}\n\ndata: {"id":1,"result":{}}\n\n'

        desk.server.answer, desk.server.headers = chunks, EVENTS
        assert '{"id":1,"result":{}}' in await desk.send()
        assert ["ok"] == [call["outcome"] for call in desk.world.told("call.finished")]

    async def test_given_up(self, desk: Desk) -> None:
        """By a notification of the same session: the call ends before the server knows."""

        async def chunks() -> AsyncIterator[bytes]:
            yield b'data: {"a":1}\n\n'
            await anyio.sleep_forever()

        desk.server.answer, desk.server.headers = chunks, EVENTS
        texts = []

        async def work() -> None:
            texts.append(await desk.send())

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            while not desk.transport._open:
                await anyio.sleep(0.001)
            desk.server.answer, desk.server.headers = b"", {}
            for number in (2, 1):
                note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
                await desk.send(note)
        assert "not permitted" in texts[0]
        assert ["cancelled"] == [call["outcome"] for call in desk.world.told("call.finished")]

    async def test_closed_twice(self) -> None:
        """The second time is nothing."""
        from contextlib import AsyncExitStack

        response = httpx2.Response(200, content=b"data: {}\n\n")
        stream = CleanStream(response, Events(Scrubber(), 9), AsyncExitStack(), 1, list)
        await stream.aclose()
        await stream.aclose()
        assert [] == [chunk async for chunk in stream]


class TestTaskAuth:
    async def send(self, body: Any, auth: httpx2.Auth, method: str = "POST", **options: Any) -> httpx2.Request:
        server = Server()
        async with httpx2.AsyncClient(transport=server, auth=auth) as http:
            await http.request(method, URL, json=body, **options)
        return server.got[0]

    async def test_of_the_call(self, world: AgentWorld) -> None:
        """A tool's call is part of a guarded call, and without a token it has none; the session has its own."""
        async with world.host.task("x", ["summarize"]) as task:
            async with task.call("summarize"):
                assert "authorization" not in (await self.send(CALL, TaskAuth(Session()))).headers
                for body in (message("tools/list"), {"jsonrpc": "2.0", "id": 1, "result": 1}):
                    assert "authorization" in (await self.send(body, TaskAuth(Session()))).headers
        assert "authorization" in (await self.send(None, TaskAuth(Session()), "DELETE")).headers
        assert "authorization" not in (await self.send(message("ping"), TaskAuth())).headers

    async def test_without_a_call(self) -> None:
        """It is not sent, and neither is what cannot be read."""
        with pytest.raises(TaskError, match="no guarded call"):
            await self.send(CALL, TaskAuth())
        with pytest.raises(TaskError, match="not one message"):
            await self.send([CALL], TaskAuth())
        with pytest.raises(TaskError, match="not one message"):
            await self.send(message("ping", x="x" * (4 << 20)), TaskAuth())

    async def test_after_the_call(self, world: AgentWorld) -> None:
        """Use a copy of a call's context after the call.

        It is of no use.
        """
        from contextvars import copy_context

        async with world.host.task("x", ["summarize"]) as task, task.call("summarize"):
            context = copy_context()
        which = TaskAuth()._which
        from spiffe_client_mcp._messages import read_message

        with pytest.raises(TaskError):
            context.run(which, read_message(json.dumps(CALL).encode()))
        assert ["task_ended"] == [facts["reason"] for facts in world.told("credential.withheld")]

    def test_in_blocking_code(self) -> None:
        """There it is not."""
        with httpx2.Client(auth=TaskAuth()) as http, pytest.raises(TypeError, match="AsyncClient"):
            http.get(URL)


class TestKeys:
    async def test_old_and_older(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Read when they are old; used a while longer where that fails; not looked for at each forgery."""
        from spiffe_client.errors import TokenBrokerUnavailableError

        clock, reads = ManualClock(), []
        keys = BrokerKeys(Channel(WebPki(), clock=clock), "https://x.example", max_age=300, timeout=1, clock=clock)
        answers: Any = ["first"]

        async def fetch() -> Any:
            reads.append(clock.monotonic())
            await anyio.lowlevel.checkpoint()
            if isinstance(answers[-1], Exception):
                raise answers[-1]
            return (answers[-1],)

        monkeypatch.setattr(keys, "_fetch", fetch)
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(keys.current)
        assert (("first",), 1) == (await keys.anew(), len(reads))
        await clock.advance(11)
        answers.append("second")
        assert (("second",), 2) == (await keys.anew(), len(reads))
        answers.append(TokenBrokerUnavailableError("away"))
        await clock.advance(301)
        for _ in range(3):
            assert ("second",) == await keys.current()
        assert 3 == len(reads)
        await clock.advance(300)
        for _ in range(2):
            with pytest.raises(TokenBrokerUnavailableError):
                await keys.current()

    @pytest.mark.parametrize(("status", "uri"), [(404, True), (200, False)], ids=["status", "nowhere"])
    async def test_not_to_be_had(self, monkeypatch: pytest.MonkeyPatch, status: int, uri: bool) -> None:
        """It says why."""
        from types import SimpleNamespace

        from spiffe_client.errors import TokenError
        from spiffe_client.tokens._reply import Reply

        async def discover(*_: Any, **__: Any) -> Any:
            return SimpleNamespace(jwks_uri=URL if uri else None)

        async def get(*_: Any, **__: Any) -> Any:
            return Reply(status, {}, b"", None, (), URL)

        monkeypatch.setattr("spiffe_client_mcp._keys.discover", discover)
        monkeypatch.setattr("spiffe_client_mcp._keys._http.get", get)
        clock = ManualClock()
        keys = BrokerKeys(Channel(WebPki(), clock=clock), "https://x.example", max_age=300, timeout=1, clock=clock)
        with pytest.raises(TokenError):
            await keys.current()
