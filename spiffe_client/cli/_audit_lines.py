"""A task of an audit trail, for people as a branch of a tree and for programs as a record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from spiffe_client.audit._story import Entry, TaskStory
from spiffe_client.cli._lines import Line, Style, line, without_tokens

__all__ = ["task_lines", "task_record"]

_MARKS: Mapping[str, tuple[str, Style]] = {
    "delegation": ("→", "name"),
    "approval": ("?", "strong"),
    "anomaly": ("!", "bad"),
    "anomaly.first_use": ("!", "strong"),  # once for every action: worth a look, no alarm
}
#: Deeper than any contract lets authority go; what says it is deeper is drawn no deeper.
_DEEPEST = 12


def task_record(task: TaskStory) -> dict[str, object]:
    """Return a task for programs; those it delegated to come behind it, and name it as their parent."""
    return {
        "task": task.id,
        "parent": task.parent.id if task.parent else None,
        "agent": task.agent,
        "purpose": task.purpose,
        "tenant": task.tenant,
        "first_at": task.first_at,
        "last_at": task.last_at,
        "ended": None if task.alive else task.ended,
        "calls": task.calls,
        "denials": task.denials,
        "steps": [asdict(entry) for entry in task.entries],
    }


def task_lines(task: TaskStory, depth: int) -> Iterator[Line]:
    """Yield the lines of a task: what it is, then its steps.

    Args:
        task: The task.
        depth: How many tasks are above it.
    """
    indent = _indent(task, depth)
    hang = len(indent) + 3
    above, head = indent[:-3], ""
    if indent:
        head = "├─ " if indent.endswith("│  ") else "└─ "
    purpose = _said(task.purpose) or "a task"
    yield line((above + head, "faint"), (purpose, "strong"), (f"  {_said(task.id)}", "faint"), hang=hang)
    tenant = f", for {_said(task.tenant)}" if task.tenant else ""
    yield line((f"{indent}│  ", "faint"), (_said(task.agent) or "no agent named", "name"), tenant, hang=hang)
    how = "alive" if task.alive else f"ended: {_said(task.ended) or 'no reason said'}"
    calls = f"{task.calls} {'call' if task.calls == 1 else 'calls'}, {task.denials} denied"
    yield line((f"{indent}│  ", "faint"), f"{task.first_at[:19]}Z  {calls}, {how}", hang=hang)
    for number, entry in enumerate(task.entries, 1):
        last = number == len(task.entries) and not task.children
        yield _step(entry, f"{indent}{'└' if last else '├'}─ ", hang)


def _indent(task: TaskStory, depth: int) -> str:
    parts: list[str] = []
    while task.parent is not None and len(parts) < min(depth, _DEEPEST):
        parts.append("   " if task is task.parent.children[-1] else "│  ")
        task = task.parent
    return "".join(reversed(parts))


def _step(entry: Entry, indent: str, hang: int) -> Line:
    family = entry.event.partition(".")[0]
    mark, style = _MARKS.get(entry.event) or _MARKS.get(family, ("✓", "good"))
    if entry.denied:
        mark, style = "✗", "bad"
    elif family == "call" and entry.outcome not in ("", "ok"):
        mark, style = "✗", "strong"
    said = " ".join(filter(None, map(_said, (entry.action or entry.event, entry.resource))))
    event = f"{entry.event} " if family != "call" and entry.action else ""
    # Of a no its name says it.
    says_why = entry.event == "approval.ignored" or (entry.denied and family != "approval")
    why: tuple[str, Style] = (f"  {_said(entry.reason)}" if says_why else "", "bad")
    took = "" if entry.milliseconds is None else f"  {entry.milliseconds:,.1f} ms"
    how = f"  {_said(entry.outcome)}" if entry.outcome not in ("", "ok", "denied") else ""
    return line(
        (indent, "faint"), (f"{mark} ", style), _said(event), said, why, (how + took, "faint"), hang=hang
    )


def _said(text: str) -> str:
    """What others have a hand in: short, and without tokens; `line` escapes the rest."""
    return without_tokens(text if len(text) <= 200 else f"{text[:199]}…")
