"""Where the calls of an MCP client pass through: decided, with a token each, and clean when they come back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, cast

import httpx2
from spiffe_client_httpx2 import AsyncSpiffeTransport

from spiffe_client.agents import Call, Task, ToolGate
from spiffe_client.agents._arguments import ResourcePath
from spiffe_client.agents._context import TASK, task_of_call
from spiffe_client.agents._denials import refusal
from spiffe_client.agents._records import record_denial
from spiffe_client.authorize import allow
from spiffe_client.errors import PolicyError, SpiffeError, TaskError
from spiffe_client_mcp._answers import (
    CleanStream,
    Events,
    ToolFailedError,
    UnreadableAnswerError,
    clean_headers,
    clean_json,
    end_with,
    is_failure,
    read_whole,
    written,
)
from spiffe_client_mcp._auth import auth_of
from spiffe_client_mcp._credentials import Credentials
from spiffe_client_mcp._flow import AnyAuth, send_with
from spiffe_client_mcp._messages import (
    SESSION_METHODS,
    Message,
    denied,
    listed_tools,
    read_message,
    uncached,
)

__all__ = ["TaskTransport"]

_MOST: Final = 4 << 20
_METHODS: Final = frozenset({"DELETE", "GET", "POST"})
_UNREADABLE: Final = "not permitted: what is sent is not one message of the protocol, or too long"
_ELSEWHERE: Final = "not permitted: this is another server than the one before"
_OWN: Final = "not permitted: the request has a credential of its own; give it to TaskTransport as session="
_NOT_OURS: Final = "not permitted: the credential is not one for this server, or cannot be had"
_PEER: Final = "not permitted: the connection is not to the peer that the contract names"


class TaskTransport(httpx2.AsyncBaseTransport):
    """A transport for the `httpx2.AsyncClient` of an MCP client, to one server.

    Each call of a tool becomes a guarded call of the present task: decided before anything is sent,
    with the token of that call on it, open until the answer has ended, and without secrets in what
    comes back. One that is denied is answered with a JSON-RPC error (-32001, with a text that is for the model):
    the session goes on. What belongs to the session itself has a credential of its own. Whatever else
    is sent is denied, unless the gate knows it by the name of its method, such as `resources/read`.

    Args:
        gate: The tools, and what each needs.
        inner: What sends; None for httpx2's own without proxies. An action with a `peer` in its contract needs a
            `spiffe_client_httpx2.AsyncSpiffeTransport` to that very peer.
        session: What belongs to the session goes with this: an auth, or an action of the task, whose
            every use is a guarded call, too. None for no credential.
        task: Whose calls these are; None for the task that they are made in.
        session_methods: What belongs to the session.
        most: How long a message, an answer or an event may be, in bytes.
    """

    def __init__(
        self,
        gate: ToolGate,
        inner: httpx2.AsyncBaseTransport | None = None,
        *,
        session: httpx2.Auth | str | None = None,
        task: Task | None = None,
        session_methods: Collection[str] = SESSION_METHODS,
        most: int = _MOST,
    ) -> None:
        if "tools/call" in session_methods:
            raise ValueError("tools/call belongs to no session: its calls are decided one by one")
        self._gate = gate
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False) if inner is None else inner
        self._session = session
        self._task = task
        self._session_methods = frozenset(session_methods)
        self._most = most
        self._origin: tuple[str, str, int | None] | None = None
        self._sent = Credentials()
        self._open: dict[tuple[str, str | int], Call] = {}
        self._holes = {name: ResourcePath(rule.resource).holes for name, rule in gate.requires.items()}
        self._defaults: dict[str, dict[str, object]] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See `httpx2.AsyncBaseTransport`."""
        message = await self._read(request)
        number = None if message is None else message.id
        trouble = self._trouble(request, message)
        if message is None or trouble is not None:
            return denied(number, self._told(message, trouble or _UNREADABLE))
        try:
            return await self._answer(request, message)
        except (PolicyError, TaskError, UnreadableAnswerError) as denial:
            return denied(number, str(denial))
        except SpiffeError:
            return denied(number, _NOT_OURS)

    def _trouble(self, request: httpx2.Request, message: Message | None) -> str | None:
        if message is None:
            return _UNREADABLE
        if not self._is_same_server(request.url):
            return _ELSEWHERE
        plain = self._session is None and self._is_sessions(message)
        return _OWN if "authorization" in request.headers and not plain else None

    def _is_sessions(self, message: Message) -> bool:
        return not message.method or message.method in self._session_methods

    def _told(self, message: Message | None, text: str) -> str:
        """Tell that something was denied that did not get as far as the gate; return the text for the model."""
        task = self._task or TASK.get()
        if task is None:
            return text
        call = Call(task, message.tool or message.method if message else "mcp", "", arguments={})
        record_denial(call, refusal("missing_scope", "adapter", ("trouble", text)), None)
        return f"{text} (ref {call.id})"

    async def _answer(self, request: httpx2.Request, message: Message) -> httpx2.Response:
        given_up = message.cancels
        if (
            isinstance(given_up, str | int)
            and (running := self._open.get(_key(request, given_up))) is not None
        ):
            running.cancel()
        if not self._is_sessions(message):
            return await self._gated(request, message)
        if isinstance(self._session, str):
            task = task_of_call(self._session) if self._task is None else self._task
            return await self._within(task.call(self._session), request, message)
        auth = cast("AnyAuth | None", self._session)
        return (await self._exchange(AsyncExitStack(), request, message, auth, None))[0]

    async def _gated(self, request: httpx2.Request, message: Message) -> httpx2.Response:
        if not message.tool:
            call = self._gate.call(message.method, message.params, task=self._task)
            return await self._within(call, request, message)
        given = message.arguments or {}
        arguments = {**self._defaults.get(message.tool, {}), **given}
        call = self._gate.call(message.tool, arguments, task=self._task)
        if arguments.keys() != given.keys():  # what is decided about is what is sent
            content = written({**message.whole, "params": {**message.params, "arguments": arguments}})
            request = _copy(request, content)
        return await self._within(call, request, message)

    def _learn(self, document: Mapping[str, object]) -> None:
        """Note which parts of a resource a server puts in by itself where a model leaves them out."""
        for tool in listed_tools(document):
            path = self._holes.get(tool.name)
            if path:
                self._defaults[tool.name] = {n: v for n, v in tool.defaults.items() if n in path}

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def _read(self, request: httpx2.Request) -> Message | None:
        if request.method not in _METHODS:
            return None
        body = await request.aread()
        if request.method == "POST":
            return read_message(body) if len(body) <= self._most else None
        return None if body else Message("", None, {})

    def _is_same_server(self, url: httpx2.URL) -> bool:
        origin = (url.scheme, url.host, url.port)
        self._origin = self._origin or origin
        return origin == self._origin

    async def _within(self, call: Call, request: httpx2.Request, message: Message) -> httpx2.Response:
        """Send it as part of a call, which is open until the answer has ended."""
        key = None if message.id is None else _key(request, message.id)
        with suppress(ToolFailedError):
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(call)
                if not self._reaches(call):
                    raise TaskError(f"{_PEER} (ref {call.id})")
                if key is not None:
                    self._open[key] = call
                stack.callback(self._forget, key, call)
                try:
                    response, failed = await self._exchange(stack, request, message, auth_of(call), call)
                except Exception as error:
                    call.clean_error(error)
                    raise
                end_with(ToolFailedError() if failed else None)  # for the audit: the answer is passed on
        return response

    def _forget(self, key: tuple[str, str | int] | None, call: Call) -> None:
        if key is not None and self._open.get(key) is call:
            del self._open[key]

    def _reaches(self, call: Call) -> bool:
        peer = call.task.host.contract.actions[call.action].peer
        if peer is None:
            return True
        inner = self._inner
        if not isinstance(inner, AsyncSpiffeTransport):
            return False
        check = inner._tls._check  # noqa: SLF001 - both are released together
        return check.rule == allow(peer).rule

    async def _exchange(
        self,
        stack: AsyncExitStack,
        request: httpx2.Request,
        message: Message,
        auth: AnyAuth | None,
        call: Call | None,
    ) -> tuple[httpx2.Response, bool]:
        """Send a request; return the answer without secrets, and whether it says that a tool failed.

        An answer that is a stream takes over what is on the stack.
        """
        if call is not None:
            self._sent.note(call.secrets())
        response = await send_with(auth, _copy(request), self._send)
        scrubber = self._sent.scrubber()

        def ended() -> None:
            if call is not None:
                call.redacted += scrubber.count
                scrubber.count = 0

        headers = clean_headers(response.headers, scrubber)
        seen = self._watcher(message)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            # The rest of a call's answer in another request would be no part of the call: nobody can ask for it.
            events = Events(scrubber, self._most, seen, resumable=self._is_sessions(message))
            stream = CleanStream(response, events, stack.pop_all(), message.id, ended)
            return httpx2.Response(response.status_code, headers=headers, stream=stream), False
        failed = False
        try:
            body = await read_whole(response, self._most)
            if body and kind == "application/json":
                document = clean_json(body, scrubber)
                seen(document)
                failed, body = is_failure(document), written(document)
            else:
                body = scrubber.clean(body)
        finally:
            ended()
        return httpx2.Response(response.status_code, headers=headers, content=body), failed

    def _watcher(self, message: Message) -> Callable[[dict[str, Any]], None]:
        """Return what each message of an answer is shown to, which may change it."""
        if message.method == "tools/list":
            return self._learn
        return _nothing if message.tool or self._is_sessions(message) else uncached

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        self._sent.note(_shown(request))
        return await self._inner.handle_async_request(request)


def _nothing(_: Mapping[str, object]) -> None:
    pass


def _copy(request: httpx2.Request, content: bytes | None = None) -> httpx2.Request:
    """Return a request of our own: what is put on it does not stay with who asked, or follow redirects."""
    headers, extensions = request.headers.copy(), dict(request.extensions)
    if content is None:
        content = request.content
    else:
        del headers["content-length"]
    return httpx2.Request(
        request.method, request.url, headers=headers, content=content, extensions=extensions
    )


def _key(request: httpx2.Request, number: str | int) -> tuple[str, str | int]:
    return request.headers.get("mcp-session-id", ""), number


def _shown(sent: httpx2.Request) -> list[str]:
    """Return the credential that went along."""
    return [sent.headers["authorization"].partition(" ")[2]] if "authorization" in sent.headers else []
