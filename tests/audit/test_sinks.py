"""Sinks that are not files: in memory, several as one, and whether what happens can be recorded."""

from __future__ import annotations

import pytest

from spiffe_client import audit
from spiffe_client.audit import Event, MemorySink, fan_out, log_event, require_ready, safe_sink
from spiffe_client.errors import AuditError

ONE, TWO, THREE = (Event(name, "happened") for name in ("a.one", "a.two", "a.three"))


class _Sink(MemorySink):
    """One that cares."""

    __slots__ = ("ready",)

    def __init__(self, *, ready: bool) -> None:
        super().__init__()
        self.ready = ready


def test_names() -> None:
    """What the room offers, it lists."""
    assert set(audit.__all__) <= set(dir(audit))


def test_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    """At the event's level, with its facts beside the text."""
    log_event(Event("a.one", "happened", {"task": "t"}, 30))
    (logged,) = caplog.records
    assert ("a.one: happened", 30, {"task": "t"}) == (logged.getMessage(), logged.levelno, logged.spiffe)  # type: ignore[attr-defined]


class TestMemory:
    def test_it_keeps_the_newest(self) -> None:
        """And counts what made room."""
        sink = MemorySink(2)
        for event in (ONE, TWO, THREE):
            sink(event)
        assert ((TWO, THREE), ("a.two", "a.three"), 1) == (sink.events, sink.names, sink.dropped)
        sink.clear()
        assert ((), 0) == (sink.events, sink.dropped)

    def test_no_room(self) -> None:
        """A sink that keeps nothing is a mistake."""
        with pytest.raises(ValueError, match="capacity=0"):
            MemorySink(0)


class TestFanOut:
    def test_each_gets_all(self) -> None:
        """In the order given, also behind one that fails."""
        kept, order = MemorySink(), []

        def broken(event: Event) -> None:
            order.append(event.name)
            raise OSError("no")

        fan_out(broken, kept)(ONE)
        assert (["a.one"], (ONE,)) == (order, kept.events)

    def test_none(self) -> None:
        """Events that nobody takes are never meant."""
        with pytest.raises(ValueError, match="at least one"):
            fan_out()


class TestReady:
    @pytest.mark.parametrize(
        "wrap",
        [lambda s: s, safe_sink, fan_out, lambda s: safe_sink(fan_out(log_event, safe_sink(s)))],
        ids=["bare", "safe", "fan_out", "all"],
    )
    def test_one_that_is_not(self, wrap, caplog: pytest.LogCaptureFixture) -> None:
        """However it is wrapped: the call is refused, and that is logged."""
        require_ready(wrap(_Sink(ready=True)))
        with pytest.raises(AuditError, match="not made") as e:
            require_ready(wrap(_Sink(ready=False)))
        assert ("audit", 0) == (e.value.code, e.value.line)
        assert "a call is refused" in caplog.text

    def test_those_that_have_no_opinion(self) -> None:
        """A logger, a list's append."""
        require_ready(log_event)
        require_ready(safe_sink(None))
        require_ready(fan_out([].append, MemorySink()))
