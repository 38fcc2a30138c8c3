"""How soon to ask again, and when a denial is final: decided without I/O and without a clock."""

from __future__ import annotations

from spiffe_client._retry import Backoff

__all__ = ["Denial", "Pace"]

#: A stream that lived this long, in seconds, was a working one: counting failures starts anew.
_STEADY = 1.0
#: Beyond this many failures in a row no backoff grows any more, and powers of two are not computed.
_MANY = 30


class Pace:
    """Delays between streams.

    A stream that ended well is reopened at once, but only the first in a row: a server that
    answers and closes, over and over, meets the same backoff as one that fails (Workload Endpoint
    §6: never a tight loop).
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._in_a_row = 0

    def ended(self, lived: float) -> float:
        """Return the seconds to wait after a stream that delivered and ended well."""
        self._count(lived)
        return 0.0 if self._in_a_row == 1 else self._backoff.delay(self._in_a_row - 1)

    def failed(self, lived: float) -> float:
        """Return the seconds to wait after a stream that failed."""
        self._count(lived)
        return self._backoff.delay(self._in_a_row)

    def _count(self, lived: float) -> None:
        self._in_a_row = 1 if lived >= _STEADY else min(self._in_a_row + 1, _MANY)


class Denial:
    """Whether the issuer really takes an identity back, or is only starting up.

    One PermissionDenied is doubted and the question asked again at once; a second one in a row
    confirms it, and then what was issued has to go when the grace is over, counted from the first.

    Args:
        grace: In seconds; long enough for an agent's restart, short enough to stop a workload.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._first: float | None = None
        self._confirmed = False

    def heard(self, now: float) -> float | None:
        """Take note of a denial at monotonic time `now`.

        Returns:
            When what was issued has to go, on the same scale; None to ask again at once.
        """
        if self._first is None:
            self._first = now
            return None
        self._confirmed = True
        return self._first + self._grace

    def doubted(self) -> None:
        """Take note that the question was not answered: a lone denial counts for nothing then."""
        if not self._confirmed:
            self._first = None

    def lifted(self) -> None:
        """Take note that the identity was issued again."""
        self._first, self._confirmed = None, False
