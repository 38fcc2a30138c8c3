"""What a command says: the same facts as lines for people or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Protocol, TextIO

from spiffe_client.cli._failure import Failure
from spiffe_client.cli._lines import Line, line
from spiffe_client.cli._terminal import PlainTerminal, Terminal

__all__ = ["JsonReport", "Report", "TextReport", "timestamp"]


class Report(Protocol):
    """Where a command puts what it has to say."""

    def give(self, record: Mapping[str, object], lines: Iterable[Line]) -> None:
        """Give one result: as a record with stable keys, or as lines."""
        ...

    def note(self, text: str) -> None:
        """Say something that is no result; programs do not get it."""
        ...

    def fail(self, failure: Failure) -> None:
        """Say why there is no result."""
        ...

    def working(self, what: str) -> AbstractContextManager[Callable[[str], None]]:
        """Show, where there is somebody to see it, that something is going on."""
        ...


class TextReport:
    """For people.

    Args:
        out: Where results go.
        err: Where notes and failures go.
    """

    def __init__(self, out: Terminal, err: Terminal) -> None:
        self._out = out
        self._err = err

    def give(self, record: Mapping[str, object], lines: Iterable[Line]) -> None:  # noqa: ARG002 - for programs
        """See `Report.give`."""
        for one in lines:
            self._out.write(one)

    def note(self, text: str) -> None:
        """See `Report.note`."""
        self._err.write(line((text, "faint")))

    def fail(self, failure: Failure) -> None:
        """See `Report.fail`."""
        self._err.write(line(("spiffe-client: ", "bad"), failure.message, hang=15))
        self._err.write(line(("next: ", "strong"), failure.advice, hang=6))

    def working(self, what: str) -> AbstractContextManager[Callable[[str], None]]:
        """See `Report.working`."""
        # Where it cannot be rubbed out, it must not come between the results.
        return (self._err if isinstance(self._out, PlainTerminal) else self._out).working(what)


class JsonReport:
    """For programs: one JSON object a line, ASCII.

    Args:
        stream: Where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def give(self, record: Mapping[str, object], lines: Iterable[Line]) -> None:  # noqa: ARG002 - for people
        """See `Report.give`."""
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()

    def note(self, text: str) -> None:
        """See `Report.note`."""

    def fail(self, failure: Failure) -> None:
        """See `Report.fail`."""
        about = {"code": failure.code, "message": failure.message, "advice": failure.advice}
        self.give({"error": about}, ())

    @contextmanager
    def working(self, what: str) -> Iterator[Callable[[str], None]]:  # noqa: ARG002 - nobody looks
        """See `Report.working`."""
        yield lambda _: None


def timestamp(moment: datetime) -> str:
    """Return a moment as RFC 3339, in UTC, to the second: `2026-11-21T23:36:17Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
