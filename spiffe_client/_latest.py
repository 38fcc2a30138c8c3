"""The latest value of something that changes, read without waiting and awaited when it changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Generic, TypeVar

import anyio

__all__ = ["Latest"]

_T = TypeVar("_T")


class Latest(Generic[_T]):
    """One reference, replaced whole, with a version that counts the replacements.

    Reading is one attribute load and safe from any thread. Setting, closing and waiting belong to
    the event loop. A slow reader misses intermediate values and always gets the newest: nothing
    queues up, and there are no subscribers to forget.
    """

    __slots__ = ("_changed", "_closed", "value", "version")

    def __init__(self, value: _T) -> None:
        self.value: _T = value
        self.version: int = 0
        self._closed = False
        self._changed: anyio.Event | None = None

    def set(self, value: _T) -> None:
        """Replace the value and wake all who wait."""
        self.value = value
        self.version += 1
        self._wake()

    def close(self) -> None:
        """Wake all who wait, for good."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def wait_newer(self, version: int) -> bool:
        """Wait until the version differs from `version`; False if it was closed instead."""
        while self.version == version:
            if self._closed:
                return False
            if self._changed is None:
                self._changed = anyio.Event()
            await self._changed.wait()
        return True

    async def changes(self) -> AsyncIterator[_T]:
        """Yield each newest value set from now on, until closed."""
        seen = self.version
        while await self.wait_newer(seen):
            seen = self.version
            yield self.value
