"""JWT-SVIDs that were asked for, kept and renewed ahead of expiry as long as somebody uses them."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import field

import anyio
from anyio.abc import TaskGroup

from spiffe_client._agenda import Agenda
from spiffe_client._retry import Backoff
from spiffe_client._values import dataclass
from spiffe_client.bundle import BundleSet, JwtBundle
from spiffe_client.errors import (
    ExpiredError,
    NoIdentityIssuedError,
    SourceClosedError,
    SpiffeError,
    StaleError,
    UnavailableError,
)
from spiffe_client.ids import SpiffeId
from spiffe_client.sources._pace import Denial
from spiffe_client.sources._reporter import Reporter
from spiffe_client.sources._terms import Terms
from spiffe_client.svid import JwtSvid

__all__ = ["JwtCache", "JwtRequest"]

#: A renewal begins when this share of what is left of the lifetime is over, drawn anew each time,
#: so that a fleet that started together does not renew together.
_AHEAD = (0.4, 0.6)
#: Between renewals of one token, in seconds, however short its life is.
_AT_LEAST = 1.0
#: A failed renewal has half a lifetime to succeed: no hurry, and no crowd at an agent that is down.
_RENEWAL = Backoff(first=1.0, cap=30.0)


@dataclass(frozen=True, slots=True)
class JwtRequest:
    """What makes two requests the same.

    Attributes:
        subject: The SPIFFE ID asked for, None for the default one.
        audience: For whom; a set, since its order means nothing.
        hint: Which identity is meant, None for the default one.
        order: The audience as it was first given, to be sent unchanged.
    """

    subject: SpiffeId | None
    audience: frozenset[str]
    hint: str | None
    order: tuple[str, ...] = field(compare=False)


class _Entry:
    __slots__ = ("denial", "failures", "svid", "used_at")

    def __init__(self, svid: JwtSvid, used_at: float, denial: Denial) -> None:
        self.svid = svid
        self.used_at = used_at
        self.denial = denial
        self.failures = 0


class _Flight:
    """One request on its way, for all who want its answer; `done` before it came: not wanted any more."""

    __slots__ = ("done", "error", "svid")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.svid: JwtSvid | None = None
        self.error: SpiffeError = SourceClosedError("the source of the JWT-SVIDs was closed")


class JwtCache:
    """Keeps JWT-SVIDs by request.

    All renewals share one heap and one task. Who asks for what is on its way already waits for
    that answer; the request belongs to nobody, so a caller that is cancelled takes only itself away.

    Args:
        ask: Fetches one from the Workload API.
        terms: What the user decided.
        reporter: Told of renewals that fail.
        capacity: Most tokens kept; the least recently used goes first.
        idle: Seconds after the last use from which a token is not renewed but dropped.
    """

    def __init__(
        self,
        ask: Callable[[JwtRequest], Awaitable[JwtSvid]],
        terms: Terms,
        reporter: Reporter,
        *,
        capacity: int,
        idle: float,
    ) -> None:
        self._ask = ask
        self._terms = terms
        self._clock = terms.clock
        self._reporter = reporter
        self._capacity = capacity
        self._idle = idle
        self._entries: OrderedDict[JwtRequest, _Entry] = OrderedDict()
        self._flights: dict[JwtRequest, _Flight] = {}
        self._agenda: Agenda[JwtRequest] = Agenda(terms.clock, self._renew)
        self._tasks: TaskGroup | None = None
        self._ended = False

    def __len__(self) -> int:
        return len(self._entries)

    async def fetch(self, request: JwtRequest) -> JwtSvid:
        """Return a token that is valid now, from the cache or from the Workload API.

        An agent that cannot be reached is tried again until the source's timeout.

        Raises:
            WorkloadApiError: The Workload API does not issue it.
            JwtSvidError: What it issued is no JWT-SVID, or is expired already.
            StaleError: The identity was withdrawn meanwhile.
            SourceClosedError: The source was closed meanwhile.
        """
        until = self._clock.monotonic() + self._terms.timeout
        attempt = 0
        while (svid := self._cached(request)) is None:
            flight = self._flights.get(request) or self._launch(request)
            await flight.done.wait()
            if flight.svid is not None:
                return flight.svid
            if not isinstance(flight.error, UnavailableError) or self._clock.monotonic() >= until:
                raise flight.error
            attempt += 1
            await self._clock.sleep(self._terms.backoff.delay(attempt))
        return svid

    def drop(self) -> None:
        """Forget all tokens, from any thread; the source was stopped, and `close` does the rest."""
        self._entries = OrderedDict()

    def judge(self, bundles: BundleSet[JwtBundle]) -> None:
        """Forget tokens of an authority that is trusted no more: nobody would accept them."""
        for request, entry in list(self._entries.items()):
            svid, bundle = entry.svid, bundles.get(entry.svid.id.trust_domain)
            known = bundle is None or any(a.key_id in (None, svid.key_id) for a in bundle.authorities)
            if svid.key_id is not None and not known:
                self._entries.pop(request, None)
                self._agenda.drop(request)

    def clear(self) -> None:
        """Forget all tokens, also those on their way: the identity was withdrawn."""
        self._forget(StaleError("the JWT-SVIDs were withdrawn by their issuer", reason="withdrawn"))

    def close(self, error: SpiffeError) -> None:
        """Forget all tokens, also those on their way: the source was closed or stopped."""
        self._forget(error)

    def _forget(self, error: SpiffeError) -> None:
        self._entries.clear()
        # What was asked for before belongs to the epoch before: its answer is nobody's.
        flights, self._flights = self._flights, {}
        for flight in flights.values():
            flight.error = error
            flight.done.set()

    async def run(self) -> None:
        """Renew until cancelled."""
        try:
            async with anyio.create_task_group() as self._tasks:
                for request, flight in list(self._flights.items()):  # asked for before this task began
                    self._tasks.start_soon(self._fly, request, flight)
                await self._agenda.run()
        finally:
            self._ended = True

    def _cached(self, request: JwtRequest) -> JwtSvid | None:
        entries = self._entries  # once: another thread may drop them meanwhile
        entry = entries.get(request)
        if entry is None or entry.svid.expires_at <= self._clock.now():
            return None
        entry.used_at = self._clock.monotonic()
        entries.move_to_end(request)
        return entry.svid

    def _launch(self, request: JwtRequest) -> _Flight:
        if self._ended:
            raise SourceClosedError("the source of the JWT-SVIDs was closed")
        flight = self._flights[request] = _Flight()
        if self._tasks is not None:
            self._tasks.start_soon(self._fly, request, flight)
        return flight

    async def _fly(self, request: JwtRequest, flight: _Flight) -> None:
        try:
            svid = await self._ask(request)
            if svid.expires_at <= self._clock.now():
                raise ExpiredError(
                    f"the JWT-SVID just issued expired at {svid.expires_at:%Y-%m-%dT%H:%M:%SZ}"
                )
            if not flight.done.is_set():
                self._keep(request, svid)
                flight.svid = svid
        except SpiffeError as error:
            if not flight.done.is_set():
                flight.error = error
                self._missed(request, error)
        finally:
            if not flight.done.is_set():
                del self._flights[request]
                flight.done.set()

    def _keep(self, request: JwtRequest, svid: JwtSvid) -> None:
        now, entries = self._clock.monotonic(), self._entries
        entry = entries.get(request)
        if entry is None:
            entries[request] = _Entry(svid, now, Denial(self._terms.grace))
            if len(entries) > self._capacity:
                dropped, _ = entries.popitem(last=False)
                self._agenda.drop(dropped)
        else:
            entry.svid, entry.failures = svid, 0
            entry.denial.lifted()
            self._reporter.well()
        wait = self._left(svid) * random.uniform(*_AHEAD)  # noqa: S311 - spreads load, protects nothing
        self._agenda.put(request, now + max(_AT_LEAST, wait))

    def _left(self, svid: JwtSvid) -> float:
        return (svid.expires_at - self._clock.now()).total_seconds()

    def _renew(self, request: JwtRequest) -> None:
        entry = self._entries.get(request)
        if entry is None:
            return
        if self._clock.monotonic() - entry.used_at > self._idle:
            self._entries.pop(request, None)
        elif request not in self._flights:
            self._launch(request)

    def _missed(self, request: JwtRequest, error: SpiffeError) -> None:
        """Decide what becomes of a token that could not be renewed."""
        entry = self._entries.get(request)
        if entry is None:
            return
        left, now = self._left(entry.svid), self._clock.monotonic()
        audience = ", ".join(request.order)
        self._reporter.trouble(
            "source.unavailable", f"the JWT-SVID for {audience} could not be renewed", error
        )
        entry.failures += 1
        again = min(left / 2, _RENEWAL.delay(entry.failures))
        if isinstance(error, NoIdentityIssuedError) and self._terms.on_redaction == "drop":
            final_at = entry.denial.heard(now)
            again = 0.0 if final_at is None else final_at - now
            if final_at is not None and final_at <= now:
                left = 0.0
                self._reporter.tell("svid.withdrawn", f"the JWT-SVID for {audience} was withdrawn")
        else:
            entry.denial.doubted()
        if left <= 0:
            self._entries.pop(request, None)
        else:
            self._agenda.put(request, now + again)
