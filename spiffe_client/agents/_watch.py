"""Security events about an agent as such, or about tokens of its, and what they mean for its tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from spiffe_client.audit import Event, EventSink, safe_sink

if TYPE_CHECKING:
    from spiffe_client.agents._host import AgentHost
    from spiffe_client.agents._task import Task
    from spiffe_client.tokens import AccessToken

__all__ = ["end_affected", "ending_tasks"]


def ending_tasks(sink: EventSink | None, host: Callable[[], AgentHost | None]) -> EventSink:
    """Return a sink that ends all tasks when a security event takes all tokens back (CAEP 1.0 §3).

    Args:
        sink: Takes the events as well; None for the log.
        host: Returns where the tasks run; None if there is no such place (yet).
    """
    told = safe_sink(sink)

    def tell(event: Event) -> None:
        told(event)
        if event.name == "security_event.received" and event.attributes.get("all"):
            where = host()
            if where is not None:
                where.end_tasks("a security event took this agent's tokens back")

    return tell


def end_affected(tasks: Collection[Task], which: Callable[[AccessToken], bool]) -> None:
    """End the tasks that work with tokens which a security event takes back (CAEP 1.0 §3); from any thread.

    Those are the tokens that their calls were begun with, those at hand for calls to come, and what
    a ticket was worth; each is also known by what it was made from. A new one would be issued for the
    next call, so the task goes, and not only the call.

    Args:
        tasks: All there are.
        which: Says whether a token is taken back.
    """
    for task in tasks:
        begun = [call.token for call in list(task.calls.values())]
        held = [authority.peek() for authority in list(task.authorities.values())]
        if any(token is not None and which(token) for token in (*begun, *held)):
            task.end("stopped", "a security event took a token of this task back")
