"""Spans of OpenTelemetry around calls, decisions and exchanges, where its API is installed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from spiffe_client.agents._context import CALL
from spiffe_client.audit import _genai as names

if TYPE_CHECKING:
    from spiffe_client.agents._call import Call

__all__ = ["Inside", "spanned"]

_log = logging.getLogger("spiffe_client")


@lru_cache(maxsize=1)
def _api() -> Any:
    """Return OpenTelemetry's module of traces; None if it is not installed."""
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.trace") is None:
        return None
    from opentelemetry import trace

    return trace


def _tracer() -> Any:
    """Return a tracer of the global provider; None if there is none that would keep a span."""
    api = _api()
    if api is None or isinstance(provider := api.get_tracer_provider(), api.ProxyTracerProvider):
        return None
    return provider.get_tracer("spiffe_client")


class Inside:
    """The inside of a call: what is current there, and the span that it is.

    Args:
        call: Which.
    """

    __slots__ = ("_outer", "_span", "_token")

    def __init__(self, call: Call) -> None:
        self._outer = CALL.get()
        CALL.set(call)
        tracer = _tracer()
        self._span: Any = None
        if tracer is not None:
            try:
                self._enter(tracer, call)
            except Exception:  # noqa: BLE001 - the border to users' span processors: telling breaks nothing
                _log.exception("a span could not begin")

    def _enter(self, tracer: Any, call: Call) -> None:
        from opentelemetry import context, trace

        facts = {
            names.OPERATION_NAME: names.EXECUTE_TOOL,
            names.TOOL_NAME: call.action,
            names.TOOL_CALL_ID: call.id,
            names.AGENT_ID: str(call.task.agent),
            "spiffe.task": call.task.id,
        }
        span = tracer.start_span(names.tool_span_name(call.action), attributes=facts)
        self._token = context.attach(trace.set_span_in_context(span))
        self._span = span

    def leave(self) -> None:
        """Have what was current before be current again."""
        CALL.set(self._outer)
        if self._span is not None:
            from opentelemetry import context

            context.detach(self._token)

    def end(self, outcome: str, error: BaseException | None) -> None:
        """End the span.

        Args:
            outcome: What came of the call.
            error: What it failed with; its type is told and nothing else.
        """
        if self._span is None:
            return
        from opentelemetry.trace import StatusCode

        try:
            if outcome != "ok":
                self._span.set_attribute(names.ERROR_TYPE, outcome if error is None else type(error).__name__)
                self._span.set_status(StatusCode.ERROR)
            self._span.end()
        except Exception:  # noqa: BLE001 - as above
            _log.exception("a span could not end")


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
