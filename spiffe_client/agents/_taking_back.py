"""How what a task's calls were made with is taken back, when they or their task have ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import anyio

from spiffe_client.agents._authority import Authority, revoke
from spiffe_client.errors import SpiffeError

if TYPE_CHECKING:
    from spiffe_client.agents._task import Task
    from spiffe_client.tokens import SecurityToken

__all__ = ["REVOKING", "give_back", "revoke_all", "take_back", "withdraw_single"]

#: Seconds within which what was taken back is revoked; it is of no use here from the start.
REVOKING: Final = 2.0


def withdraw_single(task: Task, call: str) -> list[Authority]:
    """End what was for one call alone, and the parent's that it was made from; return what is to be given back.

    Until that is done it is kept in `task.leftover`.
    """
    found: list[Authority] = []
    above: Task | None = task
    while above is not None:
        if (single := above.authorities.pop(call, None)) is not None:
            single.withdraw(task.ending())
            if single.left:
                found.append(single)
        above = above.parent
    task.leftover += found
    return found


async def give_back(task: Task, singles: Sequence[Authority]) -> None:
    """Have what `withdraw_single` returned revoked; what is not for a cancellation is with the task's end."""
    for single in singles:
        await take_back(task, single)
        task.leftover.remove(single)


async def revoke_all(task: Task) -> None:
    """Have all tokens of a task that has ended revoked."""
    # Calls that are slow to end take theirs out meanwhile.
    held: list[Authority | SecurityToken] = [*task.authorities.values(), *task.leftover, *task.tickets]
    while held:
        try:
            await take_back(task, held[0])
        except anyio.get_cancelled_exc_class():  # the time is over
            task.not_revoked += sum(len(one.left) if isinstance(one, Authority) else 1 for one in held)
            raise
        del held[0]


async def take_back(task: Task, what: Authority | SecurityToken) -> None:
    """Have what is left of an authority, or a ticket, revoked, and count that on its task."""
    more = True
    while more:
        try:
            if isinstance(what, Authority):
                task.revoked += bool(what.left) and await what.revoke()
            elif task.host.tokens is not None:
                task.revoked += await revoke(task.host.tokens, what)
        except SpiffeError:
            task.not_revoked += 1
        more = isinstance(what, Authority) and bool(what.left)
