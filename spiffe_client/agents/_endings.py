"""How tasks end, and the words for it."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

__all__ = ["Ending", "ended"]

#: How a task ended.
Ending: TypeAlias = Literal["finished", "failed", "cancelled", "deadline", "stopped", "parent", "closed"]

_WORDS: Final[dict[Ending, str]] = {
    "finished": "the task has finished",
    "failed": "the task has failed",
    "cancelled": "the task was cancelled",
    "deadline": "the task's time is up",
    "stopped": "the agent was stopped",
    "parent": "the task that this one was part of has ended",
    "closed": "the agent was closed",
}
_LONGEST: Final = 300


def ended(how: Ending, why: str = "") -> tuple[Ending, str]:
    """Return how a task ended, and why in words, as a model, a log and a person may read them.

    Args:
        how: One of a few.
        why: What somebody said about it, such as who stopped the agent: on one line, and not long.
    """
    plain = "".join(c if c.isprintable() else "?" for c in why[:_LONGEST])
    return how, plain or _WORDS[how]
