"""An auth's flow where no client drives it: in a transport."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol

import httpx2

__all__ = ["AnyAuth", "send_with"]


class AnyAuth(Protocol):
    """What is an auth to httpx2, or to a library that has the same."""

    def async_auth_flow(self, request: httpx2.Request, /) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """See `httpx2.Auth`."""
        ...


async def send_with(
    auth: AnyAuth | None,
    request: httpx2.Request,
    send: Callable[[httpx2.Request], Awaitable[httpx2.Response]],
) -> httpx2.Response:
    """Send a request with what an auth puts on it, as often as that wants; return the last answer.

    Args:
        auth: None for nothing.
        request: Its body is in memory.
        send: Sends one.
    """
    if auth is None:
        return await send(request)
    flow = auth.async_auth_flow(request)
    try:
        request = await anext(flow)
        while True:
            response = await send(request)
            response.request = request
            try:
                following = await flow.asend(response)
            except StopAsyncIteration:
                return response
            except BaseException:
                await response.aclose()
                raise
            # Drained, so that its connection can be used again.
            await response.aread()
            await response.aclose()
            request = following
    finally:
        await flow.aclose()
