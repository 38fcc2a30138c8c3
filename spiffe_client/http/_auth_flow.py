"""One way through an authentication, written once, driven by both of httpx's clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Generator
from typing import Any, Generic, TypeAlias, TypeVar

import httpx

from spiffe_client.http._hops import AsyncHops, Hops

__all__ = ["AuthFlow", "Steps"]

_T = TypeVar("_T")

#: Yields a request to send and gets the response, or yields None and gets a credential.
Steps: TypeAlias = Generator[httpx.Request | None, Any, None]


class AuthFlow(httpx.Auth, ABC, Generic[_T]):
    """An `httpx.Auth` that fetches a credential when it has none at hand."""

    @abstractmethod
    def _steps(self, request: httpx.Request, hops: type[Hops]) -> Steps:
        """Say what is done for a request, without doing it."""
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
        steps = self._steps(request, AsyncHops)
        step = next(steps)
        while True:
            answer = (await self._fetch()) if step is None else (yield step)
            try:
                step = steps.send(answer)
            except StopIteration:
                return

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See `httpx.Auth`."""
        steps = self._steps(request, Hops)
        step = next(steps)
        while True:
            answer = self._fetch_blocking() if step is None else (yield step)
            try:
                step = steps.send(answer)
            except StopIteration:
                return
