"""Spans of OpenTelemetry around calls, decisions and exchanges, where its API is installed."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from spiffe_client.audit import _genai as names

if TYPE_CHECKING:
    from spiffe_client.agents._call import Call

__all__ = ["CallSpan", "call_span", "spanned"]

_log = logging.getLogger("spiffe_client")


_API: Final = "opentelemetry.trace"
#: Where OpenTelemetry reads which provider to make by itself, once somebody asks for it.
_NAMED: Final = "OTEL_PYTHON_TRACER_PROVIDER"


def _awake() -> None:
    """Import the API where the environment says who makes spans, and nobody else may come to import it."""
    if os.environ.get(_NAMED) and find_spec("opentelemetry") is not None and find_spec(_API) is not None:
        import_module(_API)


_awake()


def _tracer() -> Any:
    """Return a tracer of the global provider; None if there is none that would keep a span."""
    api = sys.modules.get(_API)
    # Nobody has imported it, or another thread is at it: so nobody has given it a provider.
    if api is None or not hasattr(api, "get_tracer_provider"):
        return None
    provider = api.get_tracer_provider()
    return None if isinstance(provider, api.ProxyTracerProvider) else provider.get_tracer("spiffe_client")


class CallSpan:
    """The span that a call is."""

    __slots__ = ("_span", "_token")

    def __init__(self, tracer: Any, call: Call) -> None:
        from opentelemetry import context, trace

        facts = {
            names.OPERATION_NAME: names.EXECUTE_TOOL,
            names.TOOL_NAME: call.action,
            names.TOOL_CALL_ID: call.id,
            names.AGENT_ID: str(call.task.agent),
            "spiffe.task": call.task.id,
        }
        self._span = tracer.start_span(names.tool_span_name(call.action), attributes=facts)
        self._token = context.attach(trace.set_span_in_context(self._span))

    def leave(self) -> None:
        """Have what was current before be current again."""
        from opentelemetry import context

        context.detach(self._token)

    def end(self, outcome: str, error: BaseException | None) -> None:
        """End the span.

        Args:
            outcome: What came of the call.
            error: What it failed with; its type is told and nothing else.
        """
        from opentelemetry.trace import StatusCode

        try:
            if outcome != "ok":
                self._span.set_attribute(names.ERROR_TYPE, outcome if error is None else type(error).__name__)
                self._span.set_status(StatusCode.ERROR)
            self._span.end()
        except Exception:  # noqa: BLE001 - as above
            _log.exception("a span could not end")


def call_span(call: Call) -> CallSpan | None:
    """Begin the span that a call is; None where nobody would keep it."""
    if _API not in sys.modules or (tracer := _tracer()) is None:
        return None
    try:
        return CallSpan(tracer, call)
    except Exception:  # noqa: BLE001 - the border to users' span processors: telling breaks nothing
        _log.exception("a span could not begin")
        return None


@contextmanager
def spanned(name: str, **facts: str) -> Iterator[None]:
    """Make a span of what is done inside; nothing where OpenTelemetry is not installed.

    Args:
        name: What is done.
        facts: Public, of few values.
    """
    tracer = _tracer()
    if tracer is None:
        yield
        return
    with tracer.start_as_current_span(name, attributes=facts, record_exception=False):
        yield
