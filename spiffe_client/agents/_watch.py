"""Security events that are about an agent as such, and what they mean for its tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from spiffe_client.audit import Event, EventSink, safe_sink

if TYPE_CHECKING:
    from spiffe_client.agents._host import AgentHost

__all__ = ["ending_tasks"]


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
