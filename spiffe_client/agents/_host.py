"""Where an agent's tasks run: its contract, who decides, what is held, and how all of it ends."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Callable, Collection, Mapping
from itertools import count
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, Self

import anyio

from spiffe_client._agenda import Agenda
from spiffe_client._async_only import async_only
from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._service import Service
from spiffe_client.agents._attenuation import initial_terms
from spiffe_client.agents._authority import check_tokens
from spiffe_client.agents._budget import Budget, Rate, Refusals
from spiffe_client.agents._endings import Ending
from spiffe_client.agents._loop import HostLoop
from spiffe_client.agents._records import record_end, record_start, record_untold
from spiffe_client.agents._register import enrol, strike
from spiffe_client.agents._standing import AgentIdentity, Standing
from spiffe_client.agents._taking_back import REVOKING, revoke_all
from spiffe_client.agents._task import Task
from spiffe_client.agents._watch import end_affected
from spiffe_client.agents._without_task import closed, opened
from spiffe_client.audit import EventSink, safe_sink
from spiffe_client.errors import TaskError
from spiffe_client.policy import (
    Approvals,
    Approver,
    Contract,
    ContractDecider,
    Decider,
    deny_wins,
    load_contract,
)

if TYPE_CHECKING:
    from spiffe_client.agents._clients import Clients
    from spiffe_client.agents._handing_on import Redemption
    from spiffe_client.agents._ticket import Ticket
    from spiffe_client.tokens import AccessToken, TokenBroker, TokenRequest

__all__ = ["AgentHost"]

_CONTRACT: Final = "contract"
#: Tickets and tasks that are refused in a minute and told one by one; anybody can present a ticket.
_REFUSALS: Final = 60


class AgentHost:
    """Runs tasks of one agent, within its contract.

    Args:
        contract: What the agent may do: a contract, or the path of its file.
        identity: Who it is; its SPIFFE ID must be the contract's.
        environment: Where this runs, such as `prod`; must be the contract's.
        tokens: Where tokens come from; None if no action needs any.
        deciders: Who is asked beside the contract; each may deny.
        approver: Who is asked where a person must approve; None denies such calls.
        review: What an overdue review of the contract means.
        approval_timeout: Seconds that a person has for an answer.
        web: Whom to trust on the web; None for the authorities that httpx trusts.
        clock: Where the time comes from.
        on_event: Takes events. One that has `ready`, and says False there, has calls denied.

    Raises:
        ContractError: The contract cannot be used.
    """

    stopped: str | None = None
    _service: Service | None = None
    _loop: HostLoop | None = None

    def __init__(
        self,
        contract: Contract | str | PathLike[str],
        identity: AgentIdentity,
        *,
        environment: str,
        tokens: TokenBroker | None = None,
        deciders: Collection[Decider] = (),
        approver: Approver | None = None,
        review: Literal["warn", "refuse"] = "warn",
        approval_timeout: float = 300.0,
        web: ssl.SSLContext | None = None,
        clock: Clock = SYSTEM_CLOCK,
        on_event: EventSink | None = None,
    ) -> None:
        self.contract: Contract = contract if isinstance(contract, Contract) else load_contract(contract)
        self.identity = identity
        self.standing: Standing = Standing(self.contract, identity, environment, clock)
        self.environment = environment
        self.tokens = tokens
        self.decider: ContractDecider = ContractDecider(self.contract, review=review)
        self.points: Decider | None = deny_wins(*deciders) if deciders else None
        self.approver = approver
        self.approvals: Approvals = Approvals(clock=clock)
        self.approval_timeout = approval_timeout
        self.clock = clock
        self.report: EventSink = safe_sink(on_event)
        self.rate: Rate = Rate(self.contract.limits.calls_per_minute)
        self.refusals: Refusals = Refusals(_REFUSALS)
        self.strays: Refusals = Refusals(_REFUSALS)  # calls of no task, which may not be this host's at all
        self.used: set[str] = set()
        self.tasks: dict[str, Task] = {}
        self._ids = count()
        self._sets: dict[frozenset[str], frozenset[str]] = {}
        self.requests: dict[str, TokenRequest] = {}
        self._beginning = secrets.token_hex(4)
        self._sink, self._asked = on_event, hasattr(on_event, "ready")
        self._web = web
        self._agenda: Agenda[str] = Agenda(clock, self._due)

    def new_id(self) -> str:
        """Return an id for a call: no other one of this host has it."""
        return f"{self._beginning}{next(self._ids):08x}"

    async def open(self) -> Self:
        """Start; idempotent.

        Raises:
            ContractError: The contract is another agent's, another environment's, or has expired; or its
                actions need tokens, and there is nowhere to get them.
            SourceError: There is no identity.
        """
        if self._service is None and self.stopped is None:
            self.standing.check()
            check_tokens(self.contract, self.tokens)
            self._loop = HostLoop()
            self._service = Service(self._agenda.run, name="spiffe-client agent", crashed=self._crashed)
            self.identity.after_publish(self._identity_changed)
            if self.tokens is not None:
                self.tokens.on_withdrawal(self._tokens_withdrawn)
            if (left := self.standing.seconds_left()) is not None:
                self._agenda.put(_CONTRACT, self.clock.monotonic() + left)
            opened(self)
        return self

    async def aclose(self) -> None:
        """End all tasks, and stop; idempotent."""
        self._end_all("closed")
        self.stopped = self.stopped or "it was closed"
        closed(self)
        if self._service is not None:
            await self._service.stop()
        record_untold(self)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    if not TYPE_CHECKING:
        __enter__ = __exit__ = async_only

    def __repr__(self) -> str:
        return f"AgentHost({self.contract.agent.id}, {len(self.tasks)} tasks)"

    def task(
        self,
        purpose: str,
        actions: Collection[str],
        *,
        tenant: str = "",
        params: Mapping[str, str] = MappingProxyType({}),
        ttl: float | None = None,
    ) -> Task:
        """Make a task, to be entered with `async with`.

        Args:
            purpose: What for, in words.
            actions: What it may do: some of the contract's.
            tenant: Whose it is; what templates of resources call `tenant`.
            params: What else they are filled with.
            ttl: Seconds that it lives at most; None for as long as the contract permits.

        Raises:
            TaskError: It would have more than the contract gives.
        """
        names = frozenset((actions,) if isinstance(actions, str) else actions)
        names = self._sets.setdefault(names, names)  # most tasks of an agent hold the same
        terms = initial_terms(self, purpose, names, tenant=tenant, params=params, ttl=ttl)
        return Task(self, terms, budget=Budget(terms.calls))

    def redeem(self, ticket: Ticket | str) -> Redemption:
        """Begin the task that somebody handed on to this agent, with `async with`, or `with` in a thread.

        Args:
            ticket: As it was received.

        Raises:
            TicketError: It is malformed, late, used before, or somebody else's.
            AttenuationError: It is for actions that this agent's own contract does not have.
        """
        from spiffe_client.agents._handing_on import Redemption

        return Redemption(self, ticket)

    def stop(self, reason: str) -> None:
        """End all tasks at once and for good; from any thread, also in a signal handler."""
        self.stopped = self.stopped or reason
        if self._loop is not None:
            self._loop.soon(lambda: self._end_all("stopped", f"the agent was stopped: {self.stopped}"))

    def end_tasks(self, reason: str) -> None:
        """End all tasks that there are, not for good; from any thread, also in a signal handler."""
        if self._loop is not None:
            self._loop.soon(lambda: self._end_all("stopped", reason))

    def withdraw(self, reason: str) -> None:
        """Take the contract back: no task goes on, and none begins any more; as `stop`."""
        self.stop(f"its contract was withdrawn: {reason}")

    def check(self) -> None:
        """Return if tasks may begin here now; raises a `TaskError`, or as `open`."""
        if self._service is None or self.stopped is not None:
            raise TaskError(f"no task begins: {self.stopped or 'this agent host is not open'}")
        self.standing.check()

    def begin(self, task: Task) -> None:
        """Take in a task that is entered."""
        self.check()
        enrol(self, task)
        self.loop.call(lambda: self._agenda.put(task.id, task.deadline))
        record_start(task)

    async def finish(self, task: Task) -> None:
        """Let go of a task that has ended: its children first, then its tokens and connections."""
        strike(self, task)
        self.loop.call(lambda: self._agenda.drop(task.id))
        self.approvals.drop(task.id)
        with anyio.move_on_after(REVOKING, shield=True):
            await revoke_all(task)
        if task.clients is not None:
            with anyio.CancelScope(shield=True):
                await task.clients.aclose()
        record_end(task)

    def clients(self, task: Task) -> Clients:
        """Return the connections of a task."""
        if task.clients is None:
            from spiffe_client.agents._clients import Clients, web_context

            self._web = self._web or web_context()
            # In one step: several threads may need them first.
            vars(task).setdefault("clients", Clients(self.identity, self._web))
        assert task.clients is not None
        return task.clients

    @property
    def loop(self) -> HostLoop:
        """The event loop that it lives on.

        Raises:
            TaskError: It is not open.
        """
        if self._loop is None:
            raise TaskError(f"no task begins: {self.stopped or 'this agent host is not open'}")
        return self._loop

    @property
    def recordable(self) -> bool:
        """Whether calls can be recorded now."""
        return not self._asked or bool(getattr(self._sink, "ready", True))

    def _due(self, key: str) -> None:
        if key == _CONTRACT:
            self.stopped = self.stopped or "its contract has expired"
            self._end_all("stopped", "the agent's contract has expired")
        elif (task := self.tasks.get(key)) is not None:
            task.end("deadline")

    def _end_all(self, how: Ending, why: str = "") -> None:
        for task in list(self.tasks.values()):
            task.end(how, why)

    def _identity_changed(self) -> None:
        # Who was stopped has no identity any more, and a better reason.
        if self.stopped is None and (trouble := self.standing.trouble()):
            self.loop.call(lambda: self._end_all("stopped", f"the agent has no identity any more: {trouble}"))

    def _tokens_withdrawn(self, which: Callable[[AccessToken], bool]) -> None:
        end_affected(list(self.tasks.values()), which)

    def _crashed(self, error: Exception) -> None:
        self.stopped = self.stopped or f"a bug: {type(error).__name__}"
        self._end_all("stopped", "the agent was stopped by a bug")
