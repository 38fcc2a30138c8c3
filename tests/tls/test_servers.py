"""Servers as they are, given our context: their code is only called by clients that are allowed."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp.web
import anyio
import anyio.to_thread
import pytest
import trio
from anyio.streams.tls import TLSListener

from spiffe_client.authorize import allow
from spiffe_client.errors import PeerError
from spiffe_client.tls import peer_of
from tests.support.pki import Identity, new_authority
from tests.support.tls_wire import TLS12, TLS13, Source, context_of, plain_client, tls_of

A, B = new_authority("a.test"), new_authority("b.test")
RULE = allow("spiffe://a.test/peer")
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
PEER = A.leaf("spiffe://a.test/peer")


def request(port: int, identity: Identity | None, version: ssl.TLSVersion) -> tuple[bytes, bytes | None]:
    """What a client of the standard library gets: the reply, and the server's leaf."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        plain_client(identity, version=version).wrap_socket(raw) as connection,
    ):
        leaf = connection.getpeercert(binary_form=True)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: me.test\r\nConnection: close\r\n\r\n")
        reply = b""
        while part := connection.recv(1000):
            reply += part
        return reply, leaf


class Calls(list[str]):
    """Who got as far as the server's own code."""

    def by(self, connection: object) -> None:
        self.append(str(peer_of(connection).id))


@asynccontextmanager
async def asyncio_server(context: ssl.SSLContext, calls: Calls) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.by(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(REPLY)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def anyio_server(context: ssl.SSLContext, calls: Calls) -> AsyncIterator[int]:
    async def serve(stream: Any) -> None:
        async with stream:
            calls.by(stream)
            await stream.receive()
            await stream.send(REPLY)

    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    listener = TLSListener(plain, context, standard_compatible=False)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield plain.extra(anyio.abc.SocketAttribute.local_port)
        group.cancel_scope.cancel()


@asynccontextmanager
async def trio_server(context: ssl.SSLContext, calls: Calls) -> AsyncIterator[int]:
    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                await stream.receive_some()
                calls.by(stream)
                await stream.send_all(REPLY)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            lambda task_status: trio.serve_ssl_over_tcp(
                serve, 0, context, host="127.0.0.1", https_compatible=True, task_status=task_status
            )
        )
        yield listeners[0].transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def aiohttp_server(context: ssl.SSLContext, calls: Calls) -> AsyncIterator[int]:
    async def handle(request: aiohttp.web.Request) -> aiohttp.web.Response:
        calls.by(request)
        return aiohttp.web.Response(text="ok")

    app = aiohttp.web.Application()
    app.router.add_get("/", handle)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def http_server(context: ssl.SSLContext, calls: Calls, *, on_connect: bool = True) -> AsyncIterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            calls.by(self)
            self.wfile.write(REPLY)

        def log_message(self, *_: object) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None: ...

    with Server(("127.0.0.1", 0), Handler) as server:
        port = server.server_port
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=on_connect)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield port
        finally:
            server.shutdown()
            thread.join()


Server = Callable[[ssl.SSLContext, Calls], Any]
SERVERS: dict[str, tuple[str, Server]] = {
    "asyncio": ("asyncio", asyncio_server),
    "anyio on asyncio": ("asyncio", anyio_server),
    "anyio on trio": ("trio", anyio_server),
    "trio": ("trio", trio_server),
    "aiohttp.web": ("asyncio", aiohttp_server),
    "http.server": ("asyncio", http_server),
    "http.server without a handshake on connect": (
        "asyncio",
        lambda context, calls: http_server(context, calls, on_connect=False),
    ),
}


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
@pytest.mark.parametrize(("backend", "server"), SERVERS.values(), ids=SERVERS)
class TestServers:
    @pytest.mark.parametrize(
        "identity",
        [
            B.leaf("spiffe://a.test/peer"),
            A.leaf("spiffe://a.test/other"),
            new_authority("a.test").leaf("spiffe://a.test/peer"),
            None,
        ],
        ids=["forged", "not allowed", "unknown root", "no certificate"],
    )
    def test_bad_clients(
        self, backend: str, server: Server, version: ssl.TLSVersion, identity: Identity | None
    ) -> None:
        """They never reach the server's code, and the refusal is counted; the next client is served."""
        tls = tls_of(
            context_of(A.leaf("spiffe://a.test/me"), A, B),
            RULE,
            minimum_version=version,
            trust_domains={"a.test", "b.test"},
        )
        calls = Calls()

        async def scenario() -> None:
            async with server(tls.server_context(), calls) as port:
                try:
                    reply, _ = await anyio.to_thread.run_sync(request, port, identity, version)
                except OSError as error:
                    assert not isinstance(error, (PeerError, TimeoutError))
                else:
                    assert b"" == reply  # the client learns of it by its first read
                assert [] == calls
                reply, _ = await anyio.to_thread.run_sync(request, port, PEER, version)
                assert reply.endswith(b"ok")

        anyio.run(scenario, backend=backend)
        assert ["spiffe://a.test/peer"] == calls
        assert (1, 1) == (tls.stats.handshakes, tls.stats.refused)

    def test_rotation_without_a_restart(self, backend: str, server: Server, version: ssl.TLSVersion) -> None:
        """The next handshake has the new leaf, and a client of the removed root is out."""
        new = new_authority("a.test")
        states = [context_of(a.leaf("spiffe://a.test/me"), a) for a in (A, new)]
        source, calls = Source(states[0]), Calls()
        tls = tls_of(source, RULE, minimum_version=version)

        async def scenario() -> None:
            async with server(tls.server_context(), calls) as port:
                for authority, state in zip((A, new), states, strict=True):
                    source.value = state
                    peer = authority.leaf("spiffe://a.test/peer")
                    reply, leaf = await anyio.to_thread.run_sync(request, port, peer, version)
                    assert reply.endswith(b"ok")
                    assert state.svid.ders[0] == leaf
                with contextlib.suppress(OSError):
                    reply, _ = await anyio.to_thread.run_sync(request, port, PEER, version)
                    assert b"" == reply

        anyio.run(scenario, backend=backend)
        assert ["spiffe://a.test/peer"] * 2 == calls
        assert (2, 1) == (tls.stats.handshakes, tls.stats.refused)
