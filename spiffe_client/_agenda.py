"""What is to be done when: one heap and one waiting task for any number of appointments."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import anyio

from spiffe_client._clock import Clock

__all__ = ["Agenda"]

_K = TypeVar("_K", bound=Hashable)

#: Moved and dropped appointments that the heap may hold before it is rebuilt without them.
_SLACK = 64


class Agenda(Generic[_K]):
    """Calls back for each key at its time.

    Args:
        clock: Its `monotonic` gives the scale of all times here, in seconds.
        due: Called on the event loop with a key whose time has come; it does not block.
    """

    def __init__(self, clock: Clock, due: Callable[[_K], None]) -> None:
        self._clock = clock
        self._due = due
        self._heap: list[tuple[float, int, _K]] = []
        self._valid: dict[_K, int] = {}
        self._serial = 0
        self._nap: anyio.CancelScope | None = None

    def __len__(self) -> int:
        return len(self._valid)

    def put(self, key: _K, at: float) -> None:
        """Set the one time of this key, in place of an earlier one."""
        self._serial += 1
        self._valid[key] = self._serial
        heapq.heappush(self._heap, (at, self._serial, key))
        if len(self._heap) > 2 * len(self._valid) + _SLACK:
            self._heap = [item for item in self._heap if self._valid.get(item[2]) == item[1]]
            heapq.heapify(self._heap)
        if self._nap is not None and self._heap[0][1] == self._serial:
            self._nap.cancel()

    def drop(self, key: _K) -> None:
        """Forget this key; it need not be there."""
        self._valid.pop(key, None)

    async def run(self) -> None:
        """Call back until cancelled."""
        while True:
            while self._heap and self._heap[0][0] <= self._clock.monotonic():
                _, serial, key = heapq.heappop(self._heap)
                if self._valid.get(key) == serial:
                    del self._valid[key]
                    self._due(key)
            with anyio.CancelScope() as self._nap:
                if self._heap:
                    await self._clock.sleep(max(0.0, self._heap[0][0] - self._clock.monotonic()))
                else:
                    await anyio.sleep_forever()
