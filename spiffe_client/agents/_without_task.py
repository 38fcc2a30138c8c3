"""Calls that are part of no task: they are told to every agent that is open in this process, which is one as a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from spiffe_client.agents._records import no_task, record_no_task
from spiffe_client.audit import log_event

if TYPE_CHECKING:
    from spiffe_client.agents._host import AgentHost

__all__ = ["closed", "opened", "tell_no_task"]

#: Hosts by their identity: which of them such a call would have been for nobody can say.
_OPEN: Final[WeakValueDictionary[int, AgentHost]] = WeakValueDictionary()


def opened(host: AgentHost) -> None:
    """Remember that a host is open here."""
    _OPEN[id(host)] = host


def closed(host: AgentHost) -> None:
    """Forget a host."""
    _OPEN.pop(id(host), None)


def tell_no_task(action: str) -> None:
    """Tell that a call was denied since there is no task whose it could be; from any thread.

    To the audit of each host that is open: somebody works beside the agent there. Where none is open, to the log.

    Args:
        action: What was to be done.
    """
    # A list first: others open and close meanwhile.
    hosts = [host for ref in _OPEN.valuerefs() if (host := ref()) is not None]
    for host in hosts:
        record_no_task(host, action)
    if not hosts:
        log_event(no_task(action))
