"""How a token broker client is doing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from spiffe_client.errors import SpiffeError

__all__ = ["TokenHealth"]


@dataclass(frozen=True, slots=True)
class TokenHealth:
    """How a token broker client is doing at one moment.

    Attributes:
        state: `ready`: open, and no trouble is known. `unavailable`: the token broker could not be
            used the last time. `no_identity`: there was no identity to show to it the last time. Tokens
            that are held stay usable in both. `stopped`: by `stop`. `closed`: not
            open, or opened before a fork.
        since: From when on that is so, UTC.
        tokens: How many are held.
        last_error: Why it is `unavailable`, or has `no_identity`.
        hits: How often a token was read from memory since it was opened, about.
        misses: How often somebody had to wait for the token broker.
    """

    state: Literal["ready", "unavailable", "no_identity", "stopped", "closed"]
    since: datetime
    tokens: int = 0
    last_error: SpiffeError | None = None
    hits: int = 0
    misses: int = 0
