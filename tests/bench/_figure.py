"""One acceptance figure, as measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Figure", "at_least", "at_most"]


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, against what, and whether it is good enough."""

    figure: str
    value: float
    target: str
    unit: str
    peer: str
    runs: int
    ok: bool
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """The row as the acceptance asks for it."""
        return asdict(self)


def _make(sign: str, good: Callable[[float, float], bool]) -> Callable[..., Figure]:
    def figure(
        name: str, value: float, target: float, *, unit: str, peer: str, runs: int, detail: str = ""
    ) -> Figure:
        return Figure(name, round(value, 4), f"{sign} {target:g}", unit, peer, runs, good(value, target), detail)

    return figure


at_most = _make("≤", lambda value, target: value <= target)
at_least = _make("≥", lambda value, target: value >= target)
