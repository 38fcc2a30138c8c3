"""What happened, as frozen events with stable names, told to whoever asked to be told.

Sinks take events: `log_event`, `MemorySink`, `JsonlSink` (an audit trail: hash-chained, signed),
several by `fan_out`, those of `audit.otel`, or any callable. `verify_trail` says whether a trail
is as it was written; `read_trail` reads it.
"""

from __future__ import annotations

from spiffe_client._lazy import load_name
from spiffe_client.audit._events import Event, EventSink, log_event, safe_sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spiffe_client.audit._fan_out import fan_out, require_ready
    from spiffe_client.audit._html import render_report
    from spiffe_client.audit._jsonl import JsonlSink, TrailHealth
    from spiffe_client.audit._memory import MemorySink
    from spiffe_client.audit._reading import read_trail
    from spiffe_client.audit._record import Record
    from spiffe_client.audit._verify import TrailReport, verify_trail
    from spiffe_client.audit.ocsf import to_ocsf

__all__ = [
    "Event",
    "EventSink",
    "JsonlSink",
    "MemorySink",
    "Record",
    "TrailHealth",
    "TrailReport",
    "fan_out",
    "log_event",
    "read_trail",
    "render_report",
    "require_ready",
    "safe_sink",
    "to_ocsf",
    "verify_trail",
]

# Not on the way to the first X509-SVID: loaded when they are used.
_HOMES = {
    "JsonlSink": "spiffe_client.audit._jsonl",
    "MemorySink": "spiffe_client.audit._memory",
    "Record": "spiffe_client.audit._record",
    "TrailHealth": "spiffe_client.audit._jsonl",
    "TrailReport": "spiffe_client.audit._verify",
    "fan_out": "spiffe_client.audit._fan_out",
    "read_trail": "spiffe_client.audit._reading",
    "render_report": "spiffe_client.audit._html",
    "require_ready": "spiffe_client.audit._fan_out",
    "to_ocsf": "spiffe_client.audit.ocsf",
    "verify_trail": "spiffe_client.audit._verify",
}


def __getattr__(name: str) -> object:
    return load_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
