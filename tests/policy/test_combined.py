"""Of several deciders, whoever denies wins."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from spiffe_client.errors import DeniedError, PolicyError
from spiffe_client.policy import Decision, Question, deny_wins
from tests.support.questions import ask

pytestmark = pytest.mark.anyio

ALLOWED = Decision(allowed=True, reason="allowed", policy="one")
DENIED = Decision(allowed=False, reason="tenant_boundary", policy="two")


class Says:
    """A decider that says one thing."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    async def decide(self, question: Question) -> Decision:
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer  # type: ignore[return-value]


class Waits:
    """A decider that never answers, and says when it is asked and when it is cancelled."""

    def __init__(self, *, then: object = None) -> None:
        self.asked = anyio.Event()
        self.cancelled = False
        self._then = then

    async def decide(self, question: Question) -> Decision:
        self.asked.set()
        try:
            await anyio.sleep_forever()
        except BaseException:
            self.cancelled = True
            if self._then is None:
                raise
        return self._then  # type: ignore[return-value]


class After:
    """A decider that answers when another one was asked."""

    def __init__(self, other: Waits, answer: Decision) -> None:
        self._other, self._answer = other, answer

    async def decide(self, question: Question) -> Decision:
        await self._other.asked.wait()
        return self._answer


class TestAllowing:
    async def test_all_of_them_allow(self) -> None:
        """Then it is allowed, with the obligations and the evidence of all."""
        one = Decision(allowed=True, reason="allowed", policy="a", obligations=frozenset({"log"}), evidence=(("x", 1),))
        two = Decision(allowed=True, reason="allowed", policy="b", obligations=frozenset({"ask"}), evidence=(("y", 2),))

        decision = await deny_wins(Says(one), Says(two)).decide(ask())

        assert decision.allowed
        assert frozenset({"log", "ask"}) == decision.obligations
        assert (("x", 1), ("y", 2)) == decision.evidence
        assert "a, b" == decision.policy

    async def test_one_alone(self) -> None:
        """One decider is as good as itself."""
        assert ALLOWED == await deny_wins(Says(ALLOWED)).decide(ask())
        assert DENIED == await deny_wins(Says(DENIED)).decide(ask())

    async def test_combined_once_more(self) -> None:
        """What is made of deciders is a decider."""
        assert not (await deny_wins(deny_wins(Says(ALLOWED), Says(DENIED)), Says(ALLOWED)).decide(ask())).allowed

    async def test_it_says_what_it_is_made_of(self) -> None:
        """For who reads a log or a debugger."""
        assert "deny_wins(deny_wins(), deny_wins())" == repr(deny_wins(deny_wins(), deny_wins()))


class TestDenying:
    async def test_nobody_is_asked(self) -> None:
        """No decider is no permission."""
        decision = await deny_wins().decide(ask())

        assert (False, "decision_point_unavailable") == (decision.allowed, decision.reason)

    @pytest.mark.parametrize("place", [0, 1, 2])
    async def test_one_of_them_denies(self, place: int) -> None:
        """Wherever it stands: its denial is the answer, as it gave it."""
        deciders = [Says(ALLOWED), Says(ALLOWED)]
        deciders.insert(place, Says(DENIED))

        assert DENIED == await deny_wins(*deciders).decide(ask())

    async def test_first_denial_ends_the_others_thinking(self) -> None:
        """Nobody waits for a slow one whose answer does not matter any more."""
        slow = Waits()

        with anyio.fail_after(20):
            decision = await deny_wins(slow, After(slow, DENIED)).decide(ask())

        assert DENIED == decision
        assert slow.cancelled

    async def test_caller_that_is_cancelled(self) -> None:
        """Cancels all of them."""
        one, two = Waits(), Waits()
        async with anyio.create_task_group() as group:
            group.start_soon(deny_wins(one, two).decide, ask())
            await one.asked.wait()
            await two.asked.wait()
            group.cancel_scope.cancel()

        assert (True, True) == (one.cancelled, two.cancelled)


class TestAttacks:
    """Ways to be allowed without a decision."""

    @pytest.mark.parametrize("beside", [0, 1])
    @pytest.mark.parametrize(
        ("answer", "error"),
        [
            (ValueError("a secret"), "ValueError"),
            (PolicyError("no rules"), "policy"),
            (None, "not_a_decision"),
            (True, "not_a_decision"),
            ("allowed", "not_a_decision"),
            (Decision(allowed=1, reason="allowed"), "not_a_decision"),  # equal to True, and not it
        ],
        ids=["exception", "error of ours", "none", "true", "text", "number"],
    )
    async def test_broken_decider(self, answer: object, error: str, beside: int) -> None:
        """An exception, or an answer of another type, is a denial that names what it was, and no more."""
        decision = await deny_wins(Says(answer), *[Says(ALLOWED)] * beside).decide(ask())

        assert (False, "decision_point_unavailable") == (decision.allowed, decision.reason)
        assert (("error", error),) == decision.evidence
        assert "secret" not in repr(decision)

    async def test_denial_that_is_raised(self) -> None:
        """Counts as one that is returned, with its reason."""
        assert DENIED == await deny_wins(Says(DeniedError("no", decision=DENIED)), Says(ALLOWED)).decide(ask())

    async def test_denial_that_says_it_allows(self) -> None:
        """Raised is raised."""
        decision = await deny_wins(Says(DeniedError("no", decision=ALLOWED)), Says(ALLOWED)).decide(ask())

        assert not decision.allowed

    async def test_allowance_after_a_denial(self) -> None:
        """A decider that answers in spite of being cancelled changes nothing."""
        stubborn = Waits(then=ALLOWED)

        assert DENIED == await deny_wins(stubborn, After(stubborn, DENIED)).decide(ask())


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_attack_cancelled_from_within() -> None:
    """On asyncio a task may end as cancelled though nobody cancelled it: no answer is no allowance."""
    decision = await deny_wins(Says(asyncio.CancelledError()), Says(ALLOWED)).decide(ask())

    assert (False, "decision_point_unavailable") == (decision.allowed, decision.reason)
    assert (("cause", "no_answer"),) == decision.evidence
