"""The front door for blocking code: the same workload, its event loop in one thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from spiffe_client import _workload
from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._frames import border
from spiffe_client._portal import Portal
from spiffe_client._retry import Backoff
from spiffe_client.audit import EventSink
from spiffe_client.errors import SourceClosedError
from spiffe_client.sources import Health, OnRedaction, X509Source
from spiffe_client.workload_api import Endpoint

if TYPE_CHECKING:
    import ssl

    from spiffe_client.authorize import Authorizer
    from spiffe_client.bundle import BundleSet, X509Bundle
    from spiffe_client.http import Client
    from spiffe_client.ids import SpiffeId
    from spiffe_client.svid import JwtSvid, X509Svid
    from spiffe_client.workload_api import X509Context

__all__ = ["Workload"]


class _Identity(X509Source):
    _OWNER = "this Workload"
    _OPENING = "`with Workload() as me:` or open()"


class _Inner(_workload.Workload):
    _source = _Identity


class Workload:
    """This workload, for code that blocks.

    `with Workload() as me:` waits for the first X509-SVID with a deadline and says why if it does
    not come. Reads are instant, from any thread, and do not touch the background loop. For
    pre-forking servers: make it anywhere, open it in each child.

    Args:
        endpoint: Address of the Workload API; None takes it from `SPIFFE_ENDPOINT_SOCKET`.
        picker: Chooses the X.509 identity to use among those issued; the default is the first.
        hint: Only identities with this hint count, X.509 and JWT.
        timeout: Seconds that opening waits for the first SVID.
        on_redaction: `drop`, or `keep-until-expiry`; see the async `Workload`.
        grace: Seconds that a confirmed PermissionDenied does not cut off yet.
        backoff: Between attempts to reach the Workload API.
        clock: Where the time comes from.
        on_event: Takes events, on the background thread; the default writes them to the logger
            `spiffe_client`.

    Raises:
        EndpointError: The Workload API's address is missing or malformed.
    """

    def __init__(
        self,
        endpoint: str | Endpoint | None = None,
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
        self._inner = _Inner(
            endpoint,
            picker=picker,
            hint=hint,
            timeout=timeout,
            on_redaction=on_redaction,
            grace=grace,
            backoff=backoff,
            clock=clock,
            on_event=on_event,
        )
        self._portal = Portal(owner="this Workload")

    def open(self) -> Self:
        """Start the background thread and wait for the first SVID.

        Raises:
            FirstUpdateTimeoutError: None came in time; the message and `__cause__` say why.
            InvalidRequestError: The Workload API calls the request malformed.
            UnimplementedError: The Workload API does not offer this.
            SourceClosedError: It was closed before, or opened by the process this one was forked from.
        """
        self._portal.start()
        try:
            self._portal.call(self._inner.open)
        except BaseException:
            self._portal.close()
            raise
        return self

    def close(self) -> None:
        """Stop, and end the thread; reads raise from now on. Idempotent, from any thread."""
        if self._portal.running:
            with suppress(SourceClosedError):  # another thread closes it, too
                self._portal.call(self._inner.aclose)
        self._portal.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def id(self) -> SpiffeId:
        """Who this workload is; raises as `x509_context`."""
        return self._inner.id

    @property
    def x509_svid(self) -> X509Svid:
        """The current X509-SVID; raises as `x509_context`."""
        return self._inner.x509_svid

    @property
    def x509_bundles(self) -> BundleSet[X509Bundle]:
        """The current X.509 bundles; raises as `x509_context`."""
        return self._inner.x509_bundles

    @property
    def x509_context(self) -> X509Context:
        """The current snapshot of SVIDs and bundles.

        Raises:
            StaleError: It expired or was withdrawn.
            SourceClosedError: The workload is not open, or was opened before a fork.
        """
        return self._inner.x509_context

    @property
    def health(self) -> Health:
        """How the X.509 identity is doing; never raises."""
        return self._inner.health

    def wait_updated(self, timeout: float | None = None) -> None:
        """Block until another snapshot is published.

        Args:
            timeout: Seconds to wait, None for ever.

        Raises:
            TimeoutError: None came in time.
            SourceClosedError: The workload is not open, or was closed meanwhile.
        """
        self._portal.call(self._inner.wait_updated, timeout=timeout)

    def changes(self) -> Iterator[X509Context]:
        """Iterate over each newest snapshot from now on, blocking, until the workload is closed."""
        changes = self._inner.changes()

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
        self._inner.before_publish(prepare)

    def after_publish(self, notify: Callable[[], object]) -> None:
        """Have a bound method called on the background thread after each change."""
        self._inner.after_publish(notify)

    def jwt_svid(
        self,
        audience: str | Collection[str],
        *more: str,
        subject: SpiffeId | str | None = None,
        hint: str | None = None,
        timeout: float | None = None,
    ) -> JwtSvid:
        """Return a JWT-SVID that is valid now; see `JwtSource.fetch_jwt_svid`.

        Args:
            audience: Who will verify the token.
            more: More of them.
            subject: The identity it is to be issued for; None for the default one.
            hint: Only an identity with this hint is meant.
            timeout: Seconds to wait, None for as long as it is tried.

        Raises:
            TimeoutError: It did not come in time.
        """

        async def fetch() -> JwtSvid:
            return await self._inner.jwt_svid(audience, *more, subject=subject, hint=hint)

        return self._portal.call(fetch, timeout=timeout)

    @border
    def verify_jwt_svid(self, token: str, audience: str | Collection[str]) -> JwtSvid:
        """Verify somebody's JWT-SVID offline; see `JwtSource.verify_jwt_svid`."""
        return self._portal.call(self._inner.verify_jwt_svid, token, audience)

    def tls(
        self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[_workload.TlsOptions]
    ) -> ssl.SSLContext:
        """Make a context for connecting; see the async `Workload.tls`."""
        return self._inner.tls(peer=peer, **options)

    def server_tls(
        self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[_workload.TlsOptions]
    ) -> ssl.SSLContext:
        """Make a context for accepting connections; see the async `Workload.server_tls`."""
        return self._inner.server_tls(peer=peer, **options)

    def http(self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[_workload.HttpOptions]) -> Client:
        """Make an `httpx.Client` whose requests go to this peer and nobody else."""
        return self._inner.http_sync(peer=peer, **options)
