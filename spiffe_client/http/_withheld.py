"""Tells of credentials that were not sent where a request went."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

from spiffe_client.audit import Event, EventSink, safe_sink
from spiffe_client.errors import TokenOriginError
from spiffe_client.tokens._origin import Origin

__all__ = ["Withheld"]

#: Whoever chooses addresses can choose others without end: so many are told, and remembered.
_MOST: Final = 64


class Withheld:
    """Tells `credential.withheld`, once for each origin.

    Args:
        named: Whom the credential is for.
        on_event: Takes it; None for the log.
    """

    __slots__ = ("_named", "_origins", "_tell")

    def __init__(self, named: Collection[str], on_event: EventSink | None) -> None:
        self._named = named
        self._tell = safe_sink(on_event)
        self._origins: set[Origin] = set()

    def tell(self, origin: Origin) -> None:
        """Tell that it was not sent to an origin; nothing else of an address is told."""
        if origin in self._origins or len(self._origins) >= _MOST:
            return
        self._origins.add(origin)
        reason = TokenOriginError.code
        facts = {"origin": f"{origin!s:.300}", "audience": " ".join(self._named)}
        verdict = {"decision": "deny", "reason": reason, "outcome": "denied"}
        last = "; of other origins no more is told" if len(self._origins) == _MOST else ""
        message = f"a token was withheld: {reason}{last}"
        self._tell(Event("credential.withheld", message, facts | verdict, logging.WARNING))
