"""Events in memory, for tests and for a look at what happened last."""

from __future__ import annotations

from collections import deque

from spiffe_client.audit._events import Event

__all__ = ["MemorySink"]


class MemorySink:
    """Keeps the newest events.

    Args:
        capacity: How many; older ones make room and are counted.

    Raises:
        ValueError: `capacity` is not positive.
    """

    __slots__ = ("_events", "_taken")

    def __init__(self, capacity: int = 10_000) -> None:
        if capacity < 1:
            raise ValueError(f"capacity={capacity}: there must be room for an event")
        self._events: deque[Event] = deque(maxlen=capacity)
        self._taken = 0

    def __call__(self, event: Event) -> None:
        """Take an event."""
        self._taken += 1
        self._events.append(event)

    @property
    def events(self) -> tuple[Event, ...]:
        """What there is, the oldest first."""
        return tuple(self._events)

    @property
    def names(self) -> tuple[str, ...]:
        """The events' names, the oldest first."""
        return tuple(event.name for event in self.events)

    @property
    def dropped(self) -> int:
        """How many made room for newer ones."""
        return max(0, self._taken - len(self._events))

    def clear(self) -> None:
        """Forget all, also the count."""
        self._events.clear()
        self._taken = 0
