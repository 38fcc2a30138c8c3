"""Events for others: OpenTelemetry metrics by a real SDK, and OCSF."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from spiffe_client.audit import Event, read_trail, to_ocsf
from spiffe_client.audit import _genai as genai
from spiffe_client.audit.otel import observe_caches, otel_sink
from tests.support.audit_scene import CLOSER, call, denied
from tests.support.audit_trails import write_trail
from tests.support.manual_clock import ManualClock

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def measured(*events: Event, clock: ManualClock | None = None) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    """By instrument, what a reader gets: attributes, and the value or a histogram's sum."""
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    sink = otel_sink(provider, clock=clock or ManualClock(AT))
    for event in events:
        sink(event)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    return {
        metric.name: [(dict(p.attributes or {}), getattr(p, "value", getattr(p, "sum", None))) for p in metric.data.data_points]
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }


class TestMetrics:
    def test_calls(self) -> None:
        """By decision and reason; only those that ran have a duration, in seconds."""
        found = measured(call(), call(), call(outcome="error"), denied(), denied(reason="rate"))
        allow = {"decision": "allow", "reason": "allowed"}
        deny = {"decision": "deny", "outcome": "denied"}
        assert [
            ({**allow, "outcome": "ok"}, 2), ({**allow, "outcome": "error"}, 1),
            ({**deny, "reason": "tenant_boundary"}, 1), ({**deny, "reason": "rate"}, 1),
        ] == found["spiffe.client.calls"]  # fmt: skip
        assert [({"reason": "tenant_boundary"}, 1), ({"reason": "rate"}, 1)] == found["spiffe.client.denials"]
        tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "invoices:read"}
        assert [(tool, 0.025), ({**tool, "error.type": "error"}, 0.0125)] == found["gen_ai.execute_tool.duration"]

    def test_calls_that_were_given_up(self) -> None:
        """Are counted, and have no duration: no tool ran."""
        given_up = Event("call.finished", "m", {"action": "invoices:read", "outcome": "cancelled", "duration_ms": 9.0})
        found = measured(given_up)
        assert [({"outcome": "cancelled"}, 1)] == found["spiffe.client.calls"]
        assert "gen_ai.execute_tool.duration" not in found

    def test_resources_are_no_series(self) -> None:
        """What has many values is not an attribute of a metric."""
        found = measured(*(call(f"t{n}", f"r/{n}", call=f"c{n}") for n in range(50)))
        assert {1} == {len(points) for points in found.values()}

    def test_tasks_alive(self) -> None:
        """Up and down."""
        start, end = Event("task.started", "m"), Event("task.ended", "m")
        assert [({}, 1)] == measured(start, start, end)["spiffe.client.tasks"]

    def test_credentials(self) -> None:
        """Rotations and exchanges, and how long what came lasts; where that is not said, nothing is made up."""
        expires = {"expires_at": (AT + timedelta(seconds=300)).isoformat()}
        found = measured(
            Event("svid.updated", "m", expires), Event("svid.updated", "m", {}), Event("svid.updated", "m", {"expires_at": "x"}),
            Event("token.issued", "m", expires), Event("token.refreshed", "m", {"expires_at": "2026-01-01T00:00:00"}),
        )  # fmt: skip
        assert [({}, 3)] == found["spiffe.client.rotations"]
        assert [({"refreshed": False}, 1), ({"refreshed": True}, 1)] == found["spiffe.client.exchanges"]
        assert [({}, 300)] == found["spiffe.client.svid.lifetime"] == found["spiffe.client.token.lifetime"]

    def test_caches(self) -> None:
        """Hits and misses by the cache's name, as they are when somebody reads them."""
        reader = InMemoryMetricReader()
        provider = MeterProvider(metric_readers=[reader])
        counts = SimpleNamespace(hits=0, misses=1)
        observe_caches({"token": lambda: counts, "decision": lambda: SimpleNamespace(hits=5, misses=6)}, provider)
        counts.hits = 7
        data = reader.get_metrics_data()
        provider.shutdown()
        assert data is not None
        found = {
            (metric.name.rpartition(".")[2], (point.attributes or {})["cache"]): point.value
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            for point in metric.data.data_points
        }
        assert {("hits", "token"): 7, ("misses", "token"): 1, ("hits", "decision"): 5, ("misses", "decision"): 6} == found

    def test_exceptions_to_policy(self) -> None:
        """An approval is one."""
        event = Event("approval.granted", "m", {"action": "orders:refund", "approval": "ap-1"})
        assert [({"action": "orders:refund"}, 1)] == measured(event)["spiffe.client.exceptions"]

    def test_names_of_spans(self) -> None:
        """As the GenAI conventions have them."""
        assert "execute_tool search" == genai.tool_span_name("search")
        assert all(value.startswith(("gen_ai.", "error.", "execute_")) for n in genai.__all__ if isinstance(value := getattr(genai, n), str))


