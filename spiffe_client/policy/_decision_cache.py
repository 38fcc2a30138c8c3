"""Decisions that are remembered for a moment, where somebody asks for that."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeAlias

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.policy._decision import Decider, Decision, Question, Reason

__all__ = ["CachedDecisions"]

#: What may be remembered. Not what may be gone at the next call, because a human approves, a decision point
#: comes back or time passes; and no reason that is not listed here.
_LASTING: Final[frozenset[Reason]] = frozenset(
    {
        "allowed",
        "missing_scope",
        "tenant_boundary",
        "outside_purpose",
        "wrong_environment",
        "classification",
        "contract_expired",
        "decision_point_denied",
    }
)
_Key: TypeAlias = tuple[object, ...]


class CachedDecisions:
    """A decider whose answers hold for some seconds.

    What it costs: within these seconds, what the decider behind it learns does not count. So nothing
    is remembered unless this is put around it, and never a denial that may be lifted (`not_approved`
    and those that depend on the moment) or `decision_point_unavailable`.

    An answer holds for the very same question: everything in it but its time. One that was remembered
    says so in its evidence.

    Args:
        decider: Whose answers to remember; one whose answers depend on more than the question, such as
            a budget, is not to be wrapped.
        seconds: How long an answer holds.
        capacity: Most answers to remember; the one that was given first makes place.
        clock: Keeps the time.

    Attributes:
        hits: How often it remembered.
        misses: How often it had to ask.

    Raises:
        ValueError: `seconds` or `capacity` is not positive.
    """

    __slots__ = ("_capacity", "_clock", "_decider", "_held", "_seconds", "hits", "misses")

    def __init__(
        self, decider: Decider, *, seconds: float, capacity: int = 1024, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        if not seconds > 0 or capacity < 1:
            raise ValueError("a cache of decisions needs seconds > 0 and capacity >= 1, or not to be there")
        self._decider = decider
        self._seconds = seconds
        self._capacity = capacity
        self._clock = clock
        self._held: dict[_Key, tuple[float, Decision]] = {}
        self.hits: int = 0
        self.misses: int = 0

    def __repr__(self) -> str:
        return f"CachedDecisions({self._decider!r}, seconds={self._seconds:g})"

    def __len__(self) -> int:
        return len(self._held)

    async def decide(self, question: Question) -> Decision:
        """Return what is remembered, or ask; see `Decider.decide`."""
        key = _key(question)
        held = self._held.get(key)
        if held is not None and self._clock.monotonic() < held[0]:
            self.hits += 1
            return held[1]
        self.misses += 1
        # From when it was asked: an answer that took long is no younger for that.
        until = self._clock.monotonic() + self._seconds
        decision = await self._decider.decide(question)
        self._held.pop(key, None)
        if decision.reason in _LASTING:
            remembered = replace(decision, evidence=(*decision.evidence, ("remembered", True)))
            self._held[key] = (until, remembered)
            while len(self._held) > self._capacity:
                self._held.pop(next(iter(self._held)))  # dicts are in the order of their filling
        return decision

    def clear(self) -> None:
        """Forget everything, such as after policies have changed."""
        self._held.clear()


def _key(question: Question) -> _Key:
    """Return everything in a question but its time; a field that is added later is in it."""
    facts = ((name, getattr(question, name)) for name in Question.__struct_fields__ if name != "at")
    return tuple(frozenset(fact.items()) if name == "params" else fact for name, fact in facts)
