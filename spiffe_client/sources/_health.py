"""How a source is doing, for readiness probes and people."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

from spiffe_client._values import dataclass
from spiffe_client.errors import SpiffeError

__all__ = ["Health", "State"]

#: `starting`: opened, nothing heard yet. `waiting`: no first update yet, and `last_error` says why.
#: `fresh`: holds what the Workload API said last. `degraded`: serves the last known good, and
#: `last_error` says what is wrong. `stale`: what it held has expired. `withdrawn`: the issuer took
#: it back. `closed`: not open (yet, or any more). `stopped`: its user dropped all of it, for good.
State: TypeAlias = Literal[
    "starting", "waiting", "fresh", "degraded", "stale", "withdrawn", "closed", "stopped"
]


@dataclass(frozen=True, slots=True)
class Health:
    """How a source is doing at one moment.

    Attributes:
        state: In one word, see `State`.
        since: When it came into this state (UTC).
        last_update: When the last new value was published, or None.
        expires_at: When what is held must not be used any more, or None where it has no end.
        last_error: What went wrong last, also after it was mended, or None.
        attempts: Failed attempts in a row to reach the Workload API, 0 when all is well.
    """

    state: State
    since: datetime
    last_update: datetime | None = None
    expires_at: datetime | None = None
    last_error: SpiffeError | None = None
    attempts: int = 0
