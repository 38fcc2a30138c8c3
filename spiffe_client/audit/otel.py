"""Events as OpenTelemetry metrics and span events; needs the extra `otel`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.audit import _genai as genai
from spiffe_client.audit._events import Event, EventSink
from spiffe_client.audit._facts import ACTION, ALLOW, DECISION, DENY, DURATION_MS, EXPIRES_AT, OUTCOME, REASON

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

__all__ = ["CacheCounts", "observe_caches", "otel_sink"]

# Only facts with few values may become metric attributes: an ID per peer would be a series per peer.
_METRIC_ATTRIBUTES = ("code", "role", "state")
_Few = dict[str, str | int | float | bool]


def otel_sink(meter_provider: MeterProvider | None = None, *, clock: Clock = SYSTEM_CLOCK) -> EventSink:
    """Make a sink that counts events and writes them into the span that is current.

    The counter is `spiffe.client.events` with the attribute `event.name`, and `code`, `role`,
    `state` where the event has them; what is counted beside it is in `docs/audit.md`. Pass it as
    `on_event=`, alone or with others by `fan_out`.

    Args:
        meter_provider: Where to count; None takes the global provider of OpenTelemetry.
        clock: What says now, from which lifetimes are counted.

    Raises:
        ImportError: `opentelemetry-api` is not installed; install `spiffe-client[otel]`.
    """
    from opentelemetry import metrics, trace

    meter = (meter_provider or metrics.get_meter_provider()).get_meter("spiffe_client")
    counter = meter.create_counter(
        "spiffe.client.events",
        unit="{event}",
        description="What happened to identities, channels and agents.",
    )
    meters = _meters(meter, clock)

    def sink(event: Event) -> None:
        few = {k: event.attributes[k] for k in _METRIC_ATTRIBUTES if k in event.attributes}
        counter.add(1, {"event.name": event.name, **few})
        if (measure := meters.get(event.name)) is not None:
            measure(event.attributes)
        trace.get_current_span().add_event(event.name, dict(event.attributes))

    return sink


class CacheCounts(Protocol):
    """How often a cache knew, such as `CachedDecisions` and `TokenBroker.health` say."""

    @property
    def hits(self) -> int:
        """How often it knew."""
        ...

    @property
    def misses(self) -> int:
        """How often it did not."""
        ...


def observe_caches(
    caches: Mapping[str, Callable[[], CacheCounts]], meter_provider: MeterProvider | None = None
) -> None:
    """Have hits and misses of caches counted: `spiffe.client.cache.hits` and `.misses`; once in a process.

    They are read when metrics are, as nothing is told at a hit.

    Args:
        caches: What gives the counts, by what becomes the attribute `cache`: `{"token": lambda:
            me.tokens.health, "decision": lambda: remembered}`.
        meter_provider: Where to count; None takes the global provider of OpenTelemetry.

    Raises:
        ImportError: `opentelemetry-api` is not installed; install `spiffe-client[otel]`.
    """
    from opentelemetry import metrics

    meter = (meter_provider or metrics.get_meter_provider()).get_meter("spiffe_client")
    for name, words in (("hits", "Answers from memory."), ("misses", "What had to be asked for.")):
        read = partial(_counted, caches, name)
        meter.create_observable_counter(
            f"spiffe.client.cache.{name}", [read], unit="{lookup}", description=words
        )


def _counted(
    caches: Mapping[str, Callable[[], CacheCounts]], name: str, _: CallbackOptions
) -> Iterator[Observation]:
    from opentelemetry.metrics import Observation

    for cache, counts in caches.items():
        yield Observation(getattr(counts(), name), {"cache": cache})


_Measure = Callable[[Mapping[str, str | int | float | bool]], None]


def _meters(meter: Meter, clock: Clock) -> dict[str, _Measure]:
    """Return what is measured at each event, by its name."""
    calls = _call_meters(meter)
    tasks = meter.create_up_down_counter("spiffe.client.tasks", unit="{task}", description="Tasks alive.")
    exceptions = meter.create_counter(
        "spiffe.client.exceptions", unit="{approval}", description="Exceptions to policy: approvals granted."
    )
    rotations = meter.create_counter(
        "spiffe.client.rotations", unit="{rotation}", description="X509-SVIDs taken into use."
    )
    exchanges = meter.create_counter(
        "spiffe.client.exchanges", unit="{exchange}", description="Tokens that a token broker issued."
    )
    svids = _lifetimes(meter, "spiffe.client.svid.lifetime", "How long new X509-SVIDs last.", clock)
    tokens = _lifetimes(meter, "spiffe.client.token.lifetime", "How long new tokens last.", clock)

    def rotated(facts: Mapping[str, object]) -> None:
        rotations.add(1)
        svids(facts)

    def exchanged(*, refreshed: bool) -> _Measure:
        def measure(facts: Mapping[str, object]) -> None:
            exchanges.add(1, {"refreshed": refreshed})
            tokens(facts)

        return measure

    return {
        "call.finished": calls,
        "call.denied": calls,
        "task.started": lambda _: tasks.add(1),
        "task.ended": lambda _: tasks.add(-1),
        "approval.granted": lambda facts: exceptions.add(1, _few(facts, ACTION)),
        "svid.updated": rotated,
        "token.issued": exchanged(refreshed=False),
        "token.refreshed": exchanged(refreshed=True),
    }


def _call_meters(meter: Meter) -> _Measure:
    calls = meter.create_counter("spiffe.client.calls", unit="{call}", description="Guarded calls asked for.")
    denials = meter.create_counter("spiffe.client.denials", unit="{call}", description="Calls denied.")
    durations = meter.create_histogram(
        genai.TOOL_DURATION, unit="s", description="How long tools took that were let run."
    )

    def measure(facts: Mapping[str, str | int | float | bool]) -> None:
        calls.add(1, _few(facts, DECISION, REASON, OUTCOME))
        if facts.get(DECISION) == DENY:
            denials.add(1, _few(facts, REASON))
        took = facts.get(DURATION_MS)
        if isinstance(took, int | float) and facts.get(DECISION) == ALLOW:  # or no tool ran
            about: _Few = {genai.OPERATION_NAME: genai.EXECUTE_TOOL, genai.TOOL_NAME: facts.get(ACTION, "")}
            failed = facts.get(OUTCOME, "ok")
            durations.record(took / 1000, about if failed == "ok" else {**about, genai.ERROR_TYPE: failed})

    return measure


def _lifetimes(
    meter: Meter, name: str, description: str, clock: Clock
) -> Callable[[Mapping[str, object]], None]:
    histogram = meter.create_histogram(name, unit="s", description=description)

    def measure(facts: Mapping[str, object]) -> None:
        try:
            expires = datetime.fromisoformat(str(facts[EXPIRES_AT]))
            left = (expires - clock.now()).total_seconds()
        except (KeyError, ValueError, TypeError):  # not said, or not in this form
            return
        histogram.record(max(0.0, left))

    return measure


def _few(facts: Mapping[str, str | int | float | bool], *keys: str) -> _Few:
    return {key: facts[key] for key in keys if key in facts}
