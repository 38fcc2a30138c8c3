"""What drafts still change: requests that carry a transaction token. It changes with them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Generator
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import httpx

from spiffe_client.http._destinations import Destinations
from spiffe_client.http._hops import AsyncHeaderGuard, HeaderGuard
from spiffe_client.tokens._unprinted import Unprinted

if TYPE_CHECKING:
    from spiffe_client.tokens.experimental import TransactionToken

__all__ = ["TransactionTokenAuth"]

_NAMES: Final = frozenset({b"txn-token"})


class TransactionTokenAuth(httpx.Auth):
    """Puts a transaction token on each request, beside what authenticates it (draft-ietf-oauth-transaction-tokens §10).

    It goes to the origins given, by https (or to this machine), and nowhere else: a request to
    another origin raises; a redirect to one is followed without it.

    Args:
        token: What the request is about.
        origins: Services of the token's trust domain that it may be sent to.
        auth: What authenticates the request, such as a `TokenAuth`; None for nothing.

    Raises:
        TokenRequestError: There is no origin, or one has no TLS and is not this machine.
    """

    def __init__(
        self, token: TransactionToken, *, origins: Collection[str], auth: httpx.Auth | None = None
    ) -> None:
        self._destinations = Destinations(f"the transaction token {token.fingerprint}", (), origins)
        self._header = Unprinted(token.token.reveal())
        self._auth = auth or httpx.Auth()
        self.requires_request_body: bool = self._auth.requires_request_body
        self.requires_response_body: bool = self._auth.requires_response_body

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """See `httpx.Auth`."""
        self._add(request, AsyncHeaderGuard)
        async with aclosing(self._auth.async_auth_flow(request)) as flow:
            step = await anext(flow)
            while True:
                response = yield step
                try:
                    step = await flow.asend(response)
                except StopAsyncIteration:
                    return

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See `httpx.Auth`."""
        self._add(request, HeaderGuard)
        yield from self._auth.sync_auth_flow(request)

    def _add(self, request: httpx.Request, guard: type[HeaderGuard]) -> None:
        self._destinations.origin(request)
        request.headers["Txn-Token"] = self._header
        guard(request, self._destinations.allowed, _NAMES)
