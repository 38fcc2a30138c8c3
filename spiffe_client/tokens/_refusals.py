"""What was just refused is not asked for again at once: a caller in a loop does no harm."""

from __future__ import annotations

from typing import Final

from spiffe_client.errors import SpiffeError

__all__ = ["Refusals"]

#: Seconds that a refusal is remembered.
_REMEMBERED: Final = 1.0
#: Most of them.
_MOST: Final = 1024


class Refusals:
    """The last refusals by key."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[bytes, tuple[float, SpiffeError]] = {}

    def __len__(self) -> int:
        return len(self._until)

    def note(self, key: bytes, error: SpiffeError, *, now: float) -> None:
        """Remember a refusal, heard at `now` in monotonic seconds."""
        if len(self._until) >= _MOST:
            live = {key: held for key, held in self._until.items() if now < held[0]}
            self._until = live if len(live) < _MOST else {}
        self._until[key] = (now + _REMEMBERED, error)

    def of(self, key: bytes, *, now: float) -> SpiffeError | None:
        """Return what was just refused for this key, None if nothing was."""
        held = self._until.get(key)
        if held is None:
            return None
        if now >= held[0]:
            del self._until[key]
            return None
        return held[1]
