"""The present call's token on requests, for frameworks that take an auth and decide by themselves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Final, cast

import httpx2

from spiffe_client.agents import Call, current_call
from spiffe_client.errors import TaskError
from spiffe_client_mcp._flow import AnyAuth
from spiffe_client_mcp._messages import SESSION_METHODS, Message, read_message

__all__ = ["TaskAuth", "auth_of"]

_MOST: Final = 4 << 20


def auth_of(call: Call) -> AnyAuth | None:
    """Return what puts a call's token on its requests; None if it has none."""
    return None if call.authority is None else cast("AnyAuth", call.auth)


class TaskAuth(httpx2.Auth):
    """An auth that reads the call from the context: `guard`, `Task.call` or a gate around it has decided.

    It decides nothing. Calls of tools get the token of the call that they are part of, to whom it is
    meant for; what belongs to the session gets the session's. A tool that is called in no guarded call
    is not called: this raises, and an MCP session does not survive that. Where it should, use
    `TaskTransport`.

    Args:
        session: For what belongs to the session, such as `tools/list`; None for nothing.
    """

    requires_request_body = True

    def __init__(self, session: httpx2.Auth | None = None) -> None:
        self._session = session

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """See `httpx2.Auth`."""
        auth = self._which(read_message(await _body(request)) if request.method == "POST" else _SESSION)
        if auth is None:
            yield request
            return
        flow = auth.async_auth_flow(request)
        try:
            sent = await anext(flow)
            while True:
                response = yield sent
                sent = await flow.asend(response)
        except StopAsyncIteration:
            return
        finally:
            await flow.aclose()

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:  # noqa: ARG002
        """Not for clients that block: MCP has none.

        Raises:
            TypeError: Always.
        """
        raise TypeError("TaskAuth is for httpx2.AsyncClient")

    def _which(self, message: Message | None) -> AnyAuth | None:
        if message is None:
            raise TaskError("not permitted: what is sent is not one message of the protocol")
        if not message.method or message.method in SESSION_METHODS:
            return self._session
        call = current_call()
        if call is None:
            raise TaskError("not permitted: the tool is called in no guarded call")
        call.refuse()
        return auth_of(call)


_SESSION: Final = Message("", None, {})


async def _body(request: httpx2.Request) -> bytes:
    body = await request.aread()
    return body if len(body) <= _MOST else b""
