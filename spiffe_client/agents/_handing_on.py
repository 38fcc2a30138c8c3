"""Work that goes to another process and comes from one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

import anyio

from spiffe_client.agents._attenuation import Terms
from spiffe_client.agents._authority import Root
from spiffe_client.agents._budget import Budget
from spiffe_client.agents._records import record_granted, record_redeemed, record_refusal
from spiffe_client.agents._taking_back import REVOKING, revoke_all, take_back
from spiffe_client.agents._task import Task
from spiffe_client.agents._ticket import Ticket, issue_ticket, redeem_ticket
from spiffe_client.errors import AttenuationError, SpiffeError, TicketError

if TYPE_CHECKING:
    from spiffe_client.agents._host import AgentHost

__all__ = ["Redemption", "send"]

_LONGEST = 60.0


@contextmanager
def _told(host: AgentHost, task: Task | None = None, to: str = "") -> Iterator[None]:
    """Tell that work was not handed on by a task, or not taken over by a host, if that is how it ends."""
    try:
        yield
    except SpiffeError as error:
        record_refusal(host, "delegation.refused", error, task, to=to)
        raise


async def send(task: Task, terms: Terms, seconds: float) -> Ticket:
    """Have a ticket issued for what a task hands on.

    Args:
        task: Which.
        terms: To whom, and what.
        seconds: How long it may be redeemed.

    Raises:
        AttenuationError: There are fewer calls left than it is for.
        TicketError: That is longer than a minute, or there is no token broker.
        TaskEndedError: The task ended while it was issued; it is of no use.
        TokenError: The token broker does not issue it.
    """
    with _told(task.host, task, str(terms.agent)):
        if not 0 < seconds <= _LONGEST:
            raise TicketError(f"a ticket is redeemed within {_LONGEST:g} s, not {seconds:g} s")
        return await _sent(task, terms, seconds)


async def _sent(task: Task, terms: Terms, seconds: float) -> Ticket:
    # What somebody else counts cannot be counted here: it is gone from this task's own, and that before
    # anybody is asked, as others may hand on work meanwhile.
    if not task.budget.give(terms.calls):
        there = f"{task.budget.left} calls"
        raise AttenuationError(f"there are {there} to give", asked=f"{terms.calls} calls", held=there)
    try:
        ticket, token = await issue_ticket(task, terms, seconds)
    except BaseException:
        task.budget.take_back(terms.calls)
        raise
    task.tickets = (*task.tickets, token)
    if task.ended is not None:  # meanwhile; whoever takes back its tickets may have been here before
        with anyio.move_on_after(REVOKING, shield=True):
            await take_back(task, token)
        raise task.ending()
    record_granted(task, terms, "")
    return ticket


class Redemption:
    """The task that a ticket is worth, to be begun with `async with`, or `with` in a thread; see `AgentHost.redeem`.

    Args:
        host: Where it runs.
        ticket: As it was received.

    Raises:
        TicketError: That is no ticket, to look at.
    """

    __slots__ = ("_async_stack", "_host", "_stack", "_ticket")

    def __init__(self, host: AgentHost, ticket: Ticket | str) -> None:
        self._host = host
        with _told(host):
            self._ticket = ticket if isinstance(ticket, Ticket) else Ticket(ticket)
        self._async_stack: AsyncExitStack
        self._stack: ExitStack

    async def __aenter__(self) -> Task:
        task = await self._redeem()
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(task)
            except BaseException:  # it did not begin, and what the ticket was worth is of no use to anybody
                await _return(task)
                raise
            record_redeemed(task)
            self._async_stack = stack.pop_all()
        return task

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._async_stack.__aexit__(kind, error, trace)

    def __enter__(self) -> Task:
        loop = self._host.loop
        task = loop.wait_for(self._redeem)
        with ExitStack() as stack:
            try:
                stack.enter_context(task)
            except BaseException:
                loop.try_for(_return, task)
                raise
            record_redeemed(task)
            self._stack = stack.pop_all()
        return task

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    async def _redeem(self) -> Task:
        with _told(self._host):
            return await self._asked_for()

    async def _asked_for(self) -> Task:
        host = self._host
        host.check()  # a ticket that is redeemed is gone
        limits, agent = host.contract.limits, host.contract.agent.id
        redeemed = await redeem_ticket(
            host.tokens, self._ticket, host.contract, partition=f"ticket of {agent}", now=host.clock.now()
        )
        terms = redeemed.terms
        terms = replace(
            terms,
            seconds=min(terms.seconds, limits.task_seconds),
            calls=min(terms.calls, limits.calls_per_task),
            depth=min(terms.depth, limits.delegation_depth),
        )
        task = Task(host, terms, budget=Budget(terms.calls), redeemed=redeemed)
        task.authorities[""] = Root(redeemed.broker, redeemed.token)
        return task


async def _return(task: Task) -> None:
    with anyio.move_on_after(REVOKING, shield=True):
        await revoke_all(task)
