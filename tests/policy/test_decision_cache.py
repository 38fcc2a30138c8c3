"""Remembered decisions hold for the same question, for seconds, and never where a human may lift them."""

from __future__ import annotations

from datetime import timedelta
from typing import get_args

import pytest

from spiffe_client.ids import SpiffeId
from spiffe_client.policy import CachedDecisions, Decision, Question, Reason
from tests.support.manual_clock import ManualClock
from tests.support.questions import NOON, ask

pytestmark = pytest.mark.anyio

LASTING = {
    "allowed", "missing_scope", "tenant_boundary", "outside_purpose", "wrong_environment", "classification",
    "contract_expired", "decision_point_denied",
}  # fmt: skip


class Counts:
    """A decider that says one thing and counts how often."""

    def __init__(self, decision: Decision | Exception) -> None:
        self.decision = decision
        self.asked = 0

    def __repr__(self) -> str:
        return "Counts"

    async def decide(self, question: Question) -> Decision:
        self.asked += 1
        if isinstance(self.decision, Exception):
            raise self.decision
        return self.decision


def decision_of(reason: Reason) -> Decision:
    return Decision(allowed=reason == "allowed", reason=reason, policy="p")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.mark.parametrize("reason", get_args(Reason))
async def test_what_is_remembered(clock: ManualClock, reason: Reason) -> None:
    """Only what holds for as long as nobody changes the rules; a reason that is new is not remembered."""
    decider = Counts(decision_of(reason))
    cached = CachedDecisions(decider, seconds=5, clock=clock)

    first, second = await cached.decide(ask()), await cached.decide(ask(at=NOON + timedelta(seconds=1)))

    assert (1 if reason in LASTING else 2) == decider.asked
    assert (first.allowed, first.reason, first.policy) == (second.allowed, second.reason, second.policy)
    assert (reason in LASTING) == (("remembered", True) in second.evidence)
    assert () == first.evidence


async def test_obligations_are_remembered_with_it(clock: ManualClock) -> None:
    """What was allowed under a condition stays so."""
    decider = Counts(Decision(allowed=True, reason="allowed", obligations=frozenset({"approve"})))
    cached = CachedDecisions(decider, seconds=5, clock=clock)
    await cached.decide(ask())

    assert frozenset({"approve"}) == (await cached.decide(ask())).obligations


async def test_it_ends(clock: ManualClock) -> None:
    """After its seconds, counted from when it was asked, the decider is asked again."""
    decider = Counts(decision_of("allowed"))
    cached = CachedDecisions(decider, seconds=5, clock=clock)
    await cached.decide(ask())
    decider.decision = decision_of("decision_point_denied")
    await clock.advance(4.9)
    assert (await cached.decide(ask())).allowed

    await clock.advance(0.1)

    assert not (await cached.decide(ask())).allowed
    assert (1, 2) == (cached.hits, cached.misses)


async def test_slow_answer_is_no_younger(clock: ManualClock) -> None:
    """An answer that took four of its five seconds holds for one."""
    decider = Counts(decision_of("allowed"))

    class Slow:
        async def decide(self, question: Question) -> Decision:
            await clock.advance(4)
            return await decider.decide(question)

    cached = CachedDecisions(Slow(), seconds=5, clock=clock)
    await cached.decide(ask())
    await clock.advance(1)
    await cached.decide(ask())

    assert 2 == decider.asked


@pytest.mark.parametrize(
    "fact",
    [
        {"agent": SpiffeId.parse("spiffe://prod.example/agent/other")},
        {"task": "task-2"},
        {"action": "invoices:write"},
        {"resource": "tenants/acme/invoices/8"},
        {"tenant": "umbrella"},
        {"purpose": "something else"},
        {"environment": "stage"},
        {"params": {"month": "2026-04"}},
        {"arguments": "another"},
        {"classification": "restricted"},
        {"depth": 1},
        {"parents": ("task-0",)},
    ],
    ids=lambda fact: next(iter(fact)),
)
async def test_attack_answer_to_another_question(clock: ManualClock, fact: dict) -> None:
    """An allowance is for the very same question: one other fact, and the decider is asked."""
    decider = Counts(decision_of("allowed"))
    cached = CachedDecisions(decider, seconds=5, clock=clock)
    await cached.decide(ask())

    await cached.decide(ask(**fact))

    assert 2 == decider.asked


def test_every_fact_of_a_question_is_covered() -> None:
    """The test above has each field but the time."""
    assert 13 == len(Question.__slots__)


async def test_order_of_params_does_not_matter(clock: ManualClock) -> None:
    """Parameters are names and values."""
    decider = Counts(decision_of("allowed"))
    cached = CachedDecisions(decider, seconds=5, clock=clock)
    await cached.decide(ask(params={"a": "1", "b": "2"}))
    await cached.decide(ask(params={"b": "2", "a": "1"}))

    assert 1 == decider.asked


async def test_attack_many_questions(clock: ManualClock) -> None:
    """Memory is bounded: the oldest answer goes first."""
    decider = Counts(decision_of("allowed"))
    cached = CachedDecisions(decider, seconds=5, capacity=2, clock=clock)
    for task in ("a", "b", "c"):
        await cached.decide(ask(task=task))
    assert 2 == len(cached)

    await cached.decide(ask(task="c"))
    assert 3 == decider.asked
    await cached.decide(ask(task="a"))
    assert 4 == decider.asked


async def test_denial_replaces_what_was_allowed(clock: ManualClock) -> None:
    """Also one that is not remembered itself."""
    decider = Counts(decision_of("allowed"))
    cached = CachedDecisions(decider, seconds=5, clock=clock)
    await cached.decide(ask())
    await clock.advance(5)
    decider.decision = decision_of("not_approved")
    await cached.decide(ask())

    assert 0 == len(cached)


async def test_attack_decider_that_breaks(clock: ManualClock) -> None:
    """An exception is nobody's answer, and the old one does not come back for it."""
    decider = Counts(ValueError("broken"))
    cached = CachedDecisions(decider, seconds=5, clock=clock)

    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            await cached.decide(ask())


async def test_it_is_emptied_on_demand(clock: ManualClock) -> None:
    """After policies have changed."""
    decider = Counts(decision_of("allowed"))
    cached = CachedDecisions(decider, seconds=5, clock=clock)
    await cached.decide(ask())
    cached.clear()
    await cached.decide(ask())

    assert 2 == decider.asked


@pytest.mark.parametrize("terms", [{"seconds": 0}, {"seconds": float("nan")}, {"seconds": 1, "capacity": 0}], ids=str)
def test_a_cache_that_is_none(terms: dict) -> None:
    """Is a mistake."""
    with pytest.raises(ValueError, match="or not to be there"):
        CachedDecisions(Counts(decision_of("allowed")), **terms)


def test_it_says_what_it_is() -> None:
    """For who reads a log or a debugger."""
    assert "CachedDecisions(Counts, seconds=5)" == repr(CachedDecisions(Counts(decision_of("allowed")), seconds=5))
