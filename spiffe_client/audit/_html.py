"""One HTML file that shows a trail to a person: no script, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator

from spiffe_client.audit._drawing import (
    draw_credentials,
    draw_delegations,
    draw_reasons,
    draw_timeline,
    shown,
)
from spiffe_client.audit._record import Record
from spiffe_client.audit._story import Entry, Story
from spiffe_client.audit._verify import TrailReport

__all__ = ["render_report"]

#: Steps of a task that are drawn, and denials that are listed.
_STEPS, _LISTED = 400, 200

_STYLE = """
:root{--ink:#1c2430;--soft:#5c6878;--line:#d9dfe7;--paper:#fff;--tile:#f5f7fa;--good:#1f8a5b;--bad:#c8372d;
--warn:#b7791f;--blue:#2f6fc4;--pale:#c9dcf5}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebf2;--soft:#97a3b4;--line:#333d4b;--paper:#12171e;
--tile:#1b222c;--good:#4cc38a;--bad:#f26d63;--warn:#e0a84a;--blue:#6ea8f0;--pale:#28456b}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1140px;margin:0 auto;padding:28px 28px 60px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:36px 0 10px}
p{margin:4px 0;color:var(--soft)}code,td.id{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
.verdict{display:inline-block;margin:10px 0 0;padding:3px 12px;border-radius:99px;color:var(--paper);font-weight:600}
.verdict.good{background:var(--good)}.verdict.warn{background:var(--warn)}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0 0}
.tile{background:var(--tile);border-radius:10px;padding:10px 18px;min-width:120px}
.tile b{display:block;font-size:24px;line-height:1.2}.tile span{color:var(--soft);font-size:13px}
.tile.bad b{color:var(--bad)}
svg{display:block;width:100%;height:auto}
svg text{font:12.5px system-ui,sans-serif;fill:var(--ink)}svg .tick,svg .count{fill:var(--soft)}
.grid{stroke:var(--line)}.edge{fill:none;stroke:var(--soft)}.head{fill:var(--soft)}
.bar{fill:var(--pale)}.alive{fill:var(--pale);stroke:var(--blue);stroke-dasharray:4 3}
.node{fill:var(--tile);stroke:var(--blue)}.svid{fill:var(--good)}.token{fill:var(--blue)}
.allowed{fill:var(--good)}.denied{fill:var(--bad)}.failed{fill:var(--warn)}.other{fill:var(--blue)}
circle{stroke:var(--paper);stroke-width:1.2}
.legend span{margin-right:18px}.legend i{display:inline-block;width:10px;height:10px;border-radius:5px;margin-right:6px}
i.allowed{background:var(--good)}i.denied{background:var(--bad)}i.failed{background:var(--warn)}
i.other{background:var(--blue)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13.5px}
th{text-align:left;color:var(--soft);font-weight:500}td,th{padding:5px 10px 5px 0;border-bottom:1px solid var(--line);
vertical-align:top;overflow-wrap:anywhere;min-width:104px}
""".replace("\n", "")
# Even if a text were not escaped somewhere, a browser runs no script and loads nothing.
_POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'"
)
_LEGEND = (
    '<p class="legend"><span><i class="allowed"></i>allowed</span><span><i class="denied"></i>denied</span>'
    '<span><i class="failed"></i>failed</span><span><i class="other"></i>delegation, approval, anomaly</span></p>'
)


_COUNTED = (
    "<p>An agent in a box to the right got work from those to its left, as often as its number says.</p>"
)


def render_report(records: Iterable[Record], *, verified: TrailReport | None = None) -> str:
    """Return a page about a trail: timeline, delegations, denials, lifetimes of credentials.

    Args:
        records: As `read_trail` yields them.
        verified: What `verify_trail` found; None if it was not asked, which the page says.
    """
    story = Story.of(records, most=_STEPS)
    body = "".join(_page(story, verified))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer">'
        f"<title>Audit trail {shown(story.trail)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _page(story: Story, verified: TrailReport | None) -> Iterator[str]:
    yield f"<h1>Audit trail</h1><p><code>{shown(story.workload or 'nobody named')}</code></p>"
    since, until = shown(_second(story.first_at)), shown(_second(story.last_at))
    yield f"<p>{since} to {until}, trail <code>{shown(story.trail)}</code></p>"
    yield _verdict(verified)
    yield _tiles(story)
    chart, more = draw_timeline(story)
    yield _section("Timeline", chart + (_LEGEND if chart else ""), "No task is recorded.", more, "tasks")
    chart, more = draw_delegations(story)
    yield _section(
        "Delegations", chart + (_COUNTED if chart else ""), "Nobody handed on authority.", more, "agents"
    )
    yield _section("Denials by reason", draw_reasons(story), "Nothing was denied.")
    if story.denied:
        yield _denials(story)
    chart, more = draw_credentials(story.credentials)
    yield _section(
        "Lifetimes of credentials", chart, "No event says when a credential expires.", more, "older ones"
    )


def _verdict(verified: TrailReport | None) -> str:
    if verified is None:
        return '<p class="verdict warn">not verified</p>'
    if not verified.proven:
        return '<p class="verdict warn">chain unbroken; signers not proven: no bundle was given</p>'
    if verified.vouched < verified.records or not verified.closed:
        kind = "open, or cut" if not verified.closed else "closed without a signature"
        return (
            f'<p class="verdict warn">verified up to record {verified.vouched} of {verified.records}; the end is '
            f"{kind}</p>"
        )
    return '<p class="verdict good">verified to the end</p>'


def _tiles(story: Story) -> str:
    calls = sum(count for name, count in story.counts.items() if name.startswith("call."))
    denials = sum(story.reasons.values())
    tiles = (
        ("tasks", len(story.tasks), ""),
        ("calls", calls, ""),
        ("denials", denials, " bad" if denials else ""),
        ("delegations", story.counts["delegation.granted"], ""),
        ("approvals", story.counts["approval.granted"], ""),
        ("anomalies", sum(n for name, n in story.counts.items() if name.startswith("anomaly.")), ""),
    )
    inside = "".join(
        f'<div class="tile{kind}"><b>{n:,}</b><span>{name}</span></div>' for name, n, kind in tiles
    )
    return f'<div class="tiles">{inside}</div>'


def _section(title: str, chart: str, nothing: str, more: int = 0, what: str = "") -> str:
    note = f"<p>and {more:,} {what} more, which are not drawn</p>" if more else ""
    return f"<h2>{title}</h2>{chart or f'<p>{nothing}</p>'}{note}"


def _denials(story: Story) -> str:
    newest = story.denied[: -_LISTED - 1 : -1]
    rows = "".join(_denial(task, entry) for task, entry in newest)
    total = sum(story.reasons.values())
    note = f"<p>The newest {len(newest)} of {total:,}.</p>" if total > len(newest) else ""
    head = "<tr><th>when</th><th>task</th><th>action</th><th>resource</th><th>reason</th><th>ref</th></tr>"
    return f'{note}<div class="wide"><table>{head}{rows}</table></div>'


def _second(at: str) -> str:
    """A moment without its microseconds; empty if there is none."""
    return f"{at[:19]}Z" if at else ""


def _denial(task: str, entry: Entry) -> str:
    cells = (_second(entry.at), task, entry.action, entry.resource, entry.reason, entry.call)
    return f"<tr>{''.join(f'<td>{shown(cell)}</td>' for cell in cells)}</tr>"
