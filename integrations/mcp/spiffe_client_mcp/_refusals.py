"""What a server tells of tokens that it has refused: a code, and nothing that was shown; and it is no flood."""

from __future__ import annotations

import logging
from typing import Final

from spiffe_client._clock import Clock
from spiffe_client.agents._budget import Refusals
from spiffe_client.audit import Event, EventSink, safe_sink

__all__ = ["RefusedTokens"]

#: Anybody can show a server a token: as many are told one by one in a minute, of the rest how many there were.
_MOST: Final = 60


class RefusedTokens:
    """Tells `token.refused`.

    Args:
        on_event: Takes it; None for the log.
        clock: What says now.
    """

    def __init__(self, on_event: EventSink | None, clock: Clock) -> None:
        self._tell = safe_sink(on_event)
        self._clock = clock
        self._refusals = Refusals(_MOST)

    def tell(self, why: str, reason: str, **facts: str) -> None:
        """Tell of one.

        Args:
            why: In words of ours.
            reason: The code that RFC 6750 and RFC 9449 have for it.
            facts: What else is known.
        """
        untold = self._refusals.take(self._clock.monotonic())
        if untold is None:
            return
        more = {"untold": untold} if untold else {}
        verdict = {"decision": "deny", "reason": reason, "outcome": "denied"}
        self._tell(Event("token.refused", why, {**facts, **verdict, **more}, logging.WARNING))
