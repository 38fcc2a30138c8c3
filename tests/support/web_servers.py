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

__all__ = ["serve_aiohttp", "serve_hypercorn", "serve_uvicorn"]

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
        assert [] == failures


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
        else:
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
