"""What happened, as frozen events with stable names, told to whoever asked to be told."""

from spiffe_client.audit._events import Event, EventSink, log_event, safe_sink

__all__ = ["Event", "EventSink", "log_event", "safe_sink"]
