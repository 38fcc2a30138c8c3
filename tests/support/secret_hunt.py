"""Looks for marked secrets wherever something of a program may come to light after an accident."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import quote, quote_plus

from spiffe_client.audit import Event
from spiffe_client.audit.otel import otel_sink

__all__ = ["Hunt"]

#: A leak of so many characters in a row is one.
_PIECE, _STEP = 24, 4


class _Records(logging.Handler):
    """Keeps everything that anybody logs, at every level."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        # As it is now: some loggers change what they have logged.
        self.kept.append(copy.copy(record))
        record.getMessage()


class Hunt:
    """One search.

    Attributes:
        secrets: What must not come to light; may grow while a test runs.
        events: What our own code told.
    """

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.events: list[Event] = []
        self._records = _Records()
        self._texts: list[tuple[str, str]] = []

    def add(self, *secrets: str | bytes) -> None:
        """Mark secrets."""
        for secret in secrets:
            text = secret.decode("latin-1") if isinstance(secret, bytes) else secret
            if len(text) >= _PIECE:
                self.secrets.add(text)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take in logs, and spans and metrics of our events, while the block runs."""
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        spans, reader, traces = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
        traces.add_span_processor(SimpleSpanProcessor(spans))
        metrics = MeterProvider(metric_readers=[reader])
        self._otel = otel_sink(metrics)
        # hpack is not for tokens, but for what they are used with.
        loggers = [logging.getLogger(name) for name in ("", "spiffe_client", "httpx", "httpcore", "hpack")]
        levels = [logger.level for logger in loggers]
        loggers[0].addHandler(self._records)
        for logger in loggers:
            logger.setLevel(logging.DEBUG)
        try:
            with traces.get_tracer("test").start_as_current_span("call"):
                yield
        finally:
            loggers[0].removeHandler(self._records)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            self._texts += [("a span", span.to_json()) for span in spans.get_finished_spans()]
            data = reader.get_metrics_data()
            self._texts.append(("a metric", data.to_json() if data else ""))
            traces.shutdown()
            metrics.shutdown()

    def sink(self, event: Event) -> None:
        """Take an event, as a program does that logs and traces."""
        self.events.append(event)
        self._otel(event)

    def saw(self, *things: object) -> None:
        """Look at things as a program shows them: `repr`, `str`, formatted, pickled, copied."""
        for thing in things:
            kind = type(thing).__name__
            self._texts += [(f"repr of {kind}", repr(thing)), (f"str of {kind}", f"{thing}")]
            self._texts.append((f"a pickle of {kind}", _pickled(thing)))

    def caught(self, error: BaseException) -> None:
        """Look at an error as a crash reporter does: all it is linked to, and the locals of all frames."""
        for each in _linked(error):
            kind = f"{type(each).__name__}"
            self.saw(each)
            notes = getattr(each, "__notes__", [])
            self._texts += [(f"arguments of {kind}", repr(each.args)), (f"notes of {kind}", repr(notes))]
            self._texts.append((f"attributes of {kind}", repr(vars(each))))
            for frame in traceback.TracebackException.from_exception(each, capture_locals=True).stack:
                if "/tests/" not in frame.filename:
                    where = f"{frame.name} of {frame.filename.rpartition('/')[2]}, under {kind}"
                    self._texts.append((f"locals of {where}", json.dumps(frame.locals, ensure_ascii=False)))

    def leaks(self) -> list[str]:
        """Return where something came to light; call it at the very end."""
        texts = [*self._texts, *_logged(self._records.kept), *((e.name, repr(e)) for e in self.events)]
        pieces = set(self._pieces())
        return sorted({where for where, text in texts if any(piece in text for piece in pieces)})

    @property
    def looked(self) -> int:
        """How many texts were searched: so that a test can tell that it looked at all."""
        return len(self._texts) + len(self._records.kept) + len(self.events)

    def _pieces(self) -> Iterator[str]:
        for secret in self.secrets:
            for spelling in {secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}:
                for at in range(0, max(1, len(spelling) - _PIECE + 1), _STEP):
                    yield spelling[at : at + _PIECE]


def _linked(error: BaseException) -> Iterator[BaseException]:
    queue, seen = [error], set()
    while queue:
        each = queue.pop()
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            queue += [e for e in (each.__cause__, each.__context__) if e is not None]
            queue += getattr(each, "exceptions", ())


def _pickled(thing: object) -> str:
    try:
        return pickle.dumps(thing).decode("latin-1")
    except (TypeError, AttributeError, pickle.PicklingError, RuntimeError) as error:
        return repr(error)


def _logged(records: Iterable[logging.LogRecord]) -> Iterator[tuple[str, str]]:
    formatter = logging.Formatter("%(message)s")
    for record in records:
        yield f"the log of {record.name}", formatter.format(record)
        yield f"the fields of the log of {record.name}", repr({**vars(record), "msg": str(record.msg)})
