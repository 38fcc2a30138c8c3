"""One way through an authentication, written once, driven by both of httpx's clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Generator
from typing import Any, Final, Generic, TypeAlias, TypeVar

import httpx

from spiffe_client.http._hops import AsyncHops, Hops

__all__ = ["AuthFlow", "Refused", "Steps"]

_T = TypeVar("_T")
_UNAUTHORIZED: Final = 401

#: A credential, and the answer to a request that carried it.
Refused: TypeAlias = tuple[_T, httpx.Response]
#: Yields a request to send and gets the response, or yields None and gets a credential.
Steps: TypeAlias = Generator[httpx.Request | None, Any, None]


class AuthFlow(httpx.Auth, ABC, Generic[_T]):
    """An `httpx.Auth` that fetches a credential when it has none at hand."""

    def _at_hand(self, request: httpx.Request, hops: type[Hops]) -> _T | None:  # noqa: ARG002 - for those that keep some
        """Put a credential on the request and return it, if one is at hand that takes no steps."""
        return None

    def _followed(self, response: httpx.Response) -> None:
        """Take note of a request that came by redirects to where it is answered."""

    @abstractmethod
    def _steps(self, request: httpx.Request, hops: type[Hops], refused: Refused[_T] | None) -> Steps:
        """Say what is done for a request, without doing it.

        Args:
            request: What to send.
            hops: What watches it where it needs that.
            refused: What was at hand, and the answer to it, if the request was sent with that before.
        """
        ...

    @abstractmethod
    async def _fetch(self) -> _T:
        """Fetch a credential, for `httpx.AsyncClient`."""
        ...

    @abstractmethod
    def _fetch_blocking(self) -> _T:
        """Fetch a credential, for `httpx.Client`."""
        ...

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """See `httpx.Auth`."""
        refused = None
        held = self._at_hand(request, AsyncHops)
        if held is not None:
            response = yield request
            if response.history:
                self._followed(response)
            if response.status_code != _UNAUTHORIZED:
                return
            refused = (held, response)
        steps = self._steps(request, AsyncHops, refused)
        answer: object = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration:
                return
            if step is None:
                answer = await self._fetch()
                continue
            answer = response = yield step
            if response.history:
                self._followed(response)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See `httpx.Auth`."""
        refused = None
        held = self._at_hand(request, Hops)
        if held is not None:
            response = yield request
            if response.history:
                self._followed(response)
            if response.status_code != _UNAUTHORIZED:
                return
            refused = (held, response)
        steps = self._steps(request, Hops, refused)
        answer: object = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration:
                return
            if step is None:
                answer = self._fetch_blocking()
                continue
            answer = response = yield step
            if response.history:
                self._followed(response)
