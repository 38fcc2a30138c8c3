"""`httpx.AsyncClient`, speaking SPIFFE TLS, and what is the same in one of httpx2."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack, cast

import httpx

from spiffe_client.audit import EventSink
from spiffe_client.authorize import Authorizer
from spiffe_client.errors import SourceError, SpiffeError
from spiffe_client.http._async import AsyncSpiffeTransport, AsyncTransport
from spiffe_client.http._explain import no_identity
from spiffe_client.http._identity import OwnIdentity
from spiffe_client.http._library import Library
from spiffe_client.http._options import (
    DRAIN,
    AsyncClientOptions,
    Options,
    check_mounts,
    check_source,
    refuse_insecure,
    take_wire_options,
)
from spiffe_client.http._pools import Pool
from spiffe_client.http._proxies import environment_proxies, take_proxies
from spiffe_client.ids import SpiffeId
from spiffe_client.tls import SpiffeTls
from spiffe_client.workload_api import Endpoint, X509ContextSource

__all__ = ["AsyncClient", "AsyncOpeningTransport", "AsyncPeerClient"]


if TYPE_CHECKING:

    class _Base:
        """What the base classes of clients have in common, for `super()`."""

        def __init__(self, **options: Any) -> None: ...
        async def __aenter__(self) -> Self: ...
        async def __aexit__(
            self,
            exc_type: type[BaseException] | None = None,
            exc_value: BaseException | None = None,
            traceback: TracebackType | None = None,
        ) -> None: ...
        async def aclose(self) -> None: ...

else:
    _Base = object


class AsyncOpeningTransport(AsyncTransport):
    """Opens the client's own identity, if it has one, when the first request comes."""

    def __init__(
        self,
        own: OwnIdentity | None,
        tls: SpiffeTls,
        *,
        drain: float,
        on_event: EventSink | None,
        **options: Any,
    ) -> None:
        super().__init__(tls, drain=drain, on_event=on_event, **options)
        self._own = own

    async def _enter_late(self, error: SourceError, request: httpx.Request) -> Pool[httpx.AsyncHTTPTransport]:
        own = self._own
        if own is None or own.opened:
            return await super()._enter_late(error, request)
        try:
            await own.open()
            return self._pools.enter()
        except SpiffeError as unopened:
            raise no_identity(unopened, request, self._library) from unopened


class AsyncPeerClient(_Base):
    """All of `AsyncClient` but whose names it uses and which base class it has.

    Attributes:
        _library: The module of that base class.
        _transport_type: What its requests go through.
        _environment_proxies: What reads the environment, as the library does.
    """

    _library: ClassVar[Library]
    _transport_type: ClassVar[type[AsyncOpeningTransport]]
    _environment_proxies = staticmethod(environment_proxies)

    def __init__(
        self,
        *,
        peer: Authorizer | SpiffeId | str,
        workload: X509ContextSource | None = None,
        endpoint: str | Endpoint | None = None,
        drain: float = DRAIN,
        on_event: EventSink | None = None,
        **options: Any,
    ) -> None:
        refuse_insecure(options, but=["trust_env"])
        check_source(workload, endpoint)
        check_mounts(options.get("mounts"), spiffe=AsyncTransport, library=self._library)
        authorizer = Authorizer.parse(peer)
        own: OwnIdentity | None = None
        if workload is None:
            own = OwnIdentity(endpoint, on_event=on_event)
            workload = own.source
        self._own_identity = own
        tls = SpiffeTls(workload, authorizer, on_event=on_event)
        typed = cast("Options", options)  # which the public class says
        wire = take_wire_options(typed)

        def transport(proxy: httpx.Proxy | None = None) -> AsyncOpeningTransport:
            return self._transport_type(own, tls, drain=drain, on_event=on_event, proxy=proxy, **wire)

        routes = {
            pattern: None if proxy is None else transport(proxy)
            for pattern, proxy in take_proxies(typed, self._library, self._environment_proxies).items()
        }
        options["mounts"] = {**routes, **(options.get("mounts") or {})}
        super().__init__(transport=transport(), **options)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            if self._own_identity is not None:
                await self._own_identity.open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        try:
            await super().__aexit__(exc_type, exc_value, traceback)
        finally:
            await self._forget()

    async def aclose(self) -> None:
        """Close the connections, and the identity if the client opened it."""
        try:
            await super().aclose()
        finally:
            await self._forget()

    async def _forget(self) -> None:
        if self._own_identity is not None:
            await self._own_identity.aclose()


class _ClientTransport(AsyncOpeningTransport, AsyncSpiffeTransport):
    pass


class AsyncClient(AsyncPeerClient, httpx.AsyncClient):
    """An `httpx.AsyncClient` whose requests go to one SPIFFE peer and nobody else.

    Everything httpx takes and does stays as it is, with these differences: URLs must be
    `https://`; host names are looked up and not verified, the peer's SPIFFE ID is; proxies are
    tunnelled through (CONNECT), with SPIFFE TLS inside; a mount must name the host it is for,
    and only there requests go another way than SPIFFE TLS; `verify`, `cert` and `transport` are
    refused.

    Args:
        peer: Who may be on the other end: a SPIFFE ID or an authorizer.
        workload: Whose identity to use: a `Workload`, an `X509Source`, an `X509Context`. It stays
            open when the client closes. If None, the client opens an identity of its own when it
            is entered or first used, and closes it with itself.
        endpoint: Address of the Workload API for that; None takes it from the environment.
        drain: After an ordinary rotation, pooled connections retire at a random moment within
            this many seconds; withdrawn trust does not wait.
        on_event: Told of refused peers and retired connections; logged if None.
        options: As `httpx.AsyncClient`.

    Raises:
        TlsConfigurationError: An argument would weaken verification or be ignored.
        EndpointError: There is no `workload` and no Workload API address.
    """

    _library: ClassVar[Library] = httpx
    _transport_type: ClassVar[type[AsyncOpeningTransport]] = _ClientTransport

    def __init__(
        self,
        *,
        peer: Authorizer | SpiffeId | str,
        workload: X509ContextSource | None = None,
        endpoint: str | Endpoint | None = None,
        drain: float = DRAIN,
        on_event: EventSink | None = None,
        **options: Unpack[AsyncClientOptions],
    ) -> None:
        super().__init__(
            peer=peer, workload=workload, endpoint=endpoint, drain=drain, on_event=on_event, **options
        )
