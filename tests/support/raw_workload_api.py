"""The Workload API as bare calls, without the client that the package offers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import anyio
from anyio.abc import ByteStream

from spiffe_client import _grpc
from spiffe_client.workload_api._fields import Message

__all__ = ["HEADER", "RawWorkloadApi"]

HEADER = (("workload.spiffe.io", "true"),)

_M = TypeVar("_M", bound=Message)


class _Decoded(Generic[_M]):
    """Messages as they come; no generator, which would want to be closed."""

    def __init__(self, messages: AsyncIterator[bytes], kind: type[_M]) -> None:
        self._messages = messages
        self._kind = kind

    def __aiter__(self) -> _Decoded[_M]:
        return self

    async def __anext__(self) -> _M:
        return self._kind.decode(await anext(self._messages))


class RawWorkloadApi:
    """Calls on one endpoint, `unix:/path`."""

    def __init__(self, endpoint: str) -> None:
        self._path = endpoint.removeprefix("unix:")

    async def connect(self) -> ByteStream:
        return await anyio.connect_unix(self._path)

    async def call(
        self, method: str, request: Message | bytes, answer: type[_M], *, metadata: tuple[tuple[str, str], ...] = HEADER
    ) -> _M:
        """One message each way."""
        raw = request if isinstance(request, bytes) else request.encode()
        reply = await _grpc.unary(
            self.connect, f"/SpiffeWorkloadAPI/{method}", raw, metadata=metadata, timeout=10.0
        )
        return answer.decode(reply)

    @asynccontextmanager
    async def watch(
        self,
        method: str,
        answer: type[_M],
        *,
        request: Message | None = None,
        metadata: tuple[tuple[str, str], ...] = HEADER,
    ) -> AsyncIterator[AsyncIterator[_M]]:
        """One request, empty unless given, and a stream of answers."""
        path, raw = f"/SpiffeWorkloadAPI/{method}", b"" if request is None else request.encode()
        async with _grpc.server_stream(self.connect, path, raw, metadata=metadata, timeout_first=10.0) as messages:
            yield _Decoded(messages, answer)

    async def first(
        self,
        method: str,
        answer: type[_M],
        *,
        request: Message | None = None,
        metadata: tuple[tuple[str, str], ...] = HEADER,
    ) -> _M:
        """The first message of a stream."""
        async with self.watch(method, answer, request=request, metadata=metadata) as messages:
            return await anext(messages)
