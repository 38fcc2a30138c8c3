"""uvicorn's HTTP on an event loop in a thread of its own, stopped and started at will.

uvicorn is asyncio's alone, and whoever uses a token broker may run on trio. Its own server object
wakes ten times a second and waits for clients to hang up; here its protocol is driven directly, so
that an outage and an end are a matter of milliseconds.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

import anyio.to_thread
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

__all__ = ["App", "Listener", "ServerThread", "listen"]

App = Callable[..., Awaitable[None]]

_HOST = "127.0.0.1"
_HANDSHAKE_TIMEOUT = 10.0


@dataclass(slots=True)
class Listener:
    """A port of the loopback interface, and what is spoken there.

    Attributes:
        name: What applications know it as.
        context: Makes or returns the TLS context for one connection; None speaks plain HTTP.
        socket: The listening socket, while there is one.
        port: Its port: chosen at first, and kept.
    """

    name: str
    context: Callable[[], ssl.SSLContext] | None = None
    socket: socket.socket | None = field(default=None, repr=False)
    port: int = 0

    def listen(self) -> None:
        """Open the port; who connects before anybody accepts waits in the backlog."""
        self.socket = socket.create_server((_HOST, self.port), backlog=1024)
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]

    def close(self) -> None:
        """Close the port: who connects now is refused."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    @property
    def origin(self) -> str:
        """Its URL without a path."""
        return f"{'http' if self.context is None else 'https'}://{_HOST}:{self.port}"


def listen(listeners: Sequence[Listener]) -> None:
    """Open all ports or none.

    Raises:
        OSError: A port cannot be had.
    """
    try:
        for listener in listeners:
            listener.listen()
    except OSError:
        for listener in listeners:
            listener.close()
        raise


class _Protocol(H11Protocol):
    """Lets the application see the connection: `state` of the ASGI scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class ServerThread:
    """Serves an ASGI application at some ports.

    The `state` of each request's scope has the `listener` and the `transport` it came by, and
    `stopping`, an `asyncio.Event` that is set when whoever waits should give up.

    Args:
        app: The application.
        listeners: Where.
        name: Of the thread.
        closing: Run on the loop at the very end.
    """

    def __init__(
        self,
        app: App,
        listeners: Sequence[Listener],
        *,
        name: str,
        closing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._closing = closing
        self._listeners = listeners
        self._config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=300,
        )
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._state = ServerState()
        self._handshakes: dict[asyncio.Task[None], socket.socket] = {}
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that serves, once it was started."""
        return self._started.result()

    def start(self) -> None:
        """Start the thread; the ports are to be open already."""
        self._thread.start()
        # In a context of its own: that of the caller may say that trio runs here.
        self.loop.call_soon_threadsafe(self._open, context=Context())

    async def pause(self) -> None:
        """Close the ports and cut all connections."""
        await self._wait(self._cut())

    def resume(self) -> None:
        """Open the same ports again; nothing happens if they are open.

        Raises:
            OSError: A port is taken by now.
        """
        if all(listener.socket is not None for listener in self._listeners):
            return
        listen(self._listeners)
        self.loop.call_soon_threadsafe(self._open, context=Context())

    async def stop(self) -> None:
        """End everything and wait for the thread, even when cancelled."""
        with anyio.CancelScope(shield=True):
            await self.pause()
            self.loop.call_soon_threadsafe(self._ended.set)
            await anyio.to_thread.run_sync(self._thread.join)

    async def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(future.result)

    def _run(self) -> None:
        self._config.load()

        async def main() -> None:
            self._started.set_result(asyncio.get_running_loop())
            await self._ended.wait()
            if self._closing is not None:
                await self._closing()

        asyncio.run(main())

    def _open(self) -> None:
        self._stopping = asyncio.Event()
        for listener in self._listeners:
            assert listener.socket is not None
            self.loop.add_reader(listener.socket, self._accept, listener, listener.socket)

    def _accept(self, listener: Listener, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:  # nobody else for now
                return
            connection.setblocking(False)
            task = self.loop.create_task(self._connected(listener, connection))
            self._handshakes[task] = connection
            task.add_done_callback(self._handshakes.pop)

    async def _connected(self, listener: Listener, connection: socket.socket) -> None:
        state = {"listener": listener, "stopping": self._stopping}
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: _Protocol(self._config, self._state, state),
                connection,
                ssl=None if listener.context is None else listener.context(),
                ssl_handshake_timeout=None if listener.context is None else _HANDSHAKE_TIMEOUT,
            )
        except OSError:  # a handshake that failed: the client was told by TLS
            connection.close()

    async def _cut(self) -> None:
        """Stop accepting, end every connection, and let every request run out."""
        self._stopping.set()
        for listener in self._listeners:
            if listener.socket is not None:
                self.loop.remove_reader(listener.socket)
                listener.close()
        handshakes = dict(self._handshakes)
        for task in handshakes:
            task.cancel()
        await asyncio.gather(*handshakes, return_exceptions=True)
        for connection in handshakes.values():
            connection.close()  # one whose handshake had not begun
        for protocol in tuple(self._state.connections):
            protocol.transport.abort()
        while self._state.connections or self._state.tasks:  # noqa: ASYNC110 - uvicorn signals neither
            await asyncio.sleep(0)
