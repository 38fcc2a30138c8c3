"""One face for the async and the blocking client, so that one test holds for both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
from anyio.to_thread import run_sync

__all__ = ["AsyncFace", "BlockingFace", "Face"]

_END = object()


class AsyncFace:
    """An `httpx.AsyncClient` as it is."""

    is_async = True
    plain = httpx.AsyncClient

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        return await self.client.request(method, url, **options)

    async def get(self, url: str, **options: Any) -> httpx.Response:
        return await self.client.get(url, **options)

    async def post(self, url: str, **options: Any) -> httpx.Response:
        return await self.client.post(url, **options)

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        return await self.client.send(request, **options)

    @asynccontextmanager
    async def stream(self, method: str, url: str, **options: Any) -> AsyncIterator[_AsyncResponse]:
        async with self.client.stream(method, url, **options) as response:
            yield _AsyncResponse(response)

    async def aclose(self) -> None:
        await self.client.aclose()

    async def __aenter__(self) -> AsyncFace:
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *args: Any) -> None:
        await self.client.__aexit__(*args)


class _AsyncResponse:
    def __init__(self, response: httpx.Response) -> None:
        self.response = response

    async def read(self) -> bytes:
        return await self.response.aread()

    def chunks(self, size: int | None = None) -> AsyncIterator[bytes]:
        return self.response.aiter_bytes(size)

    def lines(self) -> AsyncIterator[str]:
        return self.response.aiter_lines()

    def raw(self) -> AsyncIterator[bytes]:
        return self.response.aiter_raw()


class BlockingFace:
    """An `httpx.Client`, each call in a worker thread, so that a test can do something meanwhile."""

    is_async = False
    plain = httpx.Client

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        return await run_sync(partial(self.client.request, method, url, **options))

    async def get(self, url: str, **options: Any) -> httpx.Response:
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> httpx.Response:
        return await self.request("POST", url, **options)

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        return await run_sync(partial(self.client.send, request, **options))

    @asynccontextmanager
    async def stream(self, method: str, url: str, **options: Any) -> AsyncIterator[_BlockingResponse]:
        manager = self.client.stream(method, url, **options)
        response = await run_sync(manager.__enter__)
        try:
            yield _BlockingResponse(response)
        except BaseException as error:
            if not await run_sync(manager.__exit__, type(error), error, error.__traceback__):
                raise
        else:
            await run_sync(manager.__exit__, None, None, None)

    async def aclose(self) -> None:
        await run_sync(self.client.close)

    async def __aenter__(self) -> BlockingFace:
        await run_sync(self.client.__enter__)
        return self

    async def __aexit__(self, *args: Any) -> None:
        await run_sync(self.client.__exit__, *args)


class _BlockingResponse:
    def __init__(self, response: httpx.Response) -> None:
        self.response = response

    async def read(self) -> bytes:
        return await run_sync(self.response.read)

    def chunks(self, size: int | None = None) -> AsyncIterator[bytes]:
        return self._each(lambda: self.response.iter_bytes(size))

    def lines(self) -> AsyncIterator[str]:
        return self._each(self.response.iter_lines)

    def raw(self) -> AsyncIterator[bytes]:
        return self._each(self.response.iter_raw)

    async def _each(self, start: Callable[[], Any]) -> AsyncIterator[Any]:
        items = start()
        while (item := await run_sync(next, items, _END)) is not _END:
            yield item


Face = AsyncFace | BlockingFace
