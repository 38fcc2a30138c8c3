"""Events and the sinks that take them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

__all__ = ["Event", "EventSink", "log_event", "safe_sink"]

_log = logging.getLogger("spiffe_client")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an identity or a channel.

    Attributes:
        name: Stable, dotted. Of identities `svid.updated`, `svid.refused`, `svid.redacted`,
            `svid.withdrawn`, `svid.expired`; of bundles alone `bundle.updated`, `bundle.refused`,
            `bundle.redacted`, `bundle.withdrawn`, `bundle.expired`; of what follows either
            `source.unavailable`, `source.recovered`, `source.listener_failed`, `source.crashed`;
            of channels `peer.refused`, `connection.retired`, `connection.drain_crashed`.
        message: The same for people, without secrets.
        attributes: Public facts: IDs, serials, expiries, error codes. Never keys or tokens.
        level: As in `logging`.
    """

    name: str
    message: str
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=lambda: MappingProxyType({}))
    level: int = logging.INFO


#: Takes an event at once, on the thread it happened on; neither blocks nor raises.
EventSink: TypeAlias = Callable[[Event], None]


def log_event(event: Event) -> None:
    """Write an event to the logger `spiffe_client`: the sink used where none is given."""
    _log.log(event.level, "%s: %s", event.name, event.message, extra={"spiffe": dict(event.attributes)})


def safe_sink(sink: EventSink | None) -> EventSink:
    """Return a sink whose failures are logged and never reach the code that reports.

    Args:
        sink: A user's sink, or None for `log_event`.
    """
    if sink is None:
        return log_event

    def guarded(event: Event) -> None:
        try:
            sink(event)
        except Exception:  # noqa: BLE001 - the border to user code: reporting never breaks what it reports
            _log.exception("the event sink failed on %s", event.name)

    return guarded
