"""How far the open streams have come in telling their clients of changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from spiffe_client._latest import Latest

__all__ = ["Streams"]

#: Seconds that a client which does not read can hold up who waits for all.
_PATIENCE = 1.0


class Streams:
    """Counts, for each open stream, up to which change its client was told."""

    def __init__(self) -> None:
        self._told: dict[object, int] = {}
        self._progress: Latest[None] = Latest(None)

    @contextmanager
    def open(self) -> Iterator[Callable[[int], None]]:
        """Keep count of one stream until it ends.

        Yields:
            What to call with the version of the change that the client was told of.
        """
        stream = object()

        def told(version: int) -> None:
            self._told[stream] = version
            self._progress.set(None)

        try:
            yield told
        finally:
            self._told.pop(stream, None)
            self._progress.set(None)

    async def wait_told(self, version: int) -> None:
        """Wait until every open stream has told its client of this change and all before it.

        A client that takes no messages holds this up for a second at most.
        """
        with anyio.move_on_after(_PATIENCE):
            while any(told < version for told in self._told.values()):
                await self._progress.wait_newer(self._progress.version)
