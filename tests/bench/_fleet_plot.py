"""Load over time, as text for a terminal and as SVG for the docs."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

__all__ = ["svg", "text"]

_BLOCKS = " ▁▂▃▄▅▆▇█"
WIDTH, HEIGHT = 900, 380
LEFT, RIGHT, TOP, BOTTOM = 60, 124, 62, 46
#: Seconds to a point of the plot.
STEP = 20


def text(tries: Mapping[int, int], mean: float, outage: tuple[float, float], horizon: int) -> str:
    """Two rows of blocks: the mean and the busiest second of each slot, up to twice the steady mean."""
    slots = 96
    width = horizon // slots
    means, peaks, marks = [], [], []
    for slot in range(slots):
        seconds = [tries[s] for s in range(slot * width, (slot + 1) * width) if s >= 60]
        means.append(_block(sum(seconds) / len(seconds) / (2 * mean)))
        peaks.append(_block(max(seconds) / (2 * mean)))
        down = slot * width < outage[1] and (slot + 1) * width > outage[0]
        marks.append("x" if down else "·")
    return "\n".join(
        [
            f"per slot of {width} s; a full block is twice the steady mean, ! is more",
            f"busiest second  {''.join(peaks)}",
            f"mean            {''.join(means)}",
            f"broker down     {''.join(marks)}",
        ]
    )


def _block(share: float) -> str:
    return "!" if share > 1 else _BLOCKS[min(8, round(share * 8))]


def svg(tries: Mapping[int, int], mean: float, outage: tuple[float, float], horizon: int, title: str) -> str:
    """One picture: the mean and the busiest second of every 20 s, the steady mean, twice that, the outage."""
    top = 2.5 * mean

    def x(second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * second / horizon

    def y(load: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(load, top) / top

    slots = [range(t, t + STEP) for t in range(60, horizon - STEP + 1, STEP)]
    middle = [(x(s[0] + STEP / 2), y(sum(tries[i] for i in s) / STEP)) for s in slots]
    upper = [(x(s[0] + STEP / 2), y(max(tries[i] for i in s))) for s in slots]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="600" fill="#1b1f24">Load on the token broker</text>',
        f'<text x="{LEFT}" y="42" fill="#57606a">{escape(title)}; all restarted at once at 0 h</text>',
        f'<rect x="{x(outage[0]):.1f}" y="{TOP}" width="{x(outage[1]) - x(outage[0]):.1f}" '
        f'height="{HEIGHT - TOP - BOTTOM}" fill="#ffd8d3"/>',
        f'<text x="{x(outage[1]) + 5:.1f}" y="{TOP + 14}" fill="#a40e26">down</text>',
    ]
    for hour in range(0, horizon // 3600 + 1):
        parts.append(f'<text x="{x(hour * 3600):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#57606a">{hour} h</text>')
    for load, name, dash in ((mean, f"steady mean {mean:.0f}/s", ""), (2 * mean, "twice that", ' stroke-dasharray="6 4"'), (0, "0", "")):
        colour = "#8c959f" if load else "#57606a"
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(load):.1f}" y2="{y(load):.1f}" stroke="{colour}"{dash}/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(load) + 4:.1f}" text-anchor="end" fill="#57606a">{load:.0f}</text>')
        if load:
            parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{y(load) + 4:.1f}" fill="#57606a">{name}</text>')
    parts += [
        f'<polyline points="{_points(upper)}" fill="none" stroke="#9ecbff" stroke-width="1"/>',
        f'<polyline points="{_points(middle)}" fill="none" stroke="#0550ae" stroke-width="1.8" stroke-linejoin="round"/>',
        f'<text x="{LEFT}" y="{HEIGHT - 8}" fill="#0550ae">— tries per second, mean of {STEP} s</text>',
        f'<text x="{LEFT + 230}" y="{HEIGHT - 8}" fill="#4e90d6">— busiest second of each {STEP} s; '
        "the first minute, in which everybody gets a first token, is not shown</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _points(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
