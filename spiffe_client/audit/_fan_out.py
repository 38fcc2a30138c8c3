"""Several sinks as one, and the question before a call whether it can be recorded."""

from __future__ import annotations

import logging

from spiffe_client.audit._events import Event, EventSink, safe_sink
from spiffe_client.errors import AuditError

__all__ = ["fan_out", "require_ready"]


class _FanOut:
    """See `fan_out`."""

    __slots__ = ("_sinks",)

    def __init__(self, sinks: tuple[EventSink, ...]) -> None:
        self._sinks = tuple(safe_sink(sink) for sink in sinks)

    def __call__(self, event: Event) -> None:
        for sink in self._sinks:
            sink(event)

    @property
    def ready(self) -> bool:
        """Whether each sink is that cares."""
        return all(map(_ready, self._sinks))


def fan_out(*sinks: EventSink) -> EventSink:
    """Make one sink of several: each gets every event, in this order, also when one before it fails.

    It is `ready` when all of them are.

    Args:
        sinks: At least one.

    Raises:
        ValueError: There is none: events that nobody takes are never meant.
    """
    if not sinks:
        raise ValueError("fan_out() needs at least one sink")
    return _FanOut(sinks)


def _ready(sink: EventSink) -> bool:
    # A sink without the attribute, such as a logger, has no opinion.
    return bool(getattr(sink, "ready", True))


def require_ready(sink: EventSink) -> None:
    """Return if what happens now can be recorded; asked before a guarded call begins.

    Args:
        sink: With an attribute `ready` if it cares, as `JsonlSink`; `safe_sink` around it does no
            harm.

    Raises:
        AuditError: It cannot, and the sink's owner wants no call that nobody records.
    """
    if not _ready(sink):
        logging.getLogger("spiffe_client").error("a call is refused: the audit trail cannot be written")
        raise AuditError("the call cannot be recorded, so it is not made: see the audit trail's health")
