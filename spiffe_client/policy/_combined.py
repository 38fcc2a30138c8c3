"""Several deciders as one: whoever denies, wins."""

from __future__ import annotations

import anyio

from spiffe_client.errors import DeniedError, SpiffeError
from spiffe_client.policy._decision import Decider, Decision, Evidence, Question

__all__ = ["deny_wins", "unavailable"]


def deny_wins(*deciders: Decider) -> Decider:
    """Make one decider of several: it allows what all of them allow.

    All are asked at the same time, and the first denial ends the others' thinking. An exception, or
    an answer that is no `Decision`, is a denial (`decision_point_unavailable`). What is allowed has
    the obligations and the evidence of all. Without any decider, everything is denied.

    Args:
        deciders: Each with a deadline of its own, and willing to be cancelled.
    """
    return _DenyWins(deciders)


def unavailable(policy: str, **evidence: str | float | bool) -> Decision:
    """Return the denial of who could not decide."""
    return Decision(
        allowed=False, reason="decision_point_unavailable", policy=policy, evidence=tuple(evidence.items())
    )


class _DenyWins:
    __slots__ = ("_deciders",)

    def __init__(self, deciders: tuple[Decider, ...]) -> None:
        self._deciders = deciders

    def __repr__(self) -> str:
        return f"deny_wins({', '.join(map(repr, self._deciders))})"

    async def decide(self, question: Question) -> Decision:
        """See `Decider.decide`."""
        if not self._deciders:
            return unavailable("deny_wins", cause="no_decider")
        if len(self._deciders) == 1:
            return _combine([await _ask(self._deciders[0], question)])
        # Who does not come back, whatever the reason, has not allowed.
        answers = [unavailable(_name(decider), cause="no_answer") for decider in self._deciders]
        answered: list[int] = []
        async with anyio.create_task_group() as group:

            async def ask(place: int) -> None:
                answer = await _ask(self._deciders[place], question)
                answers[place] = answer
                answered.append(place)
                if not answer.allowed:
                    group.cancel_scope.cancel()

            for place in range(len(self._deciders)):
                group.start_soon(ask, place)
        # A denial that was given says more than an answer that is missing because of it.
        given = [answers[place] for place in sorted(answered) if not answers[place].allowed]
        return _combine(given or answers)


def _combine(answers: list[Decision]) -> Decision:
    for answer in answers:
        if not answer.allowed:
            return answer
    evidence: Evidence = tuple(fact for answer in answers for fact in answer.evidence)
    return Decision(
        allowed=True,
        reason="allowed",
        policy=", ".join(dict.fromkeys(answer.policy for answer in answers if answer.policy)),
        obligations=frozenset().union(*(answer.obligations for answer in answers)),
        evidence=evidence,
    )


async def _ask(decider: Decider, question: Question) -> Decision:
    try:
        answer: object = await decider.decide(question)
    except DeniedError as error:
        # Of a denial that says it allows, only the denial counts.
        return error.decision if not error.decision.allowed else unavailable(_name(decider), error=error.code)
    except SpiffeError as error:
        return unavailable(_name(decider), error=error.code)
    except Exception as error:  # noqa: BLE001 - the border to deciders of users: whoever raises has denied
        return unavailable(_name(decider), error=type(error).__name__)
    if isinstance(answer, Decision) and isinstance(answer.allowed, bool):
        return answer
    return unavailable(_name(decider), error="not_a_decision")


def _name(decider: Decider) -> str:
    return type(decider).__name__
