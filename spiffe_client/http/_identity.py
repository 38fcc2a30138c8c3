"""The identity a client opens for itself when none is passed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from spiffe_client._portal import Portal
from spiffe_client.audit import EventSink

if TYPE_CHECKING:
    from spiffe_client.sources import X509Source
    from spiffe_client.workload_api import Endpoint

__all__ = ["BlockingIdentity", "OwnIdentity"]


class OwnIdentity:
    """An `X509Source` that starts with the first request.

    A request that waited for the first SVID in vain fails, and the source goes on: a later one
    may be luckier.

    Args:
        endpoint: Address of the Workload API; None takes it from the environment.
        on_event: Takes events.

    Raises:
        EndpointError: There is no address, or it is malformed.
    """

    def __init__(self, endpoint: str | Endpoint | None, *, on_event: EventSink | None) -> None:
        # Imported here: clients that share a workload never need them.
        from spiffe_client.sources import X509Source
        from spiffe_client.workload_api import WorkloadApiClient

        self.source: X509Source = X509Source(WorkloadApiClient(endpoint), on_event=on_event)
        #: Whether there was an SVID; from then on the source speaks for itself.
        self.opened = False

    async def open(self) -> None:
        """Wait for the first SVID.

        Raises:
            FirstUpdateTimeoutError: None came in time.
            SourceClosedError: It was closed.
            WorkloadApiError: There will not be one, whatever the wait.
        """
        self.source.start()
        await self.source.wait_first_update()
        self.opened = True

    async def aclose(self) -> None:
        """Forget the identity. Idempotent."""
        await self.source.aclose()


class BlockingIdentity:
    """`OwnIdentity` for blocking code, on an event loop in a thread of its own.

    Args:
        endpoint: As for `OwnIdentity`.
        on_event: Takes events, in that thread.
    """

    def __init__(self, endpoint: str | Endpoint | None, *, on_event: EventSink | None) -> None:
        self._own = OwnIdentity(endpoint, on_event=on_event)
        self._portal = Portal()
        self._lock = threading.Lock()
        self._started = False
        self.source = self._own.source
        self.opened = False

    def open(self) -> None:
        """Start the thread and wait for the first SVID; raises as `OwnIdentity.open`."""
        with self._lock:
            self._portal.start()
            self._started = True
        self._portal.call(self._own.open)
        self.opened = True

    def close(self) -> None:
        """Forget the identity and end the thread, also if others wait for it. Idempotent."""
        with self._lock:
            started, self._started = self._started, False
            if not started:
                self._portal.close()
                return
        self._portal.call(self._own.aclose)
        self._portal.close()
