"""Events reach a real OpenTelemetry SDK as counters and span events."""

from __future__ import annotations

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from spiffe_client.audit import Event
from spiffe_client.audit.otel import otel_sink

REFUSED = Event("peer.refused", "no", {"peer": "spiffe://a.test/x", "code": "peer_not_allowed", "role": "server"})


def test_events_are_counted_with_few_attributes() -> None:
    """The peer's ID is on the span and not a metric series of its own."""
    reader = InMemoryMetricReader()
    metrics = MeterProvider(metric_readers=[reader])
    spans = InMemorySpanExporter()
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(spans))
    sink = otel_sink(metrics)

    with traces.get_tracer("t").start_as_current_span("call"):
        sink(REFUSED)
        sink(REFUSED)

    data = reader.get_metrics_data()
    assert data is not None
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert 2 == point.value  # type: ignore[union-attr]
    assert {"event.name": "peer.refused", "code": "peer_not_allowed", "role": "server"} == dict(point.attributes or {})
    (span,) = spans.get_finished_spans()
    assert ["peer.refused", "peer.refused"] == [e.name for e in span.events]
    assert "spiffe://a.test/x" == dict(span.events[0].attributes or {})["peer"]
    metrics.shutdown()
    traces.shutdown()


def test_without_a_provider_it_uses_the_global_one() -> None:
    """An application that has set up OpenTelemetry passes nothing."""
    otel_sink()(REFUSED)
