"""A fleet of workloads under a virtual clock: the package's own policy code, and nothing but it, decides.

One event is one try of one workload. `Lifetime` says when a token is due, `Retries` whether a failed
try is repeated, `renew_at` when a renewal is, `Gate` who waits: the same calls as in the cache, without
its event loop, so that a hundred thousand workloads fit into one process.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

from spiffe_client.errors import TokenBrokerUnavailableError
from spiffe_client.tokens._gates import Gate
from spiffe_client.tokens._lifetime import Lifetime
from spiffe_client.tokens._retries import Retries, asked_patience, renew_at

__all__ = ["Fleet", "Outage", "Run"]

#: Seconds that a caller waits for a token at most, and after which the next one comes where a
#: workload has none: somebody needs it all the time.
DEADLINE = 10.0
NEXT_CALLER = 1.0


@dataclass(frozen=True, slots=True)
class Outage:
    """The token broker is down from `start` to `end`; `retry_after` if it says so."""

    start: float
    end: float
    retry_after: float | None = None


@dataclass(slots=True)
class Run:
    """What the token broker saw.

    Attributes:
        tries: Per second since the restart, answered or not.
        without: Seconds that workloads were without a valid token after their first one, in sum.
        longest: The longest of these.
    """

    tries: Counter[int] = field(default_factory=Counter)
    without: float = 0.0
    longest: float = 0.0


class Workload:
    """One workload with one token that is in use all the time."""

    __slots__ = ("gate", "life", "retries", "until")

    def __init__(self) -> None:
        self.life: Lifetime | None = None
        self.gate = Gate()
        self.retries: Retries | None = None
        self.until = 0.0


class Fleet:
    """All workloads restart at 0.

    Args:
        size: How many.
        ttl: Seconds that each token lives.
        outage: When the token broker is down.
        seed: Of all chance.
    """

    def __init__(self, size: int, ttl: float, outage: Outage, seed: int = 1) -> None:
        self._size = size
        self._ttl = ttl
        self._outage = outage
        random.seed(seed)  # also what tenacity draws from
        self._heap: list[tuple[float, int, Workload]] = []
        self._serial = 0
        self.run = Run()

    def play(self, seconds: float) -> Run:
        """Let time pass."""
        for _ in range(self._size):
            self._at(0.0, Workload())
        while self._heap and self._heap[0][0] < seconds:
            now, _, workload = heapq.heappop(self._heap)
            if workload.life is not None and now < workload.life.hard:
                self._renew(workload, now)
            else:
                self._need(workload, now)
        return self.run

    def _at(self, time: float, workload: Workload) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (time, self._serial, workload))

    def _renew(self, workload: Workload, now: float) -> None:
        """As `TokenCache` when a token is due: one try, ahead of need."""
        life = workload.life
        assert life is not None
        closed = workload.gate.left(now)
        if closed or not self._try(workload, now, Retries(1), spread=False):
            self._at(renew_at(life, now=now, closed=workload.gate.left(now)), workload)

    def _need(self, workload: Workload, now: float) -> None:
        """As `ask` while somebody waits: up to three tries within the deadline, then the next caller."""
        if workload.retries is None:
            workload.retries, workload.until = Retries(), now + DEADLINE
        pause = workload.gate.wait(now, left=workload.until - now)
        if pause:
            self._at(now + pause, workload)
            return
        if pause is not None and self._try(workload, now, workload.retries, spread=True):
            workload.retries = None
        elif pause is None:
            workload.retries = None
            self._at(now + random.expovariate(1 / NEXT_CALLER), workload)

    def _try(self, workload: Workload, now: float, retries: Retries, *, spread: bool) -> bool:
        self.run.tries[int(now)] += 1
        if not self._outage.start <= now < self._outage.end:
            if spread and workload.life is not None:
                gap = now - workload.life.hard
                self.run.without += gap
                self.run.longest = max(self.run.longest, gap)
            late = workload.life is not None and workload.life.overdue(now)
            workload.life = Lifetime.of(self._ttl, started_at=now, spread=spread or late)
            self._at(workload.life.soft, workload)
            return True
        error = TokenBrokerUnavailableError("down", retry_after=self._outage.retry_after)
        workload.gate.shut(asked_patience(error), now=now)
        if not spread:
            return False
        again = retries.after(error, left=workload.until - now)
        if again is None:
            workload.retries = None
            self._at(now + random.expovariate(1 / NEXT_CALLER), workload)
        else:
            self._at(now + again.pause, workload)
        return False
