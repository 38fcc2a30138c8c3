"""What all sources have in common: opening, closing, and complaining when forgotten."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Self

from spiffe_client._async_only import async_only
from spiffe_client.sources._lifetime import Lifetime

__all__ = ["Source"]


class Source:
    """An async context manager over a lifetime."""

    def __init__(self, lifetime: Lifetime) -> None:
        self._lifetime = lifetime

    async def open(self) -> Self:
        """Start, and wait for the first update; for where `async with` does not fit.

        If that fails or is cancelled, the source is closed.

        Raises:
            FirstUpdateTimeoutError: None came in time; the message and `__cause__` say why.
            EndpointError: The Workload API's address is missing or malformed.
            InvalidRequestError: The Workload API calls the request malformed.
            UnimplementedError: The Workload API does not offer this.
            SourceClosedError: It was closed before, or opened by the process this one was forked from.
        """
        await self._lifetime.open()
        return self

    def start(self) -> None:
        """Start without waiting, for a service that has to be up before its identity is.

        Until the first update reads raise SourceError. Idempotent; needs a running event loop.

        Raises:
            SourceClosedError: It was closed before, or opened by the process this one was forked from.
        """
        self._lifetime.start()

    def refuse_unopened(self) -> None:
        """Return if it was opened or started in this process, and not closed since.

        Raises:
            SourceClosedError: It is not open.
        """
        self._lifetime.refuse_unopened()

    async def wait_first_update(self) -> None:
        """Wait until there is something to read; raises as `open`, and closes nothing."""
        await self._lifetime.wait_first_update()

    def stop(self, reason: str) -> None:
        """Drop all that is held, at once and for good: a kill switch.

        When it returns, reads raise `StoppedError`, no TLS handshake begins and no byte flows on
        connections made from it. Idempotent, from any thread, also in a signal handler, also before
        opening; `aclose` is still for whoever opened it, to wait for the background task.

        Args:
            reason: Why, for errors and for the event `workload.stopped`.
        """
        self._lifetime.stop(reason)

    async def aclose(self) -> None:
        """Stop; reads raise from now on. Idempotent, prompt, from any task."""
        await self._lifetime.aclose()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    if not TYPE_CHECKING:
        __enter__ = __exit__ = async_only

    def __del__(self) -> None:
        lifetime = getattr(self, "_lifetime", None)  # absent if the constructor raised
        if lifetime is not None and lifetime.unclosed:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
