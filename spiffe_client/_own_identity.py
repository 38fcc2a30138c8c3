"""Who this workload is, as its front door shows it: a source of X.509 contexts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

from spiffe_client.errors import SourceClosedError

if TYPE_CHECKING:
    from spiffe_client._portal import Portal
    from spiffe_client.bundle import BundleSet, X509Bundle
    from spiffe_client.ids import SpiffeId
    from spiffe_client.sources import Health, X509Source
    from spiffe_client.svid import X509Svid
    from spiffe_client.workload_api import X509Context

__all__ = ["OwnIdentity", "OwnIdentityBlocking"]


class OwnIdentity:
    """The X.509 identity of a workload; each of these a call of its source."""

    _x509: X509Source

    @property
    def id(self) -> SpiffeId:
        """Who this workload is; raises as `x509_context`."""
        return self._x509.svid.id

    @property
    def x509_svid(self) -> X509Svid:
        """The current X509-SVID; raises as `x509_context`."""
        return self._x509.svid

    @property
    def x509_bundles(self) -> BundleSet[X509Bundle]:
        """The current X.509 bundles; raises as `x509_context`."""
        return self._x509.x509_bundles

    @property
    def x509_context(self) -> X509Context:
        """The current snapshot of SVIDs and bundles.

        Raises:
            StaleError: It expired or was withdrawn.
            SourceClosedError: The workload is not open, or was opened before a fork.
        """
        return self._x509.x509_context

    @property
    def holds(self) -> Callable[[object], bool]:
        """See `X509Source.holds`."""
        return self._x509.holds

    @property
    def health(self) -> Health:
        """How the X.509 identity is doing; never raises."""
        return self._x509.health

    async def wait_updated(self) -> None:
        """Wait until another snapshot is published; see `X509Source.wait_updated`."""
        await self._x509.wait_updated()

    def changes(self) -> AsyncIterator[X509Context]:
        """Iterate over each newest snapshot from now on; see `X509Source.changes`."""
        return self._x509.changes()

    def before_publish(self, prepare: Callable[[X509Context], object]) -> None:
        """Have a bound method called with each new snapshot first; see `X509Source.before_publish`."""
        self._x509.before_publish(prepare)

    def after_publish(self, notify: Callable[[], object]) -> None:
        """Have a bound method called after each change; see `X509Source.after_publish`."""
        self._x509.after_publish(notify)


class OwnIdentityBlocking:
    """The same for code that blocks; reads are instant, and waiting is done on the background loop."""

    _identity: OwnIdentity
    _portal: Portal

    @property
    def id(self) -> SpiffeId:
        """Who this workload is; raises as `x509_context`."""
        return self._identity.id

    @property
    def x509_svid(self) -> X509Svid:
        """The current X509-SVID; raises as `x509_context`."""
        return self._identity.x509_svid

    @property
    def x509_bundles(self) -> BundleSet[X509Bundle]:
        """The current X.509 bundles; raises as `x509_context`."""
        return self._identity.x509_bundles

    @property
    def x509_context(self) -> X509Context:
        """The current snapshot of SVIDs and bundles.

        Raises:
            StaleError: It expired or was withdrawn.
            SourceClosedError: The workload is not open, or was opened before a fork.
        """
        return self._identity.x509_context

    @property
    def health(self) -> Health:
        """How the X.509 identity is doing; never raises."""
        return self._identity.health

    def wait_updated(self, timeout: float | None = None) -> None:
        """Block until another snapshot is published.

        Args:
            timeout: Seconds to wait, None for ever.

        Raises:
            TimeoutError: None came in time.
            SourceClosedError: The workload is not open, or was closed meanwhile.
        """
        self._portal.call(self._identity.wait_updated, timeout=timeout)

    def changes(self) -> Iterator[X509Context]:
        """Iterate over each newest snapshot from now on, blocking, until the workload is closed."""
        changes = self._identity.changes()

        async def following() -> X509Context | None:
            return await anext(changes, None)

        def follow() -> Iterator[X509Context]:
            try:
                while (context := self._portal.call(following)) is not None:
                    yield context
            except SourceClosedError:
                if self._portal.running:  # it was not closed: it crashed
                    raise

        return follow()

    def before_publish(self, prepare: Callable[[X509Context], object]) -> None:
        """Have a bound method called with each new snapshot first; see `X509Source.before_publish`."""
        self._identity.before_publish(prepare)

    def after_publish(self, notify: Callable[[], object]) -> None:
        """Have a bound method called on the background thread after each change."""
        self._identity.after_publish(notify)
