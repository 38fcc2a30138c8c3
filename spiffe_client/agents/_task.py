"""A task: a bounded piece of work, with just the authority it was given, which ends with it."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, NoReturn, Self

from spiffe_client._door import Door
from spiffe_client.agents._attenuation import Terms, attenuate
from spiffe_client.agents._budget import Budget
from spiffe_client.agents._call import Call
from spiffe_client.agents._context import TASK
from spiffe_client.agents._denials import refusal
from spiffe_client.agents._endings import Ending, ended
from spiffe_client.agents._in_thread import QUIET, InThread
from spiffe_client.agents._records import record_refusal
from spiffe_client.agents._register import strike
from spiffe_client.agents._scope import Scope
from spiffe_client.errors import SpiffeError, TaskEndedError, TaskError

if TYPE_CHECKING:
    from spiffe_client.agents._authority import Authority
    from spiffe_client.agents._clients import Clients
    from spiffe_client.agents._host import AgentHost
    from spiffe_client.agents._permit import Permit
    from spiffe_client.agents._ticket import Redeemed, Ticket
    from spiffe_client.ids import SpiffeId
    from spiffe_client.tokens import AccessToken, SecurityToken

__all__ = ["Task"]

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Task(InThread):
    """Made by `AgentHost.task`, and alive within `async with`, or `with` in a thread.

    It is found by tools through a context variable, in all tasks and threads that are started inside.
    When it ends, however that comes about, its authority ends in the same moment: calls that run are
    cancelled, calls to come are refused, and its tokens are forgotten, then revoked where the token
    broker can.

    Attributes:
        id: Random, 128 bits in hex.
        host: Where it runs.
        terms: What it was given.
        agent: For whom: the host's own agent, or one that work was handed on to.
        purpose: What for, in words.
        actions: What it may do, by name.
        tenant: Whose it is, if anybody's.
        params: What templates of resources are filled with, and `names` with the tenant among them.
        deadline: When it ends at the latest, in monotonic seconds.
        parent: The task that handed this work on in this process; None for none.
        parents: The ids of the tasks that it descends from, the nearest first.
        root: What its tokens are made from, if it was begun with a ticket; `tickets`: those that it had issued.
        budget: Its calls.
        previous: What it did last; None before the first call.
        ended: How it ended, and the reason in words; None while it is alive.
        calls: Those that run now, by id; `children`: tasks that work was handed on to.
        permits: What it has of each action, once it was called.
        authorities: What its calls are made with, by action, or by call where it is for one only.
        leftover: Of the latter, what is withdrawn and not given back yet.
        replays: The ids of calls that may be made again, by what they are; `counted`: how often they were.
        clients: Its connections, once it has any.
        facts: What the audit is told of it each time, and for which SVID.
        denied: How many calls were denied.
        revoked: How many tokens the token broker was told of; `not_revoked`: could not be told of.
        trace_id: Of the trace it is part of (W3C Trace Context); made for it where there is none.
    """

    deadline: float = 0.0
    previous: str | None = None
    ended: tuple[Ending, str] | None = None
    denied: int = 0
    revoked: int = 0
    not_revoked: int = 0
    clients: Clients | None = None
    tickets: Sequence[SecurityToken] = ()
    replays: dict[tuple[str, str, str, str | None], str] | None = None
    counted: dict[str, int] | None = None
    facts: tuple[tuple[str, str], dict[str, str | int | float | bool]] | None = None
    _begun_at: float = 0.0
    _scope: Scope | None = None
    _outside: Task | None = None

    def __init__(
        self,
        host: AgentHost,
        terms: Terms,
        *,
        budget: Budget,
        parent: Task | None = None,
        redeemed: Redeemed | None = None,
    ) -> None:
        self.id: str = secrets.token_hex(16)
        self.host = host
        self.terms = terms
        self.agent: SpiffeId = terms.agent
        self.purpose: str = terms.purpose
        self.actions: frozenset[str] = terms.actions
        self.tenant: str = terms.tenant
        self.params: Mapping[str, str] = MappingProxyType(dict(terms.params)) if terms.params else _NONE
        tenant = {"tenant": terms.tenant} if terms.tenant else {}
        self.names: MappingProxyType[str, str] = MappingProxyType({**terms.params, **tenant})
        self.budget = budget
        self.parent = parent
        self.parents: tuple[str, ...] = () if parent is None else (parent.id, *parent.parents)
        self.trace_id: str = secrets.token_hex(16) if parent is None else parent.trace_id
        self.authorities: dict[str, Authority] = {}
        self.leftover: list[Authority] = []
        self.root: AccessToken | None = None
        if redeemed is not None:
            self.parents, self.trace_id, self.root = redeemed.parents, redeemed.trace_id, redeemed.token
        self.calls: dict[str, Call] = {}
        self.permits: dict[str, Permit] = {}
        self.children: dict[str, Task] = {}

    def __reduce__(self) -> NoReturn:
        raise TypeError("a task cannot be pickled or copied: what travels is a ticket")

    def __repr__(self) -> str:
        how = "alive" if self.ended is None else self.ended[0]
        return f"Task({self.id[:8]}, {self.purpose!r:.60}, {how})"

    async def __aenter__(self) -> Self:
        if self._scope is not None:
            raise TaskError("this task was begun before; make a new one")
        try:
            self._scope = Scope(self.host.loop.door())  # before anybody knows of it who may end it
        except SpiffeError as error:
            record_refusal(self.host, "task.refused", error, self)
            raise
        self._begun_at = self.host.clock.monotonic()
        self.deadline = self._begun_at + self.terms.seconds
        if self.parent is not None:
            self.deadline = min(self.deadline, self.parent.deadline)
        try:
            self.host.begin(self)
        except BaseException as error:  # what did not begin is no task whose calls could be made
            self.end("failed", "the task has not begun")
            strike(self.host, self)
            if isinstance(error, SpiffeError):
                record_refusal(self.host, "task.refused", error, self)
            raise
        self._scope.__enter__()
        self._scope.note_place()
        self._outside = TASK.get()
        TASK.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._scope is not None
        TASK.set(self._outside)
        open_here = any(call.in_place for call in self.calls.values())
        # First of all: the scope says no if it is left in the wrong order, as in a generator.
        self.end("finished" if kind is None else "failed" if issubclass(kind, Exception) else "cancelled")
        try:
            self._scope.__exit__(kind, error, trace)
        finally:
            await self.host.finish(self)
        if open_here:
            raise TaskError(
                "this task was left inside of one of its calls, which has ended with it"
            ) from error
        early = self.ended is not None and self.ended[0] not in QUIET
        if self._scope.caught or (early and kind is None):
            raise self.ending() from None
        return False

    def call(
        self,
        action: str,
        resource: str = "",
        *,
        arguments: Mapping[str, object] = MappingProxyType({}),
        classification: str = "",
    ) -> Call:
        """Make one call of this task, to be entered with `async with` (or `with`, in a thread).

        Args:
            action: What is done, as the contract calls it.
            resource: To what, such as `tenants/acme/invoices/7`.
            arguments: With what; only their digest is kept.
            classification: How confidential what it touches is.
        """
        return Call(self, action, resource, arguments=arguments, classification=classification)

    def delegate(
        self,
        agent: SpiffeId | str,
        actions: Collection[str],
        *,
        purpose: str = "",
        resources: Collection[str] | None = None,
        ttl: float | None = None,
        calls: int | None = None,
    ) -> Task:
        """Hand on some of this work in this process, to be entered with `async with`; it ends with this task.

        Args:
            agent: To whom; the contract must name it and the actions among its delegates.
            actions: Some of this task's.
            purpose: What for; empty for the same.
            resources: Some of this task's, as templates; None for all.
            ttl: Seconds; None for what this task has left.
            calls: How many of this task's; None for all it has left.

        Raises:
            AttenuationError: It would be more than this task has.
        """
        terms = attenuate(self, agent, actions, purpose=purpose, resources=resources, ttl=ttl, calls=calls)
        return Task(self.host, terms, budget=Budget(terms.calls, self.budget), parent=self)

    async def ticket(
        self,
        agent: SpiffeId | str,
        actions: Collection[str],
        *,
        calls: int,
        purpose: str = "",
        resources: Collection[str] | None = None,
        ttl: float | None = None,
        redeem_within: float = 30.0,
    ) -> Ticket:
        """Hand on some of this work to an agent in another process, which redeems the ticket once.

        What that agent does ends with this task where the token broker can revoke.

        Args:
            agent: To whom, as `delegate`.
            actions: Some of this task's.
            calls: How many of this task's; they are taken from it at once.
            purpose: What for; empty for the same.
            resources: Some of this task's, as templates; None for all.
            ttl: Seconds that it lives once it is redeemed; None for what this task has left.
            redeem_within: Seconds, a minute at most.

        Raises:
            AttenuationError: It would be more than this task has.
            TokenError: The token broker does not issue it.
        """
        terms = attenuate(self, agent, actions, purpose=purpose, resources=resources, ttl=ttl, calls=calls)
        from spiffe_client.agents._handing_on import send

        return await send(self, terms, redeem_within)

    def end(self, how: Ending, why: str = "") -> None:
        """End it and all that it handed on; the first reason counts. From any thread, not in a signal handler."""
        if self.ended is None:
            self.ended = ended(how, why)
        error = self.ending()
        for child in list(self.children.values()):
            child.end("parent")
        # What they are made with goes first: a call that is slow to end has nothing to go on with.
        for authority in list(self.authorities.values()):
            authority.withdraw(error)
        inside = [call.end() for call in list(self.calls.values())]
        if self._scope is not None and (how not in QUIET or any(inside)):
            self._scope.cancel()

    def inside(self, *, in_place: bool = False) -> Scope | None:
        """Return a cancel scope for a call that this code is about to make; None where the task's own will do."""
        scope = self._scope
        if scope is None:
            return Scope(Door())
        return None if in_place and scope.innermost else scope.another()

    def ending(self) -> TaskEndedError:
        """Make the error for who comes too late."""
        how, why = self.ended or ended("finished")
        return TaskEndedError(f"not permitted: {why}", decision=refusal("task_ended", "task", ("how", how)))

    def refuse(self, now: float) -> None:
        """Return if it is alive.

        Args:
            now: Monotonic seconds.

        Raises:
            TaskEndedError: It is not, or the host was stopped.
        """
        if self.ended is None:
            if self._scope is None:
                raise TaskError("this task has not begun: use `async with me.task(…) as task:`")
            if self.host.stopped is not None:
                self.end("stopped", f"the agent was stopped: {self.host.stopped}")
            elif now >= self.deadline:
                self.end("deadline")
            else:
                return
        raise self.ending()

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return self.host.clock.monotonic() - self._begun_at
