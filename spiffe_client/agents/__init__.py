"""Agents: tasks that hold just the authority they were given, and tools whose every call is decided.

| what | modules |
|---|---|
| where tasks run | `_host`, `_loop`, `_watch`, `_register`, `_options`, `_standing` |
| a task | `_task`, `_endings`, `_in_thread`, `_budget`, `_context` |
| work handed on | `_attenuation`, `_ticket`, `_handing_on` |
| a call | `_call`, `_admission`, `_denials`, `_authority`, `_clients` |
| a tool | `_guard`, `_gate`, `_arguments`, `_scrub` |
| what is told | `_records`, `_spans` |
"""

from __future__ import annotations

from spiffe_client._lazy import load_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spiffe_client.agents._arguments import arguments_digest
    from spiffe_client.agents._call import Call
    from spiffe_client.agents._context import bind, current_call, current_task
    from spiffe_client.agents._endings import Ending
    from spiffe_client.agents._gate import Answer, Requires, ToolGate
    from spiffe_client.agents._guard import guard
    from spiffe_client.agents._host import AgentHost
    from spiffe_client.agents._options import AgentOptions, TaskTerms, new_agent_host
    from spiffe_client.agents._scrub import Scrubber
    from spiffe_client.agents._standing import AgentIdentity
    from spiffe_client.agents._task import Task
    from spiffe_client.agents._ticket import TICKET_HEADER, Ticket
    from spiffe_client.agents._watch import ending_tasks

__all__ = [
    "TICKET_HEADER",
    "AgentHost",
    "AgentIdentity",
    "AgentOptions",
    "Answer",
    "Call",
    "Ending",
    "Requires",
    "Scrubber",
    "Task",
    "TaskTerms",
    "Ticket",
    "ToolGate",
    "arguments_digest",
    "bind",
    "current_call",
    "current_task",
    "ending_tasks",
    "guard",
    "new_agent_host",
]

_HOMES = {
    "TICKET_HEADER": "spiffe_client.agents._ticket",
    "AgentHost": "spiffe_client.agents._host",
    "AgentIdentity": "spiffe_client.agents._standing",
    "AgentOptions": "spiffe_client.agents._options",
    "Answer": "spiffe_client.agents._gate",
    "Call": "spiffe_client.agents._call",
    "Ending": "spiffe_client.agents._endings",
    "Requires": "spiffe_client.agents._gate",
    "Scrubber": "spiffe_client.agents._scrub",
    "Task": "spiffe_client.agents._task",
    "TaskTerms": "spiffe_client.agents._options",
    "Ticket": "spiffe_client.agents._ticket",
    "ToolGate": "spiffe_client.agents._gate",
    "arguments_digest": "spiffe_client.agents._arguments",
    "bind": "spiffe_client.agents._context",
    "current_call": "spiffe_client.agents._context",
    "current_task": "spiffe_client.agents._context",
    "ending_tasks": "spiffe_client.agents._watch",
    "guard": "spiffe_client.agents._guard",
    "new_agent_host": "spiffe_client.agents._options",
}


def __getattr__(name: str) -> object:
    return load_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
