"""Which pool of connections the next request uses, and when the others close: decisions, no I/O.

One pool is current. When the source's snapshot changes, the pool keeps serving until a moment drawn
at random within the drain window (so that a fleet that is told of a new bundle together does not
reconnect together); new connections it opens meanwhile are of the new generation already, because
the TLS context looks at the source in each handshake. When trust is taken back there is no window.
Responses in flight stay with their pool, which is closed after the last of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary, ref

from spiffe_client._clock import Clock
from spiffe_client.audit import Event, EventSink
from spiffe_client.errors import PeerError, SourceError, SpiffeError, StaleError
from spiffe_client.http._trust import NetworkStream, hang_up, withdrawn
from spiffe_client.tls import SpiffeTls, peer_of, verify_still_trusted
from spiffe_client.workload_api import X509Context

__all__ = ["Pool", "Pools"]

_T = TypeVar("_T")


class Pool(Generic[_T]):
    """One httpx transport and what is going on in it.

    Attributes:
        inner: The transport.
        active: Requests whose response is not closed yet.
        retire_at: From when on (monotonic seconds) it takes no new request, or None.
        streams: The connections that have answered, by their identity, held weakly.
    """

    __slots__ = ("active", "inner", "retire_at", "streams")

    def __init__(self, inner: _T) -> None:
        self.inner = inner
        self.active = 0
        self.retire_at: float | None = None
        self.streams: dict[int, ref[NetworkStream]] = {}

    def track(self, stream: NetworkStream) -> None:
        """Remember a connection that is not in `streams`, to hang it up if its trust is withdrawn."""
        streams, key = self.streams, id(stream)  # a WeakSet would make a reference for each request
        streams[key] = ref(stream, lambda _: streams.pop(key, None))

    def connections(self) -> list[NetworkStream]:
        """Return the connections that still exist."""
        return [stream for known in list(self.streams.values()) if (stream := known()) is not None]


class Pools(Generic[_T]):
    """The current pool and those that still finish; safe to use from several threads.

    Args:
        tls: Whose source and rule decide.
        quiet: Whether the source does not tell of changes, so that each request has to look.
        make: Makes the transport of a new pool.
        drain: Seconds within which a pool retires after an ordinary change.
        clock: Measures them.
        jitter: Draws a number between two others.
        sink: Told when pooled connections retire, and why.
    """

    def __init__(
        self,
        tls: SpiffeTls,
        make: Callable[[], _T],
        *,
        quiet: bool,
        drain: float,
        clock: Clock,
        jitter: Callable[[float, float], float],
        sink: EventSink,
    ) -> None:
        self._source = tls.source
        self._trust_domains = tls.trust_domains
        self._quiet = quiet
        self._make = make
        self._drain = drain
        self._clock = clock
        self._jitter = jitter
        self._sink = sink
        # A signal handler that stops the source may find its own thread in here.
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._seen: X509Context | None = None
        # Made now, so that arguments httpx refuses are refused where they were given.
        self._current: Pool[_T] | None = Pool(make())
        self._cut: WeakKeyDictionary[NetworkStream, SpiffeError] = WeakKeyDictionary()
        #: Pools that take no new requests, oldest first.
        self.retired: list[Pool[_T]] = []

    def enter(self) -> Pool[_T]:
        """Return the pool for a request that starts now; each needs one `leave`.

        Raises:
            SourceError: There is no identity to make requests with.
        """
        if self._quiet or self._seen is None:
            self.observe()
        with self._lock:
            pool = self._current
            if pool is None or pool.retire_at is not None:
                pool = self._current_unless_due() or self._replace()
            pool.active += 1
            return pool

    def leave(self, pool: Pool[_T]) -> _T | None:
        """Note the end of a request, and return the transport of its pool if that must close now."""
        with self._lock:
            pool.active -= 1
            if pool is self._current or pool.active or pool not in self.retired:
                return None
            self.retired.remove(pool)
            return pool.inner

    def observe(self) -> None:
        """Look at the source, and retire pools if it has changed.

        Raises:
            SourceError: The source has no identity any more; all pools were retired.
        """
        try:
            context = self._source.x509_context
        except SourceError as error:
            self._lose(error)
            raise
        if context is not self._seen:
            self._change(context)

    def take_idle(self) -> list[_T]:
        """Return the transports that are due and in which nothing is going on, to close them now."""
        with self._lock:
            self._current_unless_due()
            idle = [pool.inner for pool in self.retired if not pool.active]
            self.retired = [pool for pool in self.retired if pool.active]
            return idle

    def pending(self) -> float | None:
        """Return the seconds until `take_idle` is worth calling, or None if there is no such moment."""
        with self._lock:
            if not all(pool.active for pool in self.retired):
                return 0.0
            if self._current is None or self._current.retire_at is None:
                return None
            return max(0.0, self._current.retire_at - self._clock.monotonic())

    def take_all(self) -> list[_T]:
        """Return all transports, to close them whatever goes on in them."""
        with self._lock:
            self._retire_current()
            everything = [pool.inner for pool in self.retired]
            self.retired = []
            return everything

    def reason(self, stream: NetworkStream | None) -> SpiffeError | None:
        """Return why this connection was hung up here, or None if it was not."""
        return None if stream is None else self._cut.get(stream)

    @property
    def identity(self) -> str:
        """The SPIFFE ID that servers are shown, for messages."""
        return "none" if self._seen is None else str(self._seen.svid.id)

    def _change(self, context: X509Context) -> None:
        with self._lock:
            before, self._seen = self._seen, context
            if before is None or before is context:
                return
            taken = withdrawn(before, context, self._trust_domains)
            streams = self._retire_now() if taken else self._retire_soon()
        self._report(taken, streams)
        if taken:
            for stream in streams:
                try:
                    verify_still_trusted(peer_of(stream), context.bundles)
                except PeerError as refusal:
                    self._hang_up(stream, refusal)

    def _lose(self, error: SourceError) -> None:
        with self._lock:
            if self._seen is None:
                return
            self._seen = None
            streams = self._retire_now()
        self._report(str(error), streams)
        if isinstance(error, StaleError) and error.reason == "expired":
            return  # shown while it was valid: responses that have begun may end
        for stream in streams:
            self._hang_up(stream, error)

    def _hang_up(self, stream: NetworkStream, reason: SpiffeError) -> None:
        self._cut[stream] = reason
        # A forked child shares its parent's connections, and has no say over them.
        if os.getpid() == self._pid:
            hang_up(stream)

    def _retire_soon(self) -> list[NetworkStream]:
        pool = self._current
        if pool is None:
            return []
        at = self._clock.monotonic() + self._jitter(0.0, self._drain)
        # A window that is open stays: changes in quick succession must not keep a pool alive.
        pool.retire_at = at if pool.retire_at is None else min(at, pool.retire_at)
        return pool.connections()

    def _retire_now(self) -> list[NetworkStream]:
        self._retire_current()
        return [stream for pool in self.retired for stream in pool.connections()]

    def _retire_current(self) -> None:
        if self._current is not None:
            self.retired.append(self._current)
            self._current = None

    def _replace(self) -> Pool[_T]:
        self._current = Pool(self._make())
        return self._current

    def _current_unless_due(self) -> Pool[_T] | None:
        pool = self._current
        if pool is not None and pool.retire_at is not None and self._clock.monotonic() >= pool.retire_at:
            self._retire_current()
        return self._current

    def _report(self, taken: str | None, streams: Iterable[NetworkStream]) -> None:
        count = len(list(streams))
        if count:
            when = "now" if taken else f"within {self._drain:g} s"
            message = f"{count} pooled connection(s) retire {when}: {taken or 'identity or bundles changed'}"
            self._sink(Event("connection.retired", message, {"connections": count, "at_once": bool(taken)}))
