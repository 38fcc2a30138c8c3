"""Events and the sinks that take them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Final, TypeAlias

from spiffe_client._values import dataclass

__all__ = ["Event", "EventSink", "log_event", "safe_sink"]

_log = logging.getLogger("spiffe_client")
_NO_FACTS: Final[Mapping[str, str | int | float | bool]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an identity, a channel or a token.

    Attributes:
        name: Stable, dotted. Of identities `svid.updated`, `svid.refused`, `svid.redacted`,
            `svid.withdrawn`, `svid.expired`; of bundles alone `bundle.updated`, `bundle.refused`,
            `bundle.redacted`, `bundle.withdrawn`, `bundle.expired`; of what follows either
            `source.unavailable`, `source.recovered`, `source.listener_failed`, `source.crashed`;
            of channels `peer.refused`, `connection.retired`, `connection.drain_crashed`; of tokens
            `token.issued`, `token.refreshed`, `token.refresh_failed`, `token.denied`, `token.purged`,
            `token.revoked`; of a token broker `broker.unavailable`, `broker.recovered`,
            `broker.crashed`; of its security events `security_event.received`,
            `security_event.refused`, `security_event.verified`, `security_event.unavailable`,
            `security_event.recovered`; and `workload.stopped`. Of agents `task.started`, `task.refused`,
            `task.ended`, `call.finished`, `call.denied`, `delegation.granted`, `delegation.refused`, `delegation.redeemed`,
            `refusals.untold`, `credential.withheld`, `approval.granted`, `approval.refused`, `approval.ignored`, `contract.loaded`,
            `anomaly.workflow`, `anomaly.rate`, `anomaly.first_use`, `anomaly.cross_tenant`. Names that begin with
            `trail.` are an audit trail's own.
        message: The same for people, without secrets.
        attributes: Public facts: IDs, serials, expiries, error codes. Never keys or tokens. Where
            agents act, by the keys in `docs/audit.md`: `task`, `action`, `decision`, `reason` and
            so on.
        level: As in `logging`.
    """

    name: str
    message: str
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=lambda: _NO_FACTS)
    level: int = logging.INFO

    # There is one for each call of an agent, and its slots are set at a third less than by `object.__setattr__`.
    def __init__(
        self,
        name: str,
        message: str,
        attributes: Mapping[str, str | int | float | bool] = _NO_FACTS,
        level: int = logging.INFO,
    ) -> None:
        _set_name(self, name)
        _set_message(self, message)
        _set_attributes(self, attributes)
        _set_level(self, level)


_set_name, _set_message, _set_attributes, _set_level = (
    vars(Event)[name].__set__ for name in ("name", "message", "attributes", "level")
)


#: Takes an event at once, on the thread it happened on; neither blocks nor raises.
EventSink: TypeAlias = Callable[[Event], None]


def log_event(event: Event) -> None:
    """Write an event to the logger `spiffe_client`: the sink used where none is given."""
    _log.log(event.level, "%s: %s", event.name, event.message, extra={"spiffe": dict(event.attributes)})


class _SafeSink:
    """See `safe_sink`."""

    __slots__ = ("_sink",)

    def __init__(self, sink: EventSink) -> None:
        self._sink = sink

    def __call__(self, event: Event) -> None:
        try:
            self._sink(event)
        except Exception:  # noqa: BLE001 - the border to user code: reporting never breaks what it reports
            _log.exception("the event sink failed on %s", event.name)

    @property
    def ready(self) -> bool:
        """Whether the sink is, if it cares; so that who asks need not know how it is wrapped."""
        return bool(getattr(self._sink, "ready", True))


def safe_sink(sink: EventSink | None) -> EventSink:
    """Return a sink whose failures are logged and never reach the code that reports.

    Args:
        sink: A user's sink, or None for `log_event`. If it has an attribute `ready`, so has what is
            returned.
    """
    return log_event if sink is None else _SafeSink(sink)
