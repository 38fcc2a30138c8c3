"""Whether a window is open at a moment, by the clocks of its place."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from spiffe_client.policy._contract_parts import Window

__all__ = ["OpenHours"]

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _minutes(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


class OpenHours:
    """A window, ready to be asked.

    One that ends on the next day (`from = "22:00", until = "06:00"`) belongs to the day on which it begins.
    """

    __slots__ = ("_place", "_spans", "zone")

    def __init__(self, window: Window) -> None:
        from zoneinfo import ZoneInfo

        self.zone: str = window.zone
        self._place = ZoneInfo(window.zone)
        start, until = _minutes(window.start), _minutes(window.until)
        spans: dict[int, list[tuple[int, int]]] = {}
        for day in map(_DAYS.index, window.days):
            if start < until:
                spans.setdefault(day, []).append((start, until))
            else:
                spans.setdefault(day, []).append((start, 24 * 60))
                spans.setdefault((day + 1) % 7, []).append((0, until))
        self._spans = {day: tuple(each) for day, each in spans.items()}

    def open_at(self, moment: datetime) -> bool:
        """Say whether it is open.

        Args:
            moment: Aware.
        """
        there = moment.astimezone(self._place)
        minute = there.hour * 60 + there.minute
        for start, until in self._spans.get(there.weekday(), ()):  # noqa: SIM110 - any() is twice as slow
            if start <= minute < until:
                return True
        return False

    def minutes(self) -> frozenset[int]:
        """Return the minutes of a week in which it is open, counted from Monday's first."""
        return frozenset(
            day * 24 * 60 + minute
            for day, spans in self._spans.items()
            for start, until in spans
            for minute in range(start, until)
        )
