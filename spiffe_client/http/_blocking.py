"""The transport for `httpx.Client`, and what is the same in one for httpx2."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any, ClassVar, Unpack

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

__all__ = ["BlockingBody", "BlockingTransport", "SpiffeTransport"]


class BlockingTransport:
    """All of `SpiffeTransport` but whose names it uses and which base class it has.

    Attributes:
        _library: The module of that base class.
        _body_type: What wraps the body of a response.
    """

    _library: ClassVar[Library]
    _body_type: ClassVar[type[BlockingBody]]

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
        context, kind = tls.client_context(), self._library.HTTPTransport

        def make() -> httpx.HTTPTransport:
            made: httpx.HTTPTransport = kind(verify=context, trust_env=False, **options)
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
        self._drainer = Drainer(self._pools, _close_from_loop, clock=clock, sink=sink)
        follow(tls.source, tls.prepare, tls.release, self.retire)

    @any_thread
    def retire(self) -> None:
        """Look at the source now: what `X509Source.after_publish` calls.

        What must close at once is closed before this returns; what may drain is closed in time by
        a background task on the event loop this is called on, or by the next request.
        """
        with contextlib.suppress(SourceError):
            self._pools.observe()
        _close(self._pools.take_idle())
        self._drainer.wake()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; see `httpx.BaseTransport`.

        Raises:
            httpx.ConnectError: The peer was refused, or there is no identity: the message says
                why, and `errors.find` gets the `PeerError` or `SourceError` behind it.
            httpx.UnsupportedProtocol: It is not an `https://` URL.
        """
        if request.url.scheme != "https":
            refuse_plaintext(request, self._library)
        handled = sys.exception()
        pools = self._pools
        try:
            pool = pools.enter()
        except SourceError as error:
            pool = self._enter_late(error, request)
        try:
            if pools.retired:
                _close(pools.take_idle())
            response = pool.inner.handle_request(request)
        except BaseException as error:
            if (closing := pools.leave(pool)) is not None:
                _close([closing])
            if not isinstance(error, Exception):
                raise
            reraise(error, request, library=self._library, handled=handled, presented=pools.identity)
        response.stream = self._body_type(response, request, pools, pool)  # type: ignore[assignment]  # and its library's
        return response

    def _enter_late(self, error: SourceError, request: httpx.Request) -> Pool[httpx.HTTPTransport]:
        _close(self._pools.take_idle())
        raise no_identity(error, request, self._library) from error

    def close(self) -> None:
        """Close all connections, also those in use."""
        self._drainer.stop()
        _close(self._pools.take_all())


def _close(transports: list[httpx.HTTPTransport]) -> None:
    for transport in transports:
        # What cannot be closed properly is gone all the same, and it would be another request
        # that fails.
        with contextlib.suppress(Exception):
            transport.close()


async def _close_from_loop(transports: list[httpx.HTTPTransport]) -> None:
    _close(transports)  # closing a socket does not block


class BlockingBody:
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
        pools: Pools[httpx.HTTPTransport],
        pool: Pool[httpx.HTTPTransport],
    ) -> None:
        self._body: httpx.SyncByteStream = response.stream  # type: ignore[assignment]  # a blocking transport's
        self._request = request
        self._pools = pools
        self._pool: Pool[httpx.HTTPTransport] | None = pool
        self._stream = stream = response.extensions["network_stream"]
        if id(stream) not in pool.streams:
            pool.track(stream)

    def __iter__(self) -> Iterator[bytes]:
        handled = sys.exception()
        try:
            yield from self._body
        except Exception as error:  # noqa: BLE001 - raised again
            cut = self._pools.reason(self._stream)
            reraise(error, self._request, library=self._library, handled=handled, cut=cut)

    def close(self) -> None:
        """See `httpx.SyncByteStream`."""
        pool, self._pool = self._pool, None
        try:
            self._body.close()
        finally:
            if pool is not None and (closing := self._pools.leave(pool)) is not None:
                _close([closing])


class _Body(BlockingBody, httpx.SyncByteStream):
    __slots__ = ()

    _library: ClassVar[Library] = httpx


class SpiffeTransport(BlockingTransport, httpx.BaseTransport):
    """`AsyncSpiffeTransport` for blocking code; safe to share between threads.

    Args:
        tls: Who this workload is and who may be on the other end. Its source may live in another
            thread.
        drain: As for `AsyncSpiffeTransport`.
        clock: Measures and waits.
        on_event: Told of retired connections; logged if None.
        options: As `httpx.HTTPTransport`, without `verify`, `cert` and `trust_env`.

    Raises:
        TlsConfigurationError: An argument would weaken verification or makes no sense.
    """

    _library: ClassVar[Library] = httpx
    _body_type: ClassVar[type[BlockingBody]] = _Body

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
