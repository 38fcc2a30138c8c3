"""The stable keys of an event's attributes where agents act, and the names of what a trail says itself.

They are flat: text, numbers and truth values. Sinks, reports and mappers look for these and pass
on whatever else an event has. `docs/audit.md` says what each means.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ACTION",
    "AGENT",
    "ALLOW",
    "APPROVAL",
    "ARGUMENTS",
    "AUDIENCE",
    "CALL",
    "CHILD",
    "DECISION",
    "DELEGATE",
    "DENY",
    "DURATION_MS",
    "ENDED",
    "EXPIRES_AT",
    "ORIGIN",
    "OUTCOME",
    "PARENTS",
    "PEER",
    "POLICY",
    "PURPOSE",
    "REASON",
    "REFUSED",
    "RESOURCE",
    "SVID_SERIAL",
    "TASK",
    "TENANT",
    "TOKEN",
    "TRACE_ID",
    "WORKLOAD",
]

# Who: the workload's SPIFFE ID and its X509-SVID's serial number (hex), the token's fingerprint, the
# agent's SPIFFE ID, the ids of its task and of those that task descends from, nearest first, with
# spaces between, and of the call.
WORKLOAD: Final = "workload"
SVID_SERIAL: Final = "svid_serial"
TOKEN: Final = "token"  # noqa: S105 - a key
AGENT: Final = "agent"
TASK: Final = "task"
PARENTS: Final = "parents"
CALL: Final = "call"

# What: the contract's name for it, what it was done to, whose that is, SHA-256 of the arguments.
ACTION: Final = "action"
RESOURCE: Final = "resource"
TENANT: Final = "tenant"
ARGUMENTS: Final = "arguments"

# Where: whom the token is for, who was on the other end, and where it was not sent. To whom authority was handed on,
# and the id of the task that it became.
AUDIENCE: Final = "audience"
PEER: Final = "peer"
ORIGIN: Final = "origin"
DELEGATE: Final = "to"
CHILD: Final = "child"

# Why: the task's purpose, `allow` or `deny`, the reason's code, whose word that is, who approved.
PURPOSE: Final = "purpose"
DECISION: Final = "decision"
REASON: Final = "reason"
POLICY: Final = "policy"
APPROVAL: Final = "approval"
ALLOW: Final = "allow"
DENY: Final = "deny"
#: The event of a no by a person. The call that it was about is denied, too, and counted for both.
REFUSED: Final = "approval.refused"

# How it went: `ok`, `error`, `cancelled` or `denied`; how the task ended that cancelled it; milliseconds;
# W3C trace id, hex; until when a credential is good, RFC 3339.
OUTCOME: Final = "outcome"
ENDED: Final = "ended"
DURATION_MS: Final = "duration_ms"
TRACE_ID: Final = "trace_id"
EXPIRES_AT: Final = "expires_at"
