"""The transport for `httpx.AsyncClient`, and what is the same in one for httpx2."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from typing import Any, ClassVar, NoReturn, Self, Unpack

import anyio
import httpx

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.audit import EventSink, safe_sink
from spiffe_client.errors import SourceError
from spiffe_client.http._drainer import Drainer
from spiffe_client.http._explain import no_identity, refuse_plaintext, reraise
from spiffe_client.http._library import Library
from spiffe_client.http._options import DRAIN, TransportOptions, check_drain, refuse_insecure
from spiffe_client.http._pools import Pool, Pools
from spiffe_client.http._trust import follow
from spiffe_client.tls import SpiffeTls
from spiffe_client.workload_api import RotatingX509Source, any_thread

__all__ = ["AsyncBody", "AsyncSpiffeTransport", "AsyncTransport"]


class AsyncTransport:
    """All of `AsyncSpiffeTransport` but whose names it uses and which base class it has.

    Attributes:
        _library: The module of that base class.
        _body_type: What wraps the body of a response.
    """

    _library: ClassVar[Library]
    _body_type: ClassVar[type[AsyncBody]]

    def __init__(
        self,
        tls: SpiffeTls,
        *,
        drain: float = DRAIN,
        clock: Clock = SYSTEM_CLOCK,
        on_event: EventSink | None = None,
        **options: Any,
    ) -> None:
        refuse_insecure(options)
        self._tls = tls  # the source holds its methods weakly
        context, kind = tls.client_context(), self._library.AsyncHTTPTransport

        def make() -> httpx.AsyncHTTPTransport:
            made: httpx.AsyncHTTPTransport = kind(verify=context, trust_env=False, **options)
            return made

        sink = safe_sink(on_event)
        self._pools = Pools(
            tls,
            make,
            quiet=not isinstance(tls.source, RotatingX509Source),
            drain=check_drain(drain),
            clock=clock,
            jitter=random.uniform,
            sink=sink,
        )
        self._drainer = Drainer(self._pools, _close, clock=clock, sink=sink)
        self._thread: int | None = None
        follow(tls.source, tls.prepare, tls.release, self.retire)

    @any_thread
    def retire(self) -> None:
        """Look at the source now: what `X509Source.after_publish` calls.

        What must close at once is hung up before this returns; what may drain is closed in time by
        a background task. Called in another thread than requests are sent in, it leaves the
        closing to the next request.
        """
        with contextlib.suppress(SourceError):
            self._pools.observe()
        if self._thread == threading.get_ident():
            self._drainer.wake()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; see `httpx.AsyncBaseTransport`.

        Raises:
            httpx.ConnectError: The peer was refused, or there is no identity: the message says
                why, and `errors.find` gets the `PeerError` or `SourceError` behind it.
            httpx.UnsupportedProtocol: It is not an `https://` URL.
        """
        if request.url.scheme != "https":
            refuse_plaintext(request, self._library)
        handled = sys.exception()
        if self._thread is None:
            self._thread = threading.get_ident()
        pools = self._pools
        try:
            pool = pools.enter()
        except SourceError as error:
            pool = await self._enter_late(error, request)
        try:
            if pools.retired:
                await _close(pools.take_idle())
            response = await pool.inner.handle_async_request(request)
        except BaseException as error:
            if (closing := pools.leave(pool)) is not None:
                await _close([closing])
            if not isinstance(error, Exception):
                raise
            reraise(error, request, library=self._library, handled=handled, presented=pools.identity)
        response.stream = self._body_type(response, request, pools, pool)  # type: ignore[assignment]  # and its library's
        return response

    async def _enter_late(self, error: SourceError, request: httpx.Request) -> Pool[httpx.AsyncHTTPTransport]:
        await _close(self._pools.take_idle())
        raise no_identity(error, request, self._library) from error

    async def aclose(self) -> None:
        """Close all connections, also those in use."""
        self._drainer.stop()
        await _close(self._pools.take_all())


async def _close(transports: list[httpx.AsyncHTTPTransport]) -> None:
    with anyio.CancelScope(shield=True):
        for transport in transports:
            # What cannot be closed properly is gone all the same, and it would be another request
            # that fails.
            with contextlib.suppress(Exception):
                await transport.aclose()


class AsyncBody:
    """A response's body, which holds its pool open and says why if it is cut.

    Attributes:
        _library: Whose errors it raises.
    """

    __slots__ = ("_body", "_pool", "_pools", "_request", "_stream")

    _library: ClassVar[Library]

    def __init__(
        self,
        response: httpx.Response,
        request: httpx.Request,
        pools: Pools[httpx.AsyncHTTPTransport],
        pool: Pool[httpx.AsyncHTTPTransport],
    ) -> None:
        self._body: httpx.AsyncByteStream = response.stream  # type: ignore[assignment]  # an async transport's
        self._request = request
        self._pools = pools
        self._pool: Pool[httpx.AsyncHTTPTransport] | None = pool
        self._stream = stream = response.extensions["network_stream"]
        if id(stream) not in pool.streams:
            pool.track(stream)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Chunks(aiter(self._body), self)

    def reraise(self, error: Exception, handled: BaseException | None) -> NoReturn:
        """Raise an error of reading, and say why if the connection was cut here."""
        cut = self._pools.reason(self._stream)
        reraise(error, self._request, library=self._library, handled=handled, cut=cut)

    def aclose(self) -> Coroutine[Any, Any, None]:  # saves a coroutine
        """See `httpx.AsyncByteStream`."""
        pool, self._pool = self._pool, None
        closing = self._pools.leave(pool) if pool is not None else None
        return self._body.aclose() if closing is None else self._close_with(closing)

    async def _close_with(self, pool: httpx.AsyncHTTPTransport) -> None:
        try:
            await self._body.aclose()
        finally:
            await _close([pool])


class _Chunks:
    """The chunks of a body; not a generator, which event loops keep books about."""

    __slots__ = ("_body", "_handled", "_next")

    def __init__(self, chunks: AsyncIterator[bytes], body: AsyncBody) -> None:
        self._body = body
        self._next = chunks.__anext__
        self._handled = sys.exception()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._next()
        except StopAsyncIteration:
            raise
        except Exception as error:  # noqa: BLE001 - raised again
            self._body.reraise(error, self._handled)


class _Body(AsyncBody, httpx.AsyncByteStream):  # pyright: ignore[reportIncompatibleMethodOverride]
    __slots__ = ()

    _library: ClassVar[Library] = httpx


class AsyncSpiffeTransport(AsyncTransport, httpx.AsyncBaseTransport):
    """Sends requests over SPIFFE TLS, through connections that are never older than their trust.

    Works on asyncio and trio, with HTTP/1.1 and HTTP/2. Where trust is withdrawn, a response is cut
    at once, also while its reader waits; only a request that waits for the very first answer of a
    new connection is cut when that comes. While a former pool finishes, `limits` count for each.

    Args:
        tls: Who this workload is and who may be on the other end.
        drain: After an ordinary rotation, pooled connections retire at a random moment within
            this many seconds; withdrawn trust does not wait.
        clock: Measures and waits.
        on_event: Told of retired connections; logged if None.
        options: As `httpx.AsyncHTTPTransport`, without `verify`, `cert` and `trust_env`.

    Raises:
        TlsConfigurationError: An argument would weaken verification or makes no sense.
    """

    _library: ClassVar[Library] = httpx
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
