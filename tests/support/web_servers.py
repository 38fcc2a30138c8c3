"""Real web servers on free ports of 127.0.0.1, each in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator

import aiohttp.web
import anyio
import hypercorn.asyncio
import hypercorn.config
import hypercorn.trio
import trio
import uvicorn

__all__ = ["ConnectProxy", "serve_aiohttp", "serve_hypercorn", "serve_proxy", "serve_uvicorn"]

App = Callable[..., Awaitable[None]]


def _listen() -> socket.socket:
    """Whoever connects before the server's loop runs waits in the backlog, so nobody polls."""
    return socket.create_server(("127.0.0.1", 0), backlog=128)


@contextlib.contextmanager
def _thread(run: Callable[[], object], stop: Callable[[], object]) -> Iterator[None]:
    failures: list[BaseException] = []

    def body() -> None:
        try:
            run()
        except BaseException as e:
            failures.append(e)

    thread = threading.Thread(target=body, name="test web server")
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"
        for failure in failures:
            raise failure


@contextlib.contextmanager
def serve_uvicorn(app: App, context: ssl.SSLContext | None, **options) -> Iterator[int]:
    """uvicorn on asyncio, HTTP/1.1."""
    sock = _listen()
    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
        ssl_context_factory=None if context is None else lambda config, default: context,
        **options,
    )
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    with sock, _thread(lambda: server.run([sock]), stop):
        yield sock.getsockname()[1]


class _HypercornConfig(hypercorn.config.Config):
    context: ssl.SSLContext | None = None

    @property
    def ssl_enabled(self) -> bool:
        return self.context is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        if self.context is not None:
            self.context.set_alpn_protocols(self.alpn_protocols)  # as the method it replaces
        return self.context


@contextlib.contextmanager
def serve_hypercorn(app: App, context: ssl.SSLContext | None, *, backend: str = "asyncio") -> Iterator[int]:
    """hypercorn, HTTP/2 and HTTP/1.1."""
    sock = _listen()
    port = sock.getsockname()[1]
    config = _HypercornConfig()
    config.context = context
    config.bind = [f"fd://{sock.detach()}"]
    config.errorlog = None
    config.graceful_timeout = 1
    config.shutdown_timeout = 2
    started = threading.Event()
    finish: list[Callable[[], object]] = []

    async def trigger() -> None:
        done = anyio.Event()
        if backend == "trio":
            token = trio.lowlevel.current_trio_token()
            finish.append(lambda: token.run_sync_soon(done.set))
        else:
            loop = asyncio.get_running_loop()
            finish.append(lambda: loop.call_soon_threadsafe(done.set))
        started.set()
        await done.wait()

    def run() -> None:
        if backend == "trio":
            trio.run(lambda: hypercorn.trio.serve(app, config, shutdown_trigger=trigger, mode="asgi"))
            return
        # A connection that was cut while it was open ends hypercorn's shutdown with its error.
        with contextlib.suppress(ssl.SSLError):
            asyncio.run(hypercorn.asyncio.serve(app, config, shutdown_trigger=trigger, mode="asgi"))

    def stop() -> None:
        assert started.wait(10)
        finish[0]()

    with _thread(run, stop):
        yield port


@contextlib.contextmanager
def serve_aiohttp(
    handler: Callable[[aiohttp.web.Request], Awaitable[aiohttp.web.StreamResponse]],
    context: ssl.SSLContext | None,
) -> Iterator[int]:
    """aiohttp.web on asyncio, HTTP/1.1."""
    sock = _listen()
    started = threading.Event()
    finish: list[Callable[[], object]] = []

    async def main() -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        finish.append(lambda: loop.call_soon_threadsafe(done.set))
        app = aiohttp.web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = aiohttp.web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        await aiohttp.web.SockSite(runner, sock, ssl_context=context).start()
        started.set()
        await done.wait()
        await runner.cleanup()

    def stop() -> None:
        assert started.wait(10)
        finish[0]()

    with sock, _thread(lambda: asyncio.run(main()), stop):
        yield sock.getsockname()[1]


class ConnectProxy:
    """An HTTP proxy that tunnels (CONNECT) and does nothing else.

    Attributes:
        tunnels: Where to, and with what `Proxy-Authorization`.
    """

    def __init__(self) -> None:
        self.port = 0
        self.tunnels: list[tuple[str, str | None]] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, _ = head.split(" ", 2)
            lines = [line.partition(": ") for line in head.split("\r\n")[1:]]
            authorization = {name.lower(): value for name, _, value in lines}.get("proxy-authorization")
            self.tunnels.append((target, authorization))
            if method != "CONNECT" or target.startswith("forbidden."):
                writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
                return
            host, _, port = target.rpartition(":")
            there, back = await asyncio.open_connection(host, int(port))
            with contextlib.closing(back):
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()


@contextlib.contextmanager
def serve_proxy(context: ssl.SSLContext | None = None) -> Iterator[ConnectProxy]:
    """A proxy on asyncio, itself behind TLS if a context is given."""
    proxy = ConnectProxy()
    sock = _listen()
    proxy.port = sock.getsockname()[1]
    started = threading.Event()
    finish: list[Callable[[], object]] = []

    async def main() -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        finish.append(lambda: loop.call_soon_threadsafe(done.set))
        server = await asyncio.start_server(proxy.handle, sock=sock, ssl=context)
        started.set()
        await done.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            await task

    def stop() -> None:
        assert started.wait(10)
        finish[0]()

    with sock, _thread(lambda: asyncio.run(main()), stop):
        yield proxy
