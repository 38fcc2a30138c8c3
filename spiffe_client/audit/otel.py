"""Events as OpenTelemetry metrics and span events; needs the extra `otel`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spiffe_client.audit._events import Event, EventSink

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

__all__ = ["otel_sink"]

# Only facts with few values may become metric attributes: an ID per peer would be a series per peer.
_METRIC_ATTRIBUTES = ("code", "role", "state")


def otel_sink(meter_provider: MeterProvider | None = None) -> EventSink:
    """Make a sink that counts events and writes them into the span that is current.

    The counter is `spiffe.client.events` with the attribute `event.name`, and `code`, `role`,
    `state` where the event has them. Pass it as `on_event=`.

    Args:
        meter_provider: Where to count; None takes the global provider of OpenTelemetry.

    Raises:
        ImportError: `opentelemetry-api` is not installed; install `spiffe-client[otel]`.
    """
    from opentelemetry import metrics, trace

    provider = meter_provider or metrics.get_meter_provider()
    counter = provider.get_meter("spiffe_client").create_counter(
        "spiffe.client.events", unit="{event}", description="What happened to identities and channels."
    )

    def sink(event: Event) -> None:
        few = {k: event.attributes[k] for k in _METRIC_ATTRIBUTES if k in event.attributes}
        counter.add(1, {"event.name": event.name, **few})
        trace.get_current_span().add_event(event.name, dict(event.attributes))

    return sink
