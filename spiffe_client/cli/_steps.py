"""Steps that come out well or not, one after the other: the shape of `doctor` and of `demo`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from spiffe_client.cli._lines import Line, Style, line, naming
from spiffe_client.cli._report import Report

__all__ = ["State", "Step", "give_step"]

#: `not_reached`: an earlier step failed without which this one says nothing.
State: TypeAlias = Literal["ok", "failed", "not_reached"]

_MARKS: Mapping[State, tuple[str, Style]] = {
    "ok": ("✓", "good"),
    "failed": ("✗", "bad"),
    "not_reached": ("·", "faint"),
}
_HANG = 16
_INDENT = " " * _HANG


@dataclass(frozen=True, slots=True)
class Step:
    """What came of one step.

    Attributes:
        name: Stable, lower case with underscores.
        state: How it came out.
        detail: What was found, in words; may have several lines.
        advice: What to do, where it failed.
        facts: The same as values with stable names.
        lines: What there is to look at below it, for people.
    """

    name: str
    state: State
    detail: str
    advice: str = ""
    facts: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    lines: tuple[Line, ...] = ()


def give_step(report: Report, step: Step) -> None:
    """Give a step at once."""
    record = {
        "step": step.name,
        "state": step.state,
        "detail": step.detail.replace("\n", " "),
        "advice": step.advice,
        "facts": dict(step.facts),
    }
    report.give(record, _lines(step))


def _lines(step: Step) -> list[Line]:
    mark, style = _MARKS[step.state]
    first, *more = step.detail.splitlines()
    how: Style = "faint" if step.state == "not_reached" else "plain"
    name: tuple[str, Style] = (f"{step.name.replace('_', ' '):<13} ", "strong")
    lines = [line((f"{mark} ", style), name, *naming(first, how), hang=_HANG)]
    lines += [line(_INDENT, *naming(text, how), hang=_HANG) for text in more]
    if step.advice:
        lines.append(line(_INDENT, ("next: ", "strong"), step.advice, hang=_HANG + len("next: ")))
    return [*lines, *(line("  ", *one.parts, hang=2 + (one.hang or 0)) for one in step.lines)]
