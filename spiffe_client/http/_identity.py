"""The identity a client opens for itself when none is passed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio

from spiffe_client._portal import Portal

if TYPE_CHECKING:
    from spiffe_client.sources import X509Source

__all__ = ["BlockingIdentity", "OwnIdentity"]


class OwnIdentity:
    """An `X509Source` that is opened once, by whoever comes first.

    Args:
        endpoint: Address of the Workload API; None takes it from the environment.

    Raises:
        EndpointError: There is no address, or it is malformed.
    """

    def __init__(self, endpoint: str | None) -> None:
        # Imported here: clients that share a workload never need them.
        from spiffe_client.sources import X509Source
        from spiffe_client.workload_api import WorkloadApiClient

        self.source: X509Source = X509Source(WorkloadApiClient(endpoint))
        self.opened = False
        self._opening = anyio.Lock()

    async def open(self) -> None:
        """Wait for the first SVID; who comes second waits for the first to get it.

        Raises:
            SourceError: None came in time.
        """
        async with self._opening:
            if not self.opened:
                await self.source.open()
                self.opened = True

    async def aclose(self) -> None:
        """Forget the identity."""
        await self.source.aclose()


class BlockingIdentity:
    """`OwnIdentity` for blocking code, on an event loop in a thread of its own.

    Args:
        endpoint: As for `OwnIdentity`.
    """

    def __init__(self, endpoint: str | None) -> None:
        self._own = OwnIdentity(endpoint)
        self._portal = Portal()
        self._opening = threading.Lock()
        self.source = self._own.source
        self.opened = False

    def open(self) -> None:
        """Start the thread and wait for the first SVID.

        Raises:
            SourceError: None came in time, or the client was closed meanwhile.
        """
        with self._opening:
            if not self.opened:
                self._portal.start()
                self._portal.call(self._own.open)
                self.opened = True

    def close(self) -> None:
        """Forget the identity and end the thread."""
        if self.opened:
            self._portal.call(self._own.aclose)
        self._portal.close()
