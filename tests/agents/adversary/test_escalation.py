"""Attacks for more: scope, audience, tenant, resources, time, depth, calls, through delegation and through races.

Each ends with the reason code in the audit, or with an error before anything was given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.support.agent_pair import AUDITOR, ORDER, READ, REFUND, Pair, pair_of_agents
from tests.support.agent_world import AgentWorld, contract
from tests.support.manual_clock import settle

from spiffe_client.agents import Call, Task
from spiffe_client.agents._authority import Authority, authority_of
from spiffe_client.agents._budget import Budget, Rate
from spiffe_client.agents._denials import refusal
from spiffe_client.errors import AttenuationError, DeniedError, InvalidClientError, TaskEndedError, TaskError
from spiffe_client.policy import Decision, Question

pytestmark = pytest.mark.anyio

INVOICES, INVOICE = "invoices:read", "tenants/acme/invoices/7"


def task_of(world: AgentWorld, **terms: Any) -> Task:
    actions = [name for name in world.host.contract.actions if name != "orders:refund"]
    return world.host.task("close the March books", actions, **{"tenant": "acme", **terms})


async def denied(task: Task, action: str, resource: str = "") -> DeniedError:
    with pytest.raises(DeniedError) as caught:
        async with task.call(action, resource):
            raise AssertionError("it was let in")
    return caught.value


class TestThroughDelegation:
    @pytest.mark.parametrize(
        ("actions", "terms"),
        [
            ([INVOICES, "summarize"], {}),
            (["orders:refund"], {}),
            ([INVOICES, ""], {}),
            (["*"], {}),
            ([INVOICES], {"ttl": 600.001}),
            ([INVOICES], {"ttl": float("inf")}),
            ([INVOICES], {"ttl": float("nan")}),
            ([INVOICES], {"ttl": -1}),
            ([INVOICES], {"calls": 201}),
            ([INVOICES], {"calls": float("nan")}),
            ([INVOICES], {"calls": -5}),
            ([INVOICES], {"resources": ["tenants/globex/invoices/*"]}),
            ([INVOICES], {"resources": ["tenants/*/invoices/*"]}),
            ([INVOICES], {"resources": ["**"]}),
            ([INVOICES], {"resources": ["tenants/acme/invoices/**"]}),
            ([INVOICES], {"resources": ["tenants/acme/invoices/7", "tenants/globex/invoices/7"]}),
        ],
        ids=str,
    )
    async def test_more_than_there_is(self, world: AgentWorld, actions: list[str], terms: dict[str, Any]) -> None:
        """Hand on more than one has: other actions, more time, more calls, wider or other resources.

        Nothing is handed on.
        """
        async with task_of(world, ttl=600) as task:
            with pytest.raises(AttenuationError):
                task.delegate(AUDITOR, actions, **terms)
        assert [] == world.told("delegation.granted")
        assert ["attenuation"] == [facts["reason"] for facts in world.told("delegation.refused")]

    async def test_back_to_what_the_parent_has(self, world: AgentWorld) -> None:
        """A child that was given one invoice asks for its parent's others, actions and calls.

        It has what it was given, and hands on no more than that.
        """
        async with task_of(world) as task:
            async with task.delegate(AUDITOR, [INVOICES], resources=INVOICE, calls=2) as child:
                with pytest.raises(AttenuationError):
                    child.delegate(AUDITOR, [INVOICES], resources=["tenants/acme/invoices/*"])
                with pytest.raises(AttenuationError):
                    child.delegate(AUDITOR, [INVOICES], calls=3)
                await denied(child, INVOICES, "tenants/acme/invoices/8")
                await denied(child, "summarize")
        assert ["outside_purpose", "missing_scope"] == world.reasons
        assert ["attenuation"] * 2 == [facts["reason"] for facts in world.told("delegation.refused")]

    async def test_another_tenant(self, world: AgentWorld) -> None:
        """A child works for another tenant than its parent.

        A child's tenant is its parent's; there is no way to say another one, and the attempt is an anomaly in
        the audit.
        """
        async with task_of(world) as task:
            with pytest.raises(TypeError):
                task.delegate(AUDITOR, [INVOICES], tenant="globex")  # type: ignore[call-arg]
            async with task.delegate(AUDITOR, [INVOICES]) as child:
                await denied(child, INVOICES, "tenants/globex/invoices/7")
        assert ["tenant_boundary"] == world.reasons
        assert 1 == len(world.told("anomaly.cross_tenant"))

    async def test_more_time(self, world: AgentWorld) -> None:
        """Enter a child late, so that it might live longer than its parent.

        It has its parent's deadline.
        """
        async with task_of(world, ttl=30) as task:
            child = task.delegate(AUDITOR, [INVOICES])
            world.clock._elapsed += 29
            with pytest.raises(TaskEndedError, match="time is up"):
                async with child:
                    assert child.deadline == task.deadline
                    world.clock._elapsed += 0.9
                    async with child.call(INVOICES, INVOICE):
                        pass
                    world.clock._elapsed += 0.1
                    await denied(child, INVOICES, INVOICE)
            task.end("finished")
        assert ["task_ended"] == world.reasons

    async def test_a_child_that_does_not_want_to_end(self, world: AgentWorld) -> None:
        """A child shields itself from being cancelled when its parent ends.

        It goes on, and nothing is done for it.
        """
        begun, over = anyio.Event(), anyio.Event()

        async def work(child: Task) -> None:
            with pytest.raises(TaskEndedError):
                async with child:
                    begun.set()
                    with anyio.CancelScope(shield=True):
                        await over.wait()
                    await denied(child, INVOICES, INVOICE)

        async with anyio.create_task_group() as group:
            async with task_of(world) as task:
                group.start_soon(work, task.delegate(AUDITOR, [INVOICES]))
                await begun.wait()
            over.set()
        assert ["task_ended"] == world.reasons
        assert ["finished", "parent"] == [facts["outcome"] for facts in world.told("task.ended")]

    async def test_a_longer_chain(self, world: AgentWorld) -> None:
        """Hand work on once more often than the depth permits.

        Depth is counted down, whoever hands on.
        """
        async with task_of(world) as task, task.delegate(AUDITOR, [INVOICES]) as one:
            async with one.delegate(AUDITOR, [INVOICES]) as two:
                for again in (lambda: two.delegate(AUDITOR, [INVOICES]), lambda: two.delegate(AUDITOR, [])):
                    with pytest.raises(AttenuationError, match="any further"):
                        again()
        assert 2 == len(world.told("delegation.granted"))
        assert ["attenuation"] * 2 == [facts["reason"] for facts in world.told("delegation.refused")]

    async def test_a_tokens_scope_and_audience(self, pair: Pair) -> None:
        """A child uses its token at another endpoint, and asks for an action that it was not given.

        Its token is for what its action is for: the service refuses it elsewhere.
        """
        async with pair.task() as task, task.delegate(AUDITOR, [READ]) as child:
            async with child.call(READ, ORDER) as call:
                assert {pair.service.url} == set(call.token.audience)
                assert {READ} == call.token.scope
                reply = await call.http.get(f"{pair.service.url}/v1/refunds")
                assert (403, True) == (reply.status_code, "insufficient_scope" in reply.headers["www-authenticate"])
            await denied(child, REFUND, ORDER)
        assert ["missing_scope"] == pair.reasons

    async def test_who_was_handed_work_says_so(self) -> None:
        """Hide from a decision point that work was handed on.

        It is told how often, and from which tasks, and says no.
        """
        asked: list[Question] = []

        class Pdp:
            async def decide(self, question: Question) -> Decision:
                asked.append(question)
                return refusal("decision_point_denied", "pdp", ("depth", question.depth))

        limits = {"delegation_depth": 1}
        async with pair_of_agents(limits=limits) as pair:
            pair.auditor.agent.points = Pdp()
            async with pair.task() as task:
                ticket = await task.ticket(AUDITOR, [READ], calls=3)
                async with pair.auditor.agent.redeem(ticket) as work:
                    await denied(work, READ, ORDER)
        assert [(1, (task.id,))] == [(question.depth, question.parents) for question in asked]
        assert ["decision_point_denied"] == pair.reasons


class TestBudgets:
    async def test_two_tickets_at_once(self, pair: Pair) -> None:
        """Issue several tickets at once, each for all calls that are left.

        One is issued; the calls are gone.
        """
        outcome: list[object] = []

        async def ask(task: Task, calls: int) -> None:
            try:
                await task.ticket(AUDITOR, [READ], calls=calls)
                outcome.append("issued")
            except AttenuationError as error:
                outcome.append(error.held)

        async with pair.task() as task:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(ask, task, task.budget.left)
            assert 0 == task.budget.left
            await denied(task, READ, ORDER)
        assert ["0 calls", "0 calls", "issued"] == sorted(map(str, outcome))
        assert ["attenuation"] * 2 == [facts["reason"] for facts in pair.told("delegation.refused")]
        assert ["budget_spent"] == pair.reasons

    async def test_a_ticket_that_is_not_issued(self, pair: Pair) -> None:
        """Ask for a ticket that the token broker does not issue.

        Nothing is granted, and the calls are given back.
        """
        pair.broker.rules = type(pair.broker.rules)(clients=())
        async with pair.task() as task:
            left = task.budget.left
            with pytest.raises(InvalidClientError):
                await task.ticket(AUDITOR, [READ], calls=3)
            assert left == task.budget.left
        assert [] == pair.told("delegation.granted")
        assert ["invalid_client"] == [facts["error"] for facts in pair.told("token.denied")]
        assert ["invalid_client"] == [facts["reason"] for facts in pair.told("delegation.refused")]

    async def test_threads_that_spend_at_once(self) -> None:
        """Spend one budget from eight threads at once, through several children.

        Together they get what there is, and not one call more.
        """
        async with AgentWorld(contract(limits={"calls_per_task": 50})).running() as world:
            async with task_of(world) as task:
                async with task.delegate(AUDITOR, [INVOICES]) as one, task.delegate(AUDITOR, [INVOICES]) as two:
                    made = await hammered(lambda n: (task, one, two)[n % 3].call(INVOICES, INVOICE), 10)
        assert 50 == sum(made)
        assert ["budget_spent"] * 30 == world.reasons
        parent = Budget(5_000)
        children = [Budget(3_000, parent) for _ in range(4)]
        assert 5_000 == sum(hammer(lambda n: children[n % 4].spend(), 8, 1_000))
        assert (0, 5_000) == (parent.left, parent.spent)
        assert 5_000 == sum(child.spent for child in children)

    async def test_threads_within_a_minute(self) -> None:
        """Call from eight threads at once, to be faster than the rate.

        Together they are as fast as one may be.
        """
        async with AgentWorld(contract(limits={"calls_per_minute": 50})).running() as world:
            async with task_of(world) as task:
                made = await hammered(lambda _: task.call(INVOICES, INVOICE), 10)
        assert 50 == sum(made)
        assert ["rate"] * 30 == world.reasons
        rate = Rate(2_000)
        assert 2_000 == sum(hammer(lambda n: rate.take(1.0), 8, 1_000))

    @pytest.mark.parametrize("limits", [{"calls_per_task": 3}, {"calls_per_minute": 3}], ids=str)
    async def test_guessing(self, limits: Mapping[str, int]) -> None:
        """Try all numbers until one is let in.

        Attempts that are denied count as well: who guesses comes to an end.
        """
        async with AgentWorld(contract(limits=limits)).running() as world:
            async with task_of(world) as task:
                for number in range(5):
                    await denied(task, INVOICES, f"tenants/globex/invoices/{number}")
        last = "budget_spent" if "calls_per_task" in limits else "rate"
        assert [*["tenant_boundary"] * 3, last, last] == world.reasons


def hammer(take: Callable[[int], bool], threads: int, times: int) -> list[bool]:
    """Call it from several threads at once; return all answers."""
    start = threading.Barrier(threads)

    def work(number: int) -> list[bool]:
        start.wait()
        return [take(number) for _ in range(times)]

    with ThreadPoolExecutor(threads) as pool:
        return [one for some in pool.map(work, range(threads)) for one in some]


async def hammered(make: Callable[[int], Call], times: int) -> list[bool]:
    """Whether each of the calls was let in that eight threads make at once."""

    def try_one(number: int) -> bool:
        try:
            with make(number):
                return True
        except DeniedError:
            return False

    return await anyio.to_thread.run_sync(hammer, try_one, 8, times)


FLOW = {"start": [INVOICES], "follows": {INVOICES: ["summarize"]}}


class TestWorkflow:
    async def test_two_calls_at_once(self) -> None:
        """Make two calls at once of which the workflow permits one.

        One is made; when the other one's turn came, it had passed.
        """
        turn = anyio.Event()

        class Slow:
            async def decide(self, question: Question) -> Decision:
                if question.action == "summarize":
                    await turn.wait()
                return Decision(allowed=True, reason="allowed")

        outcome: list[str] = []

        async def summarize(task: Task) -> None:
            try:
                async with task.call("summarize"):
                    outcome.append("done")
            except DeniedError as error:
                outcome.append(error.reason)

        async with AgentWorld(contract(workflow=FLOW), deciders=[Slow()]).running() as world:
            async with task_of(world) as task:
                async with task.call(INVOICES, INVOICE):
                    pass
                async with anyio.create_task_group() as group:
                    for _ in range(2):
                        group.start_soon(summarize, task)
                    await settle()
                    turn.set()
        assert ["done", "workflow"] == sorted(outcome)
        assert ["workflow"] == world.reasons
        assert 1 == len(world.told("anomaly.workflow"))

    async def test_in_another_order(self) -> None:
        """Skip a step of the workflow, or count a denied step as done.

        What was denied was not done, so nothing follows from it.
        """
        async with AgentWorld(contract(workflow=FLOW)).running() as world:
            async with task_of(world) as task:
                await denied(task, "summarize")
                await denied(task, INVOICES, "tenants/globex/invoices/7")
                await denied(task, "summarize")
        assert ["workflow", "tenant_boundary", "workflow"] == world.reasons


class TestWhileItWaits:
    """What was so when somebody was asked need not be so when the answer comes."""

    @pytest.mark.parametrize("change", ["identity", "window", "audit"])
    async def test_the_answer_comes_too_late(self, change: str) -> None:
        """While a decision point thinks, lose the identity, let the hours pass in which the action is
        permitted, or have the audit fail.

        All three are looked at again when the answer comes.
        """
        window = {"days": ["thu"], "from": "00:00", "until": "12:00", "zone": "UTC"}  # the world's day is one
        actions = {"summarize": {"window": window}}
        asked, answer = anyio.Event(), anyio.Event()

        class Slow:
            async def decide(self, question: Question) -> Decision:
                asked.set()
                await answer.wait()
                return Decision(allowed=True, reason="allowed")

        class Audit(list):
            ready = True
            __call__ = list.append

        audit = Audit()
        what = contract(actions=actions, delegates={})
        async with AgentWorld(what, deciders=[Slow()], on_event=audit).running() as world:
            async with task_of(world) as task, anyio.create_task_group() as group:
                group.start_soon(denied, task, "summarize")
                await asked.wait()
                if change == "identity":
                    world.identity._after.clear()
                    world.identity.lose()
                elif change == "window":
                    world.clock.skew += timedelta(hours=13)
                else:
                    audit.ready = False
                answer.set()
        reasons = [event.attributes["reason"] for event in audit if event.name == "call.denied"]
        expected = {"identity": "wrong_environment", "window": "outside_window", "audit": "audit_unavailable"}
        assert [expected[change]] == reasons


class TestThreadsAgainstTheEnd:
    async def test_authority_taken_out_after_the_end(self, pair: Pair) -> None:
        """Keep what a call gets its token from, and ask it when the task has ended.

        It gives nothing any more.
        """
        task = pair.task()
        async with task:
            call = task.call(READ, ORDER)
        with pytest.raises(TaskEndedError):
            _ = call.auth
        assert ["task_ended"] == [facts["reason"] for facts in pair.told("credential.withheld")]
        authority = authority_of(task, call)
        assert isinstance(authority, Authority)
        assert None is authority.peek()
        with pytest.raises(TaskEndedError):
            await authority.fetch()
        with pytest.raises(TaskEndedError):
            await anyio.to_thread.run_sync(authority.fetch_blocking)

    @pytest.mark.parametrize("blocking", [False, True])
    async def test_the_end_while_a_parents_token_comes(self, pair: Pair, blocking: bool) -> None:
        """End a child while its parent's token is on the way.

        The child's token is not even asked for.
        """

        def block(call: Call) -> None:
            with call:
                raise AssertionError("it was let in")

        async with pair.task() as task:
            with pytest.raises(TaskEndedError, match="enough"):
                async with task.delegate(AUDITOR, [READ]) as child:
                    call = child.call(READ, ORDER)
                    authority_of(child, call)
                    above = task.authorities[READ]
                    real = above.fetch_blocking if blocking else above.fetch

                    def ended_blocking() -> Any:
                        token = real()
                        child.end("stopped", "enough")
                        return token

                    async def ended() -> Any:
                        token = await real()
                        child.end("stopped", "enough")
                        return token

                    setattr(above, "fetch_blocking" if blocking else "fetch", ended_blocking if blocking else ended)
                    with anyio.CancelScope(shield=True), pytest.raises(TaskEndedError):
                        if blocking:
                            await anyio.to_thread.run_sync(block, call)
                        else:
                            await denied(child, READ, ORDER)
                            raise child.ending()
                    await anyio.sleep_forever()
        assert 1 == pair.broker.requests["token"]
        assert ["task_ended"] == pair.reasons

    async def test_a_thread_that_waits_for_somebody_when_its_task_ends(self) -> None:
        """Let a thread wait for a decision when its task ends.

        It comes back at once, with a denial.
        """
        asked, gone = anyio.Event(), anyio.Event()

        class Slow:
            async def decide(self, question: Question) -> Decision:
                asked.set()
                try:
                    await anyio.sleep_forever()
                finally:
                    gone.set()
                raise AssertionError

        said: list[str] = []

        def work(call: Call) -> None:
            try:
                with call:
                    said.append("let in")
            except TaskEndedError as error:
                said.append(error.reason)

        async with AgentWorld(deciders=[Slow()]).running() as world:
            with anyio.fail_after(20):
                async with anyio.create_task_group() as group:
                    async with task_of(world) as task:
                        group.start_soon(anyio.to_thread.run_sync, work, task.call("summarize"))
                        await asked.wait()
                    await gone.wait()
        assert ["task_ended"] == said
        assert ["task_ended"] == world.reasons

    async def test_a_blocking_tool_on_the_event_loop_that_needs_a_token(self, pair: Pair) -> None:
        """Block the event loop with a call that needs a token.

        It is denied, where it would otherwise wait for itself for ever.
        """
        async with pair.task() as task:
            with pytest.raises(DeniedError) as caught:
                with task.call(READ, ORDER):
                    pass
            assert "must not be blocked" in str(caught.value.__cause__)
            async with task.call(READ, ORDER):
                pass
            with task.call(READ, ORDER) as call:  # it is at hand now
                assert call.token is not None
        assert ["token_refused"] == pair.reasons


async def test_a_call_left_in_the_wrong_order(world: AgentWorld, anyio_backend: str) -> None:
    """Leave two calls in the wrong order, as an adapter with a bug does.

    Both are recorded, and none stays open.
    """
    calls: list[Call] = []

    async def mixed_up() -> None:
        outer, inner = calls
        await outer.__aenter__()
        await inner.__aenter__()
        try:
            await outer.__aexit__(None, None, None)
        finally:
            await inner.__aexit__(None, None, None)

    async with task_of(world) as task:
        calls += [task.call("summarize"), task.call("summarize")]
        with pytest.raises(RuntimeError):  # on a loop of its own, which is not good for much after that
            await anyio.to_thread.run_sync(lambda: anyio.run(mixed_up, backend=anyio_backend))
        assert {} == task.calls
        with pytest.raises(TaskError):
            calls[0].refuse()
    assert ["call_ended"] == [facts["reason"] for facts in world.told("credential.withheld")]
    assert {call.id for call in calls} == {facts["call"] for facts in world.told("call.finished")}
