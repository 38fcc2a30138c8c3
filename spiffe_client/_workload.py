"""The front door: everything a workload does with its identity, each in one call.

It holds no logic: what it does, a user can do with a public call of the room that does it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self, TypedDict, Unpack
from weakref import WeakKeyDictionary

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._frames import async_border
from spiffe_client._retry import Backoff
from spiffe_client.audit import EventSink
from spiffe_client.sources import X509Source
from spiffe_client.workload_api import WorkloadApiClient

if TYPE_CHECKING:
    import ssl

    from spiffe_client.authorize import Authorizer
    from spiffe_client.bundle import BundleSet, X509Bundle
    from spiffe_client.http import AsyncClient, Client
    from spiffe_client.http._options import AsyncClientOptions, ClientOptions
    from spiffe_client.ids import SpiffeId, TrustDomain
    from spiffe_client.sources import Health, JwtSource, OnRedaction
    from spiffe_client.svid import JwtSvid, X509Svid
    from spiffe_client.tls import Configure, SpiffeTls
    from spiffe_client.workload_api import Endpoint, X509Context

    class AsyncHttpOptions(AsyncClientOptions, total=False):
        """What `Workload.http` takes beside `peer`; see `http.AsyncClient`."""

        drain: float

    class HttpOptions(ClientOptions, total=False):
        """What `Workload.http_sync` takes beside `peer`; see `http.Client`."""

        drain: float


__all__ = ["TlsOptions", "Workload"]


class TlsOptions(TypedDict, total=False):
    """What `Workload.tls` and `Workload.server_tls` take beside `peer`; see `tls.SpiffeTls`."""

    trust_domains: Collection[TrustDomain | str] | None
    minimum_version: ssl.TLSVersion
    alpn: Sequence[str]
    configure: Configure | None


class _Terms(TypedDict):
    hint: str | None
    timeout: float
    on_redaction: OnRedaction
    grace: float
    backoff: Backoff
    clock: Clock
    on_event: EventSink | None


class _Identity(X509Source):
    _OWNER = "this Workload"
    _OPENING = "`async with Workload() as me:` or await open()"


class Workload:
    """This workload: who it is, and how it calls and is called.

    `async with Workload() as me:` waits for the first X509-SVID with a deadline and says why if
    it does not come. Reads are instant, from any thread. JWT-SVIDs and JWT bundles are followed
    from their first use on. It is a source of X.509 contexts itself, for everything that takes one.

    Args:
        endpoint: Address of the Workload API; None takes it from `SPIFFE_ENDPOINT_SOCKET`.
        picker: Chooses the X.509 identity to use among those issued; the default is the first.
        hint: Only identities with this hint count, X.509 and JWT.
        timeout: Seconds that opening waits for the first SVID.
        on_redaction: `drop`: when the issuer takes the identity back, stop using it (Workload API
            §4.4). `keep-until-expiry`: use it until it expires.
        grace: Seconds that a confirmed PermissionDenied does not cut off yet.
        backoff: Between attempts to reach the Workload API.
        clock: Where the time comes from.
        on_event: Takes events; the default writes them to the logger `spiffe_client`.

    Raises:
        EndpointError: The Workload API's address is missing or malformed.
    """

    # Speaks of itself as its user knows it; the blocking Workload has another.
    _source: ClassVar[type[X509Source]] = _Identity

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
        self._client = WorkloadApiClient(endpoint, clock=clock)
        self._terms: _Terms = {
            "hint": hint,
            "timeout": timeout,
            "on_redaction": on_redaction,
            "grace": grace,
            "backoff": backoff,
            "clock": clock,
            "on_event": on_event,
        }
        self._x509 = self._source(self._client, picker=picker, **self._terms)
        self._jwt: JwtSource | None = None
        # What prepares a context's next generation has to live as long as the context does.
        self._tls: WeakKeyDictionary[ssl.SSLContext, SpiffeTls] = WeakKeyDictionary()

    async def open(self) -> Self:
        """Start, and wait for the first SVID; for where `async with` does not fit.

        Raises:
            FirstUpdateTimeoutError: None came in time; the message and `__cause__` say why.
            InvalidRequestError: The Workload API calls the request malformed.
            UnimplementedError: The Workload API does not offer this.
            SourceClosedError: It was closed before, or opened by the process this one was forked from.
        """
        await self._x509.open()
        return self

    async def aclose(self) -> None:
        """Stop; reads raise from now on. Idempotent, prompt, from any task."""
        if self._jwt is not None:
            await self._jwt.aclose()
        await self._x509.aclose()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

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
    def health(self) -> Health:
        """How the X.509 identity is doing; never raises."""
        return self._x509.health

    async def wait_updated(self) -> None:
        """Wait until another snapshot is published.

        Raises:
            SourceClosedError: The workload is not open, or was closed meanwhile.
        """
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

    async def jwt_svid(
        self,
        audience: str | Collection[str],
        *more: str,
        subject: SpiffeId | str | None = None,
        hint: str | None = None,
    ) -> JwtSvid:
        """Return a JWT-SVID that is valid now; see `JwtSource.fetch_jwt_svid`."""
        return await self._tokens().fetch_jwt_svid(audience, *more, subject=subject, hint=hint)

    @async_border
    async def verify_jwt_svid(self, token: str, audience: str | Collection[str]) -> JwtSvid:
        """Verify somebody's JWT-SVID offline; see `JwtSource.verify_jwt_svid`.

        The first call waits for the JWT bundles.
        """
        tokens = self._tokens()
        await tokens.wait_first_update()
        return tokens.verify_jwt_svid(token, audience)

    def _tokens(self) -> JwtSource:
        self._x509.refuse_unopened()
        if self._jwt is None:
            # Imported here: many workloads never need a JWT-SVID.
            from spiffe_client.sources import JwtSource

            self._jwt = JwtSource(self._client, **self._terms)
        self._jwt.start()
        return self._jwt

    def tls(self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[TlsOptions]) -> ssl.SSLContext:
        """Make a context for connecting to a peer with any library that takes one.

        Args:
            peer: Who may be on the other end: a SPIFFE ID or an authorizer. There is no default.
            options: See `tls.SpiffeTls`.

        Raises:
            InvalidIdError: `peer` is a string and not a workload's SPIFFE ID.
        """
        tls = self._spiffe_tls(peer, options)
        context = tls.client_context()
        self._tls[context] = tls
        return context

    def server_tls(
        self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[TlsOptions]
    ) -> ssl.SSLContext:
        """Make a context for accepting connections from peers; arguments and errors as `tls`."""
        tls = self._spiffe_tls(peer, options)
        context = tls.server_context()
        self._tls[context] = tls
        return context

    def _spiffe_tls(self, peer: Authorizer | SpiffeId | str, options: TlsOptions) -> SpiffeTls:
        from spiffe_client.authorize import Authorizer
        from spiffe_client.tls import SpiffeTls

        clock, on_event = self._terms["clock"], self._terms["on_event"]
        tls = SpiffeTls(self, Authorizer.parse(peer), clock=clock, on_event=on_event, **options)
        self.before_publish(tls.prepare)
        self.after_publish(tls.release)
        return tls

    def http(self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[AsyncHttpOptions]) -> AsyncClient:
        """Make an `httpx.AsyncClient` whose requests go to this peer and nobody else.

        Args:
            peer: Who may be on the other end: a SPIFFE ID or an authorizer. There is no default.
            options: `drain`, and what `httpx.AsyncClient` takes; see `http.AsyncClient`.
        """
        from spiffe_client.http import AsyncClient

        return AsyncClient(peer=peer, workload=self, on_event=self._terms["on_event"], **options)

    def http_sync(self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[HttpOptions]) -> Client:
        """Make an `httpx.Client` like `http`, for code that blocks in a thread of its own."""
        from spiffe_client.http import Client

        return Client(peer=peer, workload=self, on_event=self._terms["on_event"], **options)
