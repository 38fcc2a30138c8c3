"""What calls are made with: parents' tokens that are replaced, tokens that come too late, answers nobody asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

import anyio.to_thread
import pytest
from tests.support.agent_pair import AUDITOR, ORDER, READ, REFUND, Pair, pair_of_agents
from tests.support.agent_world import AgentWorld, contract
from tests.support.protected import FakeBroker, access_token
from tests.support.token_parties import security_token

from spiffe_client.agents import Scrubber
from spiffe_client.agents._attenuation import attenuate
from spiffe_client.agents._authority import Authority, Root, revoke
from spiffe_client.agents._taking_back import take_back
from spiffe_client.agents._handing_on import send
from spiffe_client.agents._records import record_redeemed
from spiffe_client.agents._scrub import scrub_error
from spiffe_client.agents._watch import ending_tasks
from spiffe_client.audit import Event
from spiffe_client.errors import (
    AttenuationError,
    SpiffeError,
    TaskEndedError,
    TicketError,
    TokenBrokerUnavailableError,
    TokenError,
)
from spiffe_client.policy import Decision
from spiffe_client.tokens import AccessToken, TokenRequest

pytestmark = pytest.mark.anyio

ENDED = TaskEndedError("it has ended", decision=Decision(allowed=False, reason="task_ended"))


@pytest.fixture
async def pair(anyio_backend: str) -> Any:
    async with pair_of_agents() as pair:
        yield pair


class Broker(FakeBroker):
    """Hands out a token for each request, and keeps what it was told to forget."""

    metadata = None

    def __init__(self) -> None:
        super().__init__()
        self.forgotten: list[tuple[TokenRequest, SpiffeError]] = []
        self.serial = 0
        self.landing: Any = lambda: None

    def peek(self, request: TokenRequest) -> AccessToken | None:
        return None

    async def fetch(self, request: TokenRequest) -> AccessToken:
        return self.fetch_blocking(request)

    def fetch_blocking(self, request: TokenRequest) -> AccessToken:
        self.serial += 1
        token = access_token(request, f"token-{self.serial}")
        self.landing()
        return token

    def forget(self, request: TokenRequest, error: SpiffeError) -> AccessToken | None:
        self.forgotten.append((request, error))
        return None


async def fetched(authority: Authority, blocking: bool) -> AccessToken:
    return await anyio.to_thread.run_sync(authority.fetch_blocking) if blocking else await authority.fetch()


@pytest.mark.parametrize("blocking", [False, True])
class TestAuthority:
    async def test_a_parents_token_that_was_replaced(self, blocking: bool) -> None:
        """What was made from it is forgotten, and made anew; from the same one it is the same request."""
        broker: Any = Broker()
        above = Root(broker, access_token(TokenRequest.of("x"), "first"))
        child = Authority(broker, TokenRequest.of("x", audience="https://x.example"), above)
        one, auth = await fetched(child, blocking), child.auth()
        assert (await fetched(child, blocking)).request == one.request
        assert auth is child.auth()
        assert [] == broker.forgotten
        above._root = access_token(TokenRequest.of("x"), "second")
        two = await fetched(child, blocking)
        assert (above.peek(), one.request) == (two.request.subject, broker.forgotten[0][0])
        assert "was replaced" in str(broker.forgotten[0][1])
        assert auth is not child.auth()

    async def test_a_token_that_lands_too_late(self, blocking: bool) -> None:
        """It is forgotten, kept to be revoked, and nobody gets it."""
        broker: Any = Broker()
        authority = Authority(broker, TokenRequest.of("x"))
        broker.landing = lambda: authority.withdraw(ENDED)
        with pytest.raises(TaskEndedError):
            await fetched(authority, blocking)
        assert 1 == len(authority.left)
        assert None is authority.peek()
        with pytest.raises(TaskEndedError):
            await fetched(authority, blocking)

    async def test_what_a_ticket_was_worth(self, blocking: bool) -> None:
        """There until it is withdrawn, and then to be revoked."""
        token = access_token(TokenRequest.of("x"), "root")
        root = Root(Broker(), token)  # type: ignore[arg-type]
        assert (token, token) == (await fetched(root, blocking), root.peek())
        root.withdraw(ENDED)
        assert (None, [token]) == (root.peek(), root.left)
        with pytest.raises(TaskEndedError):
            await fetched(root, blocking)
        assert not await root.revoke()  # whose broker nobody knows
        assert [] == root.left


class TestRevocation:
    async def test_nobody_to_tell(self, world: AgentWorld) -> None:
        """A token broker without that endpoint, or none at all, is not told, and that is no failure."""
        broker: Any = Broker()
        assert not await revoke(broker, access_token(TokenRequest.of("x"), "t"))
        task = world.host.task("x", ["summarize"])
        await take_back(task, security_token("a-ticket"))
        assert (0, 0) == (task.revoked, task.not_revoked)


class TestAttenuation:
    async def test_resources_by_a_parameter_that_is_not_there(self) -> None:
        """Nothing is held by a template that this task cannot fill."""
        actions = {READ: {"resources": ["tenants/{tenant}/months/{month}/*"]}}
        delegates = {AUDITOR: {"actions": [READ]}}
        async with AgentWorld(contract(actions=actions, delegates=delegates)).running() as world:
            async with world.host.task("x", [READ], tenant="acme") as task:
                with pytest.raises(AttenuationError, match="no part of this task's resources"):
                    task.delegate(AUDITOR, [READ], resources=["tenants/acme/months/3/7"])

    async def test_calls_that_another_thread_has_spent(self, pair: Pair) -> None:
        """Between the look and the ticket."""
        async with pair.task() as task:
            terms = attenuate(task, AUDITOR, [READ], purpose="", resources=None, ttl=None, calls=5)
            task.budget.give(task.budget.left - 4)
            with pytest.raises(AttenuationError, match="there are 4 calls to give"):
                await send(task, terms, 10)
            assert 4 == task.budget.left


class TestForeignAnswers:
    async def test_an_access_token_in_place_of_a_ticket(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        """Is not handed to another agent."""

        async def other(request: TokenRequest, **options: Any) -> AccessToken:
            return access_token(request, "access-token")

        monkeypatch.setattr(pair.closer.tokens, "exchange", other)
        async with pair.task() as task:
            with pytest.raises(TicketError, match="access tokens in place of tickets"):
                await task.ticket(AUDITOR, [READ], calls=3)
            assert 0 == task.budget.spent

    async def test_something_else_than_the_ticket_says(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        """More, or less, or another kind: it is not taken."""
        answers: list[Any] = []

        async def other(request: TokenRequest, **options: Any) -> Any:
            answer = answers.pop()
            if isinstance(answer, Exception):
                raise answer
            return answer(request)

        async with pair.task() as task:
            ticket = await task.ticket(AUDITOR, [READ], calls=3)
            monkeypatch.setattr(pair.auditor.tokens, "exchange", other)
            answers += [
                lambda request: dataclasses.replace(access_token(request, "t"), authorization_details="[]"),
                lambda request: security_token("another-ticket"),
            ]
            for _ in range(2):
                with pytest.raises(TicketError, match="grants something else"):
                    async with pair.auditor.agent.redeem(ticket):
                        pass
            answers += [TokenError("no"), TokenBrokerUnavailableError("try again")]
            for kind, says in ((TokenBrokerUnavailableError, "try again"), (TicketError, "not taken: no")):
                with pytest.raises(kind, match=says):
                    async with pair.auditor.agent.redeem(ticket):
                        pass


async def test_a_sensitive_calls_parent_is_told_apart(pair: Pair) -> None:
    """Both tokens of a call that was handed on are revoked with it."""
    async with pair.task() as task, task.delegate(AUDITOR, [REFUND]) as child:
        async with child.call(REFUND, ORDER, arguments={"n": 1}):
            assert 1 == len(child.authorities) == len(task.authorities)
        assert ({}, {}, 2) == (task.authorities, child.authorities, child.revoked)


async def test_what_is_gone_is_not_looked_for(world: AgentWorld) -> None:
    """A deadline of who has left, the end of tasks where there are none, an agent that is not there yet."""
    world.host._due("gone")
    AgentWorld().host.end_tasks("x")
    told: list[Event] = []
    event = Event("security_event.received", "all of them", {"all": True})
    ending_tasks(told.append, lambda: None)(event)
    assert [event] == told
    task = world.host.task("x", ["summarize"])
    record_redeemed(task)
    assert "token" not in world.told("delegation.redeemed")[0]


def test_an_error_that_cannot_be_shown() -> None:
    """Shows nothing, so there is nothing to take out."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert (0, False) == scrub_error(Odd("x"), [])


def test_a_read_only_attribute() -> None:
    """Is left, and said."""

    class Fixed(Exception):
        @property
        def msg(self) -> str:
            return "opaque-secret"

        def __str__(self) -> str:
            return self.msg

    assert (1, True) == scrub_error(Fixed(), ["opaque-secret"])
    assert 0 == Scrubber().count
