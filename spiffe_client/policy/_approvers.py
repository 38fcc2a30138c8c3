"""An approver that asks a function of the program it runs in."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio.to_thread

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.policy._approval import Approval, ApprovalRequest

__all__ = ["CallbackApprover"]

_Said: TypeAlias = bool | str | Approval | None


class CallbackApprover:
    """Asks a function of yours.

    A function that is not a coroutine function runs in a thread, so it may block: what it returns
    after the deadline does not count.

    Args:
        ask: Takes the request; returns False or None for a no, True for a yes, the name of who said
            yes, or `request.approve(by=…)` of what was shown, where questions and answers could be
            mixed up on their way. Anything else is a no.
        name: Who says yes where `ask` returns True.
        clock: For when.
    """

    def __init__(
        self,
        ask: Callable[[ApprovalRequest], _Said | Awaitable[_Said]],
        *,
        name: str = "callback",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._ask = ask
        self._name = name
        self._clock = clock

    async def approve(self, request: ApprovalRequest) -> Approval | None:
        """See `Approver.approve`.

        Raises:
            TypeError: The function returned something else.
        """
        if inspect.iscoroutinefunction(self._ask) or inspect.iscoroutinefunction(type(self._ask).__call__):
            answer: object = self._ask(request)
        else:
            # In a tuple: trio takes no coroutine out of a thread.
            (answer,) = await anyio.to_thread.run_sync(lambda: (self._ask(request),), abandon_on_cancel=True)
        if inspect.isawaitable(answer):
            answer = await answer
        if answer is None or answer is False:
            return None
        if isinstance(answer, Approval):
            return answer
        if answer is not True and not (isinstance(answer, str) and answer):
            raise TypeError(
                f"an approver's function returns bool, a name, an approval or None, not {type(answer).__name__}"
            )
        who = answer if isinstance(answer, str) else self._name
        return request.approve(by=who, clock=self._clock)
