"""Charts of a trail as SVG: no script, no style of its own, every text escaped."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from spiffe_client.audit._record import moment_of
from spiffe_client.audit._story import Credential, Story, TaskStory

__all__ = ["draw_credentials", "draw_delegations", "draw_reasons", "draw_timeline", "shown"]

_WIDTH, _LABEL, _ROW = 1080, 300, 26
#: Most rows of a chart: more are not read, and counted below it.
_MOST_ROWS = 120
_LONGEST = 160


def shown(text: str, longest: int = _LONGEST) -> str:
    """Escape a text that others have a hand in, for HTML and SVG.

    Control characters and those that turn the writing direction show as what they are.
    """
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    if not cut.isprintable():
        cut = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return html.escape(cut, quote=True)


def _label(text: str, columns: int) -> str:
    # The end of an ID or a path tells more than its beginning.
    return shown(text if len(text) <= columns else f"…{text[-columns + 1 :]}", columns + 1)


def _svg(height: float, parts: Iterator[str], title: str) -> str:
    inside = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
        f'aria-label="{title}"><title>{title}</title>{inside}</svg>'
    )


class _Scale:
    """Where on a chart a moment is."""

    def __init__(self, since: datetime, until: datetime) -> None:
        self.since = since
        self._seconds = max((until - since).total_seconds(), 0.001)

    def __call__(self, moment: datetime) -> float:
        part = (moment - self.since).total_seconds() / self._seconds
        return _LABEL + min(1.0, max(0.0, part)) * (_WIDTH - _LABEL - 20)

    def ticks(self, bottom: float) -> Iterator[str]:
        """Draw five moments, with lines down to the bottom."""
        form = "%d %b %H:%M" if self._seconds > 86400 else "%H:%M:%S" if self._seconds > 10 else "%H:%M:%S.%f"
        for number in range(5):
            moment = self.since + timedelta(seconds=self._seconds * number / 4)
            x = self(moment)
            anchor = "start" if number == 0 else "end" if number == 4 else "middle"
            text = f"{moment:{form}}"
            text = text[:-3] if form.endswith("%f") else text
            yield f'<line class="grid" x1="{x:.1f}" y1="22" x2="{x:.1f}" y2="{bottom:.0f}"/>'
            yield f'<text class="tick" x="{x:.1f}" y="14" text-anchor="{anchor}">{text}</text>'


def draw_timeline(story: Story) -> tuple[str, int]:
    """Draw each task as a bar from its begin to its end, with its calls on it.

    Returns:
        The chart, and how many tasks are not on it.
    """
    rows = list(story.walk())
    since, until = moment_of(story.first_at), moment_of(story.last_at)
    if not rows or since is None or until is None:
        return "", 0
    drawn = rows[:_MOST_ROWS]
    height = 30 + _ROW * len(drawn) + 8
    scale = _Scale(since, until)

    def parts() -> Iterator[str]:
        yield from scale.ticks(height - 6)
        for number, (depth, task) in enumerate(drawn):
            yield from _task_row(task, depth, 30 + _ROW * number, scale, until)

    return _svg(height, parts(), "Tasks and calls over time"), len(rows) - len(drawn)


def _task_row(task: TaskStory, depth: int, y: float, scale: _Scale, until: datetime) -> Iterator[str]:
    name = task.purpose or task.id
    indent = 12 * min(depth, 8)
    start = moment_of(task.first_at) or scale.since
    end = until if task.alive else moment_of(task.last_at) or until
    left, right = scale(start), scale(end)
    about = f"{task.agent or 'an agent'}: {name} ({task.id}), {task.calls} calls, {task.denials} denied"
    kind = "alive" if task.alive else "bar"
    columns = 38 - 2 * min(depth, 8)
    yield f'<text class="label" x="{indent + (10 if depth else 0)}" y="{y + 15:.0f}">{shown(name, columns)}</text>'
    if depth:
        yield f'<path class="edge" d="M{indent} {y:.0f}v12h7"/>'
    yield (
        f'<rect class="{kind}" x="{left:.1f}" y="{y + 5:.0f}" width="{max(3.0, right - left):.1f}" height="14" '
        f'rx="4"><title>{shown(about, 400)}</title></rect>'
    )
    for entry in sorted(task.entries, key=lambda entry: entry.denied):  # nothing covers a denial
        moment = moment_of(entry.at)
        if moment is None:
            continue
        kind = (
            "denied" if entry.denied else "failed" if entry.outcome in ("error", "cancelled") else "allowed"
        )
        kind = kind if entry.event.startswith("call.") or entry.denied else "other"
        said = " ".join(filter(None, (entry.at, entry.event, entry.action, entry.resource, entry.reason)))
        yield (
            f'<circle class="{kind}" cx="{scale(moment):.1f}" cy="{y + 12:.0f}" r="4.5">'
            f"<title>{shown(said, 400)}</title></circle>"
        )


def draw_reasons(story: Story) -> str:
    """Draw how many denials there were for each reason."""
    rows = story.reasons.most_common(30)
    if not rows:
        return ""
    most = rows[0][1]

    def parts() -> Iterator[str]:
        for number, (reason, count) in enumerate(rows):
            y = _ROW * number + 4
            length = max(3.0, count / most * (_WIDTH - _LABEL - 100))
            yield f'<text class="label" x="0" y="{y + 15}">{shown(reason, 42)}</text>'
            yield f'<rect class="denied" x="{_LABEL}" y="{y + 4}" width="{length:.1f}" height="15" rx="4"/>'
            yield f'<text class="count" x="{_LABEL + length + 8:.1f}" y="{y + 16}">{count}</text>'

    return _svg(_ROW * len(rows) + 8, parts(), "Denials by reason")


def draw_credentials(credentials: Sequence[Credential]) -> tuple[str, int]:
    """Draw each credential as a bar from its issue to its expiry.

    Returns:
        The chart, and how many are not on it; the newest are.
    """
    drawn = credentials[-_MOST_ROWS // 2 :]
    if not drawn:
        return "", 0
    scale = _Scale(min(c.since for c in drawn), max(c.until for c in drawn))
    row = 18
    height = 30 + row * len(drawn) + 8

    def parts() -> Iterator[str]:
        yield from scale.ticks(height - 6)
        for number, one in enumerate(drawn):
            y = 30 + row * number
            left, right = scale(one.since), scale(one.until)
            kind = "svid" if one.kind == "svid" else "token"
            about = f"{one.kind} {one.name}: {one.since:%H:%M:%S} to {one.until:%Y-%m-%d %H:%M:%S} UTC"
            yield f'<text class="label" x="0" y="{y + 12}">{shown(one.kind)} {_label(one.name, 34)}</text>'
            yield (
                f'<rect class="{kind}" x="{left:.1f}" y="{y + 2}" width="{max(2.0, right - left):.1f}" height="12" '
                f'rx="3"><title>{shown(about, 300)}</title></rect>'
            )

    return _svg(height, parts(), "Credentials from issue to expiry"), len(credentials) - len(drawn)


def draw_delegations(story: Story) -> tuple[str, int]:
    """Draw which agent handed on authority to which: in columns, by how often it was handed on.

    Returns:
        The chart, empty if nobody delegated, and how many agents are not on it.
    """
    edges: dict[tuple[tuple[int, str], tuple[int, str]], int] = {}
    for depth, task in story.walk():
        for child in task.children:
            ends = (depth, task.agent or task.id), (depth + 1, child.agent or child.id)
            edges[ends] = edges.get(ends, 0) + 1
    columns: dict[int, list[str]] = {}
    for depth, agent in sorted({end for ends in edges for end in ends}):
        columns.setdefault(depth, []).append(agent)
    if not columns:
        return "", 0
    places = _places(columns)
    left_out = sum(map(len, columns.values())) - len(places)
    height = 20 + 48 * max(min(len(agents), 30) for agents in columns.values())

    def parts() -> Iterator[str]:
        for (one, other), count in edges.items():
            if one in places and other in places:
                yield _arrow(places[one], places[other], f"{one[1]} to {other[1]}: {count} times", count)
        for end, (x, y, width) in places.items():
            received = sum(count for (_, other), count in edges.items() if other == end)
            yield (
                f'<rect class="node" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="30" rx="7">'
                f"<title>{shown(end[1], 400)}</title></rect><text "
                f'class="label" x="{x + 9:.0f}" y="{y + 20:.0f}">{_agent(end[1], int(width / 7.4) - 6)}</text>'
            )
            if received:
                right = f'x="{x + width - 9:.0f}" y="{y + 20:.0f}" text-anchor="end"'
                yield f'<text class="count" {right}>{received:,}</text>'

    return _svg(height, parts(), "Who delegated to whom"), left_out


def _places(columns: dict[int, list[str]]) -> dict[tuple[int, str], tuple[float, float, float]]:
    """Where each agent's box is, and how wide: at most five columns of thirty."""
    depths = sorted(columns)[:5]
    step = _WIDTH / len(depths)
    width = min(step - 90, 360)
    return {
        (depth, agent): (number * step + 2, 10 + 48 * row, width)
        for number, depth in enumerate(depths)
        for row, agent in enumerate(columns[depth][:30])
    }


def _agent(name: str, columns: int) -> str:
    return _label(name.removeprefix("spiffe://"), columns)


def _arrow(one: tuple[float, float, float], other: tuple[float, float, float], about: str, count: int) -> str:
    x1, y1, x2, y2 = one[0] + one[2], one[1] + 15, other[0], other[1] + 15
    bend = (x2 - x1) / 2
    width = min(5.0, 1.0 + 0.5 * (count - 1).bit_length())  # the more often, the thicker
    return (
        f'<path class="edge" stroke-width="{width:.1f}" d="M{x1:.0f} {y1:.0f}C{x1 + bend:.0f} {y1:.0f} '
        f'{x2 - bend:.0f} {y2:.0f} {x2 - 7:.0f} {y2:.0f}"><title>{shown(about, 600)}</title></path>'
        f'<path class="head" d="M{x2:.0f} {y2:.0f}l-9 -5v10z"/>'
    )