class TestOcsf:
    def test_a_call_of_a_trail(self, tmp_path: Path) -> None:
        """API Activity, with its place in the trail."""
        write_trail(tmp_path / "a", 1)
        event = next(to_ocsf(record) for record in read_trail(tmp_path / "a") if record.event == "call.finished")
        assert (6003, 6, 600399, 99, 1) == tuple(
            event[key] for key in ("class_uid", "category_uid", "type_uid", "activity_id", "status_id")
        )
        assert {"name": "tenants/acme/invoices/0"} == event["resources"][0]  # type: ignore[index]
        assert ("t-books", 1) == (event["metadata"]["correlation_uid"], event["metadata"]["sequence"])  # type: ignore[index]

    def test_a_denial(self) -> None:
        """Denied and blocked, and why."""
        facts = {"tenant": "acme", "audience": "https://a.test", "trace_id": "0a", "call": "c", "policy": "contract", "extra": 1}
        event = to_ocsf(denied(**facts), at=AT)
        assert (2, "Blocked", 2, "tenant_boundary", 3) == tuple(
            event[key] for key in ("action_id", "disposition", "status_id", "status_code", "severity_id")
        )
        assert ({"name": "contract"}, {"uid": "0a"}, 12) == (event["policy"], event["trace"], event["duration"])
        assert {"operation": "invoices:read", "service": {"name": "https://a.test"}} == event["api"]
        assert CLOSER == event["actor"]["user"]["uid"] == event["ai_agent"]["uid"]  # type: ignore[index]
        assert [{"name": "tenants/globex/invoices/1", "namespace": "acme"}] == event["resources"]
        assert {"extra": 1, "outcome": "denied"} == event["unmapped"]
        assert 1772366400000 == event["time"]

    def test_a_credential(self) -> None:
        """Authentication, activity Other with its name: 4 and 5 are Kerberos'."""
        facts = {"issuer": "https://tokens.test", "fingerprint": "ab", "workload": CLOSER}
        event = to_ocsf(Event("token.issued", "m", facts), at=AT)
        assert (3002, 300299, "token.issued", "Success") == tuple(
            event[key] for key in ("class_uid", "type_uid", "activity_name", "status")
        )
        assert ({"name": "https://tokens.test"}, CLOSER) == (event["service"], event["user"]["uid"])  # type: ignore[index]
        assert "service" not in to_ocsf(Event("svid.updated", "m"), at=AT)
        assert "Failure" == to_ocsf(Event("token.denied", "m", {"error": "invalid_scope"}), at=AT)["status"]

    def test_anything_else(self) -> None:
        """A base event, and nothing of it is lost."""
        event = to_ocsf(Event("contract.loaded", "m", {"agent": CLOSER, "audience": "x"}, 50), at=AT)
        assert (0, 99, 5) == (event["class_uid"], event["type_uid"], event["severity_id"])
        assert {"agent": CLOSER, "audience": "x"} == event["unmapped"]

    def test_nobody_named(self) -> None:
        """What must be there is, with what is known."""
        event = to_ocsf(Event("task.started", "m", {}, 40), at=AT)
        assert ("unknown", "unknown", 4) == (event["api"]["operation"], event["src_endpoint"]["uid"], event["severity_id"])  # type: ignore[index]

    def test_without_a_time(self) -> None:
        """Is nothing for a SIEM."""
        with pytest.raises(ValueError, match="at="):
            to_ocsf(call())
