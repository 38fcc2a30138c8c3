"""Trust bundles for who verifies others and needs no identity of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._latest import Latest
from spiffe_client._retry import Backoff
from spiffe_client.audit import EventSink, safe_sink
from spiffe_client.bundle import BundleSet, JwtBundle, X509Bundle
from spiffe_client.errors import SpiffeError
from spiffe_client.sources._feed import Feed
from spiffe_client.sources._health import Health
from spiffe_client.sources._lifetime import Lifetime
from spiffe_client.sources._source import Source
from spiffe_client.sources._terms import OnRedaction, Terms
from spiffe_client.workload_api import WorkloadApiClient

__all__ = ["BundleSource", "Bundles"]

_B = TypeVar("_B", bound=X509Bundle | JwtBundle)
_B_co = TypeVar("_B_co", bound=X509Bundle | JwtBundle, covariant=True)


class _Watch(Protocol[_B_co]):
    def __call__(
        self, *, refused: Callable[[SpiffeError], None]
    ) -> AbstractAsyncContextManager[AsyncIterator[BundleSet[_B_co]]]: ...


class Bundles(Generic[_B]):
    """The topic of FetchX509Bundles and of FetchJWTBundles."""

    family = "bundle"

    def __init__(self, what: str, watch: _Watch[_B]) -> None:
        self.what = what
        self._watch = watch

    def watch(
        self, refused: Callable[[SpiffeError], None]
    ) -> AbstractAsyncContextManager[AsyncIterator[BundleSet[_B]]]:
        """Open one stream."""
        return self._watch(refused=refused)

    def choose(self, message: BundleSet[_B]) -> BundleSet[_B]:
        """Take all of it."""
        return message

    def same(self, held: BundleSet[_B], new: BundleSet[_B]) -> bool:
        """Whether both hold the same authorities."""
        return held == new

    def missing(self, held: BundleSet[_B], message: BundleSet[_B]) -> list[str]:
        """Return the trust domains that are not in the message any more."""
        return sorted(f"the bundle of {d}" for d in held.keys() - message.keys())

    def revoked(self, held: BundleSet[_B], message: BundleSet[_B]) -> bool:  # noqa: ARG002 - the topic's shape
        """Return False: a message is never refused once it is parsed."""
        return False

    def expires_at(self, value: BundleSet[_B]) -> datetime | None:  # noqa: ARG002 - the topic's shape
        """Return None: bundles have no end."""
        return None

    def describe(self, value: BundleSet[_B]) -> Mapping[str, str | int]:
        """Return how many trust domains there are."""
        return {"bundles": len(value)}


#: From best to worst: a source that follows two things is as well as the worse of them.
_BY_CONCERN = ("fresh", "degraded", "waiting", "starting", "stale", "withdrawn", "closed", "stopped")


class BundleSource(Source):
    """Always knows the current trust bundles, X.509 and JWT, without an identity of its own.

    Reads are instant and from any thread. X.509 bundles verify X509-SVIDs only, JWT bundles
    JWT-SVIDs only (Workload API §5.3, §6.4). In a forked child every read raises.

    Args:
        client: Speaks to the Workload API.
        timeout: Seconds that opening waits for the first update of both.
        on_redaction: `drop`: when the issuer denies the bundles, stop trusting them (Workload API
            §4.4). `keep-until-expiry`: keep them, which for bundles means for good.
        grace: Seconds that a confirmed PermissionDenied does not cut off yet.
        backoff: Between attempts to reach the Workload API.
        clock: Where the time comes from.
        on_event: Takes events; the default writes them to the logger `spiffe_client`.
    """

    def __init__(
        self,
        client: WorkloadApiClient,
        *,
        timeout: float = 30.0,
        on_redaction: OnRedaction = "drop",
        grace: float = 3.0,
        backoff: Backoff = Backoff(),  # noqa: B008 - a frozen value
        clock: Clock = SYSTEM_CLOCK,
        on_event: EventSink | None = None,
    ) -> None:
        sink = safe_sink(on_event)
        terms = Terms(timeout, on_redaction, grace, backoff, clock, sink)
        self._x509 = Feed(Bundles("the X.509 bundles", client.watch_x509_bundles), terms)
        self._jwt = Feed(Bundles("the JWT bundles", client.watch_jwt_bundles), terms)
        self._pulse: Latest[None] = Latest(None)
        for feed in (self._x509, self._jwt):
            feed.after.add(self._beat)
        super().__init__(Lifetime("BundleSource", [self._x509, self._jwt], terms=terms))

    @property
    def x509_bundles(self) -> BundleSet[X509Bundle]:
        """The current X.509 bundles.

        Raises:
            StaleError: They were withdrawn.
            SourceClosedError: The source is not open, or was opened before a fork.
        """
        return self._x509.holding.read()

    @property
    def jwt_bundles(self) -> BundleSet[JwtBundle]:
        """The current JWT bundles; raises as `x509_bundles`."""
        return self._jwt.holding.read()

    @property
    def health(self) -> Health:
        """How it is doing, of the two streams the worse; never raises."""
        both = (self._x509.holding.health, self._jwt.holding.health)
        return max(both, key=lambda health: _BY_CONCERN.index(health.state))

    async def wait_updated(self) -> None:
        """Wait until what one of the two reads gives has changed.

        Raises:
            SourceClosedError: The source is not open, or was closed meanwhile.
        """
        self._x509.holding.refuse_unopened()
        await self._pulse.wait_newer(self._pulse.version)
        self._x509.holding.refuse_unopened()

    def x509_changes(self) -> AsyncIterator[BundleSet[X509Bundle]]:
        """Iterate over each newest set of X.509 bundles from now on, until the source is closed."""
        return self._x509.holding.changes()

    def jwt_changes(self) -> AsyncIterator[BundleSet[JwtBundle]]:
        """Iterate over each newest set of JWT bundles from now on, until the source is closed."""
        return self._jwt.holding.changes()

    def _beat(self) -> None:
        self._pulse.set(None)
