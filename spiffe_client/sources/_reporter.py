"""What a source tells about itself: each trouble once aloud, its repetitions under the breath."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType

from spiffe_client.audit import Event, EventSink
from spiffe_client.errors import SpiffeError

__all__ = ["Reporter"]

#: More kinds of trouble than this at a time are a flood, and go on at debug level.
_MOST = 16

_NONE: Mapping[str, str | int] = MappingProxyType({})


class Reporter:
    """Makes events for one source.

    Args:
        what: What the source holds: `the X.509 identity`.
        sink: Takes the events.
    """

    def __init__(self, what: str, sink: EventSink) -> None:
        self._what = what
        self._sink = sink
        self._told: set[str] = set()

    def tell(
        self, name: str, message: str, facts: Mapping[str, str | int] = _NONE, *, level: int = logging.INFO
    ) -> None:
        """Emit an event, with facts about it for programs."""
        self._sink(Event(name, message, {"what": self._what, **facts}, level))

    def trouble(self, name: str, message: str, error: SpiffeError) -> None:
        """Emit an event about an error: a warning, or debug if it was told since all was well.

        Args:
            name: Of the event.
            message: What that means here; the error's own message is appended.
            error: What happened.
        """
        text = f"{message}: {error}"
        again = text in self._told or len(self._told) >= _MOST
        if not again:
            self._told.add(text)
        self.tell(name, text, {"error": error.code}, level=logging.DEBUG if again else logging.WARNING)

    def well(self) -> None:
        """Note that all is well again, and say so if there was trouble."""
        if self._told:
            self._told.clear()
            self.tell("source.recovered", f"{self._what}: all is well again")
