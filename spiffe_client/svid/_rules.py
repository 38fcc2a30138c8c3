"""Verification as a list of named rules, so that doing it and explaining it cannot disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from spiffe_client._values import dataclass
from spiffe_client.errors import SpiffeError

__all__ = ["Check", "Outcome", "Rule", "judge"]

_T_contra = TypeVar("_T_contra", contravariant=True)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Check:
    """One check that was made on an SVID, for people to read.

    Attributes:
        name: Stable, lower case with underscores.
        section: Of the standard that asks for it.
        ok: Whether it passed.
        detail: What the rule demands if it passed, else what is wrong.
    """

    name: str
    section: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Rule(Generic[_T_contra]):
    """One demand of a standard on something.

    Attributes:
        name: Stable, lower case with underscores.
        section: Of the standard that asks for it.
        demands: The rule in words.
        check: Returns (anything) if it is kept, raises a `SpiffeError` if not.
        needs: The names of rules without which this one makes no sense: where one of them is
            broken, this one is not looked at.
    """

    name: str
    section: str
    demands: str
    check: Callable[[_T_contra], object]
    needs: frozenset[str] = frozenset()


class Outcome:
    """What came of one rule.

    Args:
        rule: What is demanded.
        subject: Of what.

    Attributes:
        rule: As above.
        error: Why it is broken, None if it is kept.
    """

    __slots__ = ("error", "rule")

    def __init__(self, rule: Rule[_T], subject: _T) -> None:
        self.rule: Rule[Any] = rule
        self.error: SpiffeError | None = None
        try:
            rule.check(subject)
        except SpiffeError as error:
            self.error = error

    @property
    def check(self) -> Check:
        """The same for people."""
        rule, error = self.rule, self.error
        return Check(rule.name, rule.section, error is None, rule.demands if error is None else str(error))


def judge(rules: Sequence[Rule[_T]], subject: _T) -> Iterator[Outcome]:
    """Apply rules in their order, leaving out those that need a broken one."""
    broken: set[str] = set()
    for rule in rules:
        if rule.needs.isdisjoint(broken):
            outcome = Outcome(rule, subject)
            if outcome.error is not None:
                broken.add(rule.name)
            yield outcome
        else:
            broken.add(rule.name)
