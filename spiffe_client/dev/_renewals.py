"""What was issued, kept until half of its life is over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Generic, TypeVar

from spiffe_client._clock import Clock
from spiffe_client.dev._registration import Registration

__all__ = ["Renewals"]

_T = TypeVar("_T")


class Renewals(Generic[_T]):
    """One document for each registration, made anew when it is asked for in its second half.

    Nobody has to ask: what nobody asks for is not renewed.

    Args:
        issue: Makes a document and says when it expires.
        clock: What says now.
    """

    def __init__(self, issue: Callable[[Registration], tuple[_T, datetime]], clock: Clock) -> None:
        self._issue = issue
        self._clock = clock
        self._held: dict[Registration, tuple[_T, datetime]] = {}

    def current(self, entry: Registration) -> _T:
        """Return the current document of a registration, a new one if it is time."""
        now = self._clock.now()
        held = self._held.get(entry)
        if held is None or now >= held[1]:
            document, expires_at = self._issue(entry)
            held = self._held[entry] = document, now + (expires_at - now) / 2
        return held[0]

    def due(self, entries: Iterable[Registration]) -> datetime | None:
        """Return when the first document of these registrations is to be renewed, if there is one."""
        return min((self._held[e][1] for e in entries if e in self._held), default=None)

    def keep_only(self, entries: Collection[Registration]) -> None:
        """Forget the documents of all other registrations."""
        self._held = {e: held for e, held in self._held.items() if e in entries}
