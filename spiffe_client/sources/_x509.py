"""The X.509 identity of this workload and the bundles to verify peers with, kept fresh."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._retry import Backoff
from spiffe_client.audit import EventSink, safe_sink
from spiffe_client.errors import SpiffeError
from spiffe_client.sources._choice import choose
from spiffe_client.sources._feed import Feed
from spiffe_client.sources._health import Health
from spiffe_client.sources._lifetime import Lifetime
from spiffe_client.sources._source import Source
from spiffe_client.sources._terms import OnRedaction, Terms

if TYPE_CHECKING:
    from spiffe_client.bundle import BundleSet, X509Bundle
    from spiffe_client.svid import X509Svid
    from spiffe_client.workload_api import WorkloadApiClient, X509Context

__all__ = ["X509Source"]


class _Contexts:
    """The topic of FetchX509SVID."""

    what = "the X.509 identity"
    family = "svid"

    def __init__(
        self,
        client: WorkloadApiClient,
        picker: Callable[[Sequence[X509Svid]], X509Svid] | None,
        hint: str | None,
    ) -> None:
        self._client = client
        self._picker = picker
        self._hint = hint

    def watch(
        self, refused: Callable[[SpiffeError], None]
    ) -> AbstractAsyncContextManager[AsyncIterator[X509Context]]:
        return self._client.watch_x509_contexts(refused=refused)

    def choose(self, message: X509Context) -> X509Context:
        return replace(message, svid=choose(message.svids, self._picker, self._hint))

    def same(self, held: X509Context, new: X509Context) -> bool:
        return held.svid == new.svid and held.svids == new.svids and held.bundles == new.bundles

    def missing(self, held: X509Context, message: X509Context) -> list[str]:
        ids = {str(s.id) for s in held.svids} - {str(s.id) for s in message.svids}
        domains = {f"the bundle of {d}" for d in held.bundles} - {
            f"the bundle of {d}" for d in message.bundles
        }
        return sorted(ids | domains)

    def revoked(self, held: X509Context, message: X509Context) -> bool:
        return (held.svid.id, held.svid.hint) not in {(s.id, s.hint) for s in message.svids}

    def expires_at(self, value: X509Context) -> datetime | None:
        return value.svid.not_after

    def describe(self, value: X509Context) -> Mapping[str, str | int]:
        svid = value.svid
        return {
            "id": str(svid.id),
            "serial": f"{svid.serial_number:x}",
            "expires_at": svid.not_after.isoformat(),
            "identities": len(value.svids),
            "bundles": len(value.bundles),
        }


class X509Source(Source):
    """Always knows the current X.509 identity, from opening to closing, without waiting.

    Reads are instant and from any thread. A snapshot is immutable and holds SVIDs and bundles
    together; what is expired or withdrawn is never handed out. In a forked child every read
    raises: open a new source there.

    Args:
        client: Speaks to the Workload API.
        picker: Chooses the identity to use among those issued (never none). The default is the
            first, which the issuer means as the default (Workload API §5.2).
        hint: Only identities with this hint count.
        timeout: Seconds that opening waits for the first update.
        on_redaction: `drop`: when the issuer takes the identity back, stop using it (Workload API
            §4.4). `keep-until-expiry`: use it until it expires.
        grace: Seconds that a confirmed PermissionDenied does not cut off yet, so that a restarting
            agent does no harm.
        backoff: Between attempts to reach the Workload API.
        clock: Where the time comes from.
        on_event: Takes events; the default writes them to the logger `spiffe_client`.
    """

    # For what is built on it: what its user opened, and how; as `Terms` has it.
    _OWNER: ClassVar[str] = ""
    _OPENING: ClassVar[str] = "`async with` or await open()"

    def __init__(
        self,
        client: WorkloadApiClient,
        *,
        picker: Callable[[Sequence[X509Svid]], X509Svid] | None = None,
        hint: str | None = None,
        timeout: float = 30.0,
        on_redaction: OnRedaction = "drop",
        grace: float = 3.0,
        backoff: Backoff = Backoff(),  # noqa: B008 - a frozen value
        clock: Clock = SYSTEM_CLOCK,
        on_event: EventSink | None = None,
    ) -> None:
        sink = safe_sink(on_event)
        terms = Terms(timeout, on_redaction, grace, backoff, clock, sink, self._OWNER, self._OPENING)
        self._feed: Feed[X509Context] = Feed(_Contexts(client, picker, hint), terms)
        super().__init__(Lifetime("X509Source", [self._feed], terms=terms))

    @property
    def x509_context(self) -> X509Context:
        """The current snapshot; `svid` in it is the picked identity.

        Raises:
            StaleError: It expired or was withdrawn.
            SourceClosedError: The source is not open, or was opened before a fork.
        """
        return self._feed.holding.read()

    @property
    def holds(self) -> Callable[[object], bool]:
        """Says whether a snapshot is still the current one, for who asks at each read and write.

        Not replaced, withdrawn or stopped; that it expired is for `x509_context` to say.
        """
        return self._feed.holding.holds

    @property
    def svid(self) -> X509Svid:
        """The current identity; raises as `x509_context`."""
        return self.x509_context.svid

    @property
    def x509_bundles(self) -> BundleSet[X509Bundle]:
        """The current bundles; raises as `x509_context`."""
        return self.x509_context.bundles

    @property
    def health(self) -> Health:
        """How it is doing; never raises."""
        return self._feed.holding.health

    async def wait_updated(self) -> None:
        """Wait until another snapshot is published.

        Raises:
            SourceClosedError: The source is not open, or was closed meanwhile.
        """
        await self._feed.holding.wait_updated()

    def changes(self) -> AsyncIterator[X509Context]:
        """Iterate over each newest snapshot from now on, until the source is closed.

        A slow reader misses intermediate snapshots and always gets the newest.

        Raises:
            SourceClosedError: The source is not open; while iterating: it crashed.
        """
        return self._feed.holding.changes()

    def before_publish(self, prepare: Callable[[X509Context], object]) -> None:
        """Have a bound method called with each new snapshot before anybody can read it.

        It runs in a worker thread, so it may do expensive things; if it raises, the update is
        refused and the last good snapshot stays. It is held weakly.

        Raises:
            TypeError: It is not a bound method.
        """
        self._feed.before.add(prepare)

    def after_publish(self, notify: Callable[[], object]) -> None:
        """Have a bound method called when what `x509_context` gives has changed.

        That is after an update, a withdrawal, an expiry, and when the source closes. It runs on the event loop and must
        not block. It is held weakly.

        Raises:
            TypeError: It is not a bound method.
        """
        self._feed.after.add(notify)
