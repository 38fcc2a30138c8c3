"""Spans where OpenTelemetry is: around what takes its time, with names and without contents."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.support.agent_world import AgentWorld

from spiffe_client.agents import _spans
from spiffe_client.policy import Decision, Question

pytestmark = pytest.mark.anyio

READ = "invoices:read"
INVOICE = "tenants/acme/invoices/7"


class Yes:
    async def decide(self, question: Question) -> Decision:
        return Decision(allowed=True, reason="allowed")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


async def test_a_call(spans: InMemorySpanExporter, anyio_backend: str) -> None:
    """With what is asked for it before, and by the names that agents' tools have."""
    async with AgentWorld(deciders=[Yes()]).running() as world:
        async with world.host.task("x", [READ], tenant="acme") as task:
            async with task.call(READ, INVOICE) as call:
                pass
            with pytest.raises(KeyError):
                async with task.call(READ, INVOICE):
                    raise KeyError("secret")
    decide, made, _, failed = spans.get_finished_spans()
    assert ("decide", f"execute_tool {READ}") == (decide.name, made.name)
    assert {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": READ,
        "gen_ai.tool.call.id": call.id,
        "spiffe.task": task.id,
    }.items() <= dict(made.attributes or {}).items()
    assert ("KeyError", False) == ((failed.attributes or {})["error.type"], failed.status.is_ok)
    assert "secret" not in failed.to_json()


@pytest.mark.parametrize("half", [False, True], ids=["not imported", "half imported"])
async def test_without_opentelemetry(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is missing, also while another thread is about to import it."""
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    if half:
        monkeypatch.setitem(sys.modules, "opentelemetry.trace", ModuleType("opentelemetry.trace"))
    async with AgentWorld(deciders=[Yes()]).running() as world:
        async with world.host.task("x", [READ], tenant="acme") as task:
            async with task.call(READ, INVOICE):
                pass
    assert ["ok"] == [facts["outcome"] for facts in world.told("call.finished")]


@pytest.mark.parametrize("named", ["sdk_tracer_provider", ""])
def test_a_provider_that_the_environment_names(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes spans although nobody imports OpenTelemetry; where none is named, nothing is imported."""
    trace = sys.modules["opentelemetry.trace"]
    monkeypatch.setenv("OTEL_PYTHON_TRACER_PROVIDER", named)
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    monkeypatch.setattr(_spans, "import_module", lambda name: sys.modules.update({name: trace}))
    _spans._awake()
    assert bool(named) is ("opentelemetry.trace" in sys.modules)
