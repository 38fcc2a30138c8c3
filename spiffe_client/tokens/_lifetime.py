"""How long a token is used, and when its successor is fetched: pure arithmetic.

All of it is on the monotonic clock and counted from when the request *started*: the token broker
counts from some moment after that, so nothing is ever used too long, and nobody's wall clock
matters. Fractions of the lifetime, never fixed offsets: a token of 60 s has all of its phases, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["Lifetime"]

#: For a token that does not say how long it lives: never "for ever".
_UNKNOWN: Final = 60.0
#: What lives no longer than this is not kept: it would be fetched again all the time.
_NOT_KEPT: Final = 10.0
_SOFT: Final = 0.75
_JITTER: Final = 0.1
#: A token is not handed out any more when this share of its life is left, or so many seconds.
_HARD: Final = 0.1
_HARD_SECONDS: Final = 10.0
#: Between two fetches for one request: a share of the life, and seconds.
_FLOOR: Final = 0.02
_FLOOR_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The phases of one token: fresh until `soft`, due until `hard`, then expired.

    Attributes:
        ttl: Seconds it is used at most, from the start of the request.
        soft: From when on (monotonic seconds) a successor is fetched in the background.
        hard: From when on it is not handed out any more.
        ends: When it expires.
        floor: Seconds between two attempts to replace it, at least.
    """

    ttl: float
    soft: float
    hard: float
    ends: float
    floor: float

    def overdue(self, now: float) -> bool:
        """Return whether its successor comes late: what was to fetch it failed, or slept."""
        return now > self.soft + self.floor

    @classmethod
    def of(
        cls,
        expires_in: float | None,
        *,
        started_at: float,
        refresh_in: float | None = None,
        max_ttl: float = 3600.0,
        spread: bool = False,
        former: Lifetime | None = None,
        draw: Callable[[], float] = random.random,
    ) -> Self:
        """Work out the phases.

        Args:
            expires_in: Seconds, as the token broker says (RFC 6749 §5.1); None or 0 for unknown.
            started_at: When the request started, in monotonic seconds.
            refresh_in: After how many seconds the token broker wants to be asked again, if it says so.
            max_ttl: Seconds it is used at most, whatever it says: also what is left of the
                certificate that it is bound to.
            spread: Whether this token was waited for, such as the first one after a start. All
                workloads that started together then come back at moments spread evenly over the
                whole interval, and not in a wave.
            former: The phases so far, where it is the same token once more: a token broker that
                keeps tokens, too. It does not live any longer for that, whatever it says.
            draw: Draws a number from 0 to 1.
        """
        most = max_ttl if former is None else min(max_ttl, former.ends - started_at)
        ttl = max(0.0, min(expires_in or _UNKNOWN, most))
        floor = max(_FLOOR_SECONDS, _FLOOR * ttl)
        hard = ttl - min(_HARD_SECONDS, _HARD * ttl)
        soft = _SOFT * ttl if refresh_in is None else min(refresh_in, hard)
        soft -= draw() * _JITTER * ttl
        soft = max(soft, floor)
        if spread:
            soft = _FLOOR_SECONDS + draw() * max(0.0, soft - _FLOOR_SECONDS)
        expires_at = started_at + hard if former is None else min(started_at + hard, former.hard)
        return cls(
            ttl=ttl if former is None else former.ttl,
            soft=min(started_at + soft, expires_at),
            hard=expires_at,
            ends=started_at + ttl,
            floor=floor,
        )

    @property
    def kept(self) -> bool:
        """Whether it is worth keeping, and refreshing."""
        return self.ttl > _NOT_KEPT
