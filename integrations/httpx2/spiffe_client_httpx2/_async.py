"""The transport and the client for `httpx2.AsyncClient`."""

from __future__ import annotations

from typing import ClassVar, Unpack

import httpx2

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.audit import EventSink
from spiffe_client.authorize import Authorizer
from spiffe_client.http._async import AsyncBody, AsyncTransport
from spiffe_client.http._async_client import AsyncOpeningTransport, AsyncPeerClient
from spiffe_client.http._library import Library
from spiffe_client.http._options import DRAIN
from spiffe_client.ids import SpiffeId
from spiffe_client.tls import SpiffeTls
from spiffe_client.workload_api import Endpoint, X509ContextSource
from spiffe_client_httpx2._options import AsyncClientOptions, TransportOptions
from spiffe_client_httpx2._proxies import environment_proxies

__all__ = ["AsyncClient", "AsyncSpiffeTransport"]


class _Body(AsyncBody, httpx2.AsyncByteStream):
    __slots__ = ()

    _library: ClassVar[Library] = httpx2


class AsyncSpiffeTransport(AsyncTransport, httpx2.AsyncBaseTransport):  # type: ignore[misc]  # see below
    """`spiffe_client.http.AsyncSpiffeTransport`, for httpx2.

    Args:
        tls: Who this workload is and who may be on the other end.
        drain: After an ordinary rotation, pooled connections retire at a random moment within
            this many seconds; withdrawn trust does not wait.
        clock: Measures and waits.
        on_event: Told of retired connections; logged if None.
        options: As `httpx2.AsyncHTTPTransport`, without `verify`, `cert` and `trust_env`.

    Raises:
        TlsConfigurationError: An argument would weaken verification or makes no sense.
    """

    # Requests and responses that it is given and gives are httpx2's, though its base class says httpx's.
    _library: ClassVar[Library] = httpx2
    _body_type: ClassVar[type[AsyncBody]] = _Body

    def __init__(
        self,
        tls: SpiffeTls,
        *,
        drain: float = DRAIN,
        clock: Clock = SYSTEM_CLOCK,
        on_event: EventSink | None = None,
        **options: Unpack[TransportOptions],
    ) -> None:
        super().__init__(tls, drain=drain, clock=clock, on_event=on_event, **options)


class _ClientTransport(AsyncOpeningTransport, AsyncSpiffeTransport):  # type: ignore[misc]  # see above
    pass


class AsyncClient(AsyncPeerClient, httpx2.AsyncClient):
    """An `httpx2.AsyncClient` whose requests go to one SPIFFE peer and nobody else.

    As `spiffe_client.http.AsyncClient`, with the same differences to the client of the library.

    Args:
        peer: Who may be on the other end: a SPIFFE ID or an authorizer.
        workload: Whose identity to use: a `Workload`, an `X509Source`, an `X509Context`. It stays
            open when the client closes. If None, the client opens an identity of its own when it
            is entered or first used, and closes it with itself.
        endpoint: Address of the Workload API for that; None takes it from the environment.
        drain: After an ordinary rotation, pooled connections retire at a random moment within
            this many seconds; withdrawn trust does not wait.
        on_event: Told of refused peers and retired connections; logged if None.
        options: As `httpx2.AsyncClient`.

    Raises:
        TlsConfigurationError: An argument would weaken verification or be ignored.
        EndpointError: There is no `workload` and no Workload API address.
    """

    _library: ClassVar[Library] = httpx2
    _transport_type: ClassVar[type[AsyncOpeningTransport]] = _ClientTransport
    _environment_proxies = staticmethod(environment_proxies)

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
