"""Withdrawn trust ends connections of every stack: nothing more is said, nothing more is heard."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio
from anyio.streams.tls import TLSListener

from spiffe_client.errors import PeerError, find
from tests.support.pki import new_authority
from tests.support.tls_server import REPLY, REQUEST, server
from tests.support.tls_wire import Source, context_of, plain_client, tls_of

A, B = new_authority("a.test"), new_authority("b.test")
ME, PEER = A.leaf("spiffe://a.test/me"), B.leaf("spiffe://b.test/peer")
BOTH, WITHOUT_B = context_of(ME, A, B), context_of(ME, A)

Withdraw = Callable[[], None]


async def asyncio_client(context: ssl.SSLContext, port: int, withdraw: Withdraw) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="peer.test")
    try:
        writer.write(REQUEST)
        assert REPLY == await reader.readexactly(len(REPLY))
        withdraw()
        writer.write(REQUEST)
        return await reader.read(100)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def anyio_client(context: ssl.SSLContext, port: int, withdraw: Withdraw) -> bytes:
    async with await anyio.connect_tcp(
        "127.0.0.1", port, ssl_context=context, tls_hostname="peer.test", tls_standard_compatible=False
    ) as stream:
        await stream.send(REQUEST)
        assert REPLY == await stream.receive(len(REPLY))
        withdraw()
        await stream.send(REQUEST)
        return await stream.receive(100)


async def trio_client(context: ssl.SSLContext, port: int, withdraw: Withdraw) -> bytes:
    raw = await trio.open_tcp_stream("127.0.0.1", port)
    async with trio.SSLStream(raw, context, server_hostname="peer.test", https_compatible=True) as stream:
        await stream.send_all(REQUEST)
        assert REPLY == await stream.receive_some(len(REPLY))
        withdraw()
        return await stream.receive_some(100)  # a read alone notices it too


async def socket_client(context: ssl.SSLContext, port: int, withdraw: Withdraw) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw) as connection,
    ):
        connection.sendall(REQUEST)
        assert REPLY == connection.recv(len(REPLY))
        withdraw()
        connection.sendall(REQUEST)
        return connection.recv(100)


CLIENTS: dict[str, tuple[str, Callable[..., Awaitable[bytes]]]] = {
    "asyncio": ("asyncio", asyncio_client),
    "anyio on asyncio": ("asyncio", anyio_client),
    "anyio on trio": ("trio", anyio_client),
    "trio": ("trio", trio_client),
    "SSLSocket": ("asyncio", socket_client),
}


@pytest.mark.parametrize(("backend", "client"), CLIENTS.values(), ids=CLIENTS)
def test_clients(backend: str, client: Callable[..., Awaitable[bytes]]) -> None:
    """The second request is not sent; the error says why, under whatever the library makes of it."""
    source = Source(BOTH)
    tls = tls_of(source)

    def withdraw() -> None:
        source.value = WITHOUT_B

    with server(PEER, A) as running:
        with pytest.raises(Exception) as e:
            anyio.run(client, tls.client_context(), running.port, withdraw, backend=backend)
        assert "anchor_withdrawn" == find(e.value, PeerError).why
    assert [REQUEST] == running.heard
    assert (1, 1) == (tls.stats.handshakes, tls.stats.ended)


Serve = Callable[[ssl.SSLContext, list[bytes]], Any]


@asynccontextmanager
async def asyncio_server(context: ssl.SSLContext, heard: list[bytes]) -> AsyncIterator[int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while word := await reader.read(100):
                heard.append(word)
                writer.write(word)
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context) as listening:
        yield listening.sockets[0].getsockname()[1]


@asynccontextmanager
async def anyio_server(context: ssl.SSLContext, heard: list[bytes]) -> AsyncIterator[int]:
    async def echo(stream: Any) -> None:
        with contextlib.suppress(OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            async with stream:
                while True:
                    heard.append(await stream.receive(100))
                    await stream.send(heard[-1])

    plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
    listener = TLSListener(plain, context, standard_compatible=False)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        yield plain.extra(anyio.abc.SocketAttribute.local_port)
        group.cancel_scope.cancel()


@asynccontextmanager
async def trio_server(context: ssl.SSLContext, heard: list[bytes]) -> AsyncIterator[int]:
    async def echo(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                while word := await stream.receive_some(100):
                    heard.append(bytes(word))
                    await stream.send_all(word)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            lambda task_status: trio.serve_ssl_over_tcp(
                echo, 0, context, host="127.0.0.1", https_compatible=True, task_status=task_status
            )
        )
        yield listeners[0].transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def socket_server(context: ssl.SSLContext, heard: list[bytes]) -> AsyncIterator[int]:
    def echo() -> None:
        with contextlib.suppress(OSError), listening.accept()[0] as raw:
            with context.wrap_socket(raw, server_side=True) as connection:
                while word := connection.recv(100):
                    heard.append(word)
                    connection.sendall(word)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=echo)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


SERVERS: dict[str, tuple[str, Serve]] = {
    "asyncio": ("asyncio", asyncio_server),
    "anyio on asyncio": ("asyncio", anyio_server),
    "anyio on trio": ("trio", anyio_server),
    "trio": ("trio", trio_server),
    "SSLSocket": ("asyncio", socket_server),
}


@pytest.mark.parametrize(("backend", "serve"), SERVERS.values(), ids=SERVERS)
def test_servers(backend: str, serve: Serve) -> None:
    """The second word is not heard by the server's code, and not answered."""
    source = Source(BOTH)
    tls = tls_of(source)
    heard: list[bytes] = []

    def talk(port: int) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            plain_client(PEER).wrap_socket(raw) as connection,
        ):
            connection.sendall(b"first")
            assert b"first" == connection.recv(100)
            source.value = WITHOUT_B
            connection.sendall(b"second")
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                return connection.recv(100)
            return b""

    async def scenario() -> None:
        async with serve(tls.server_context(), heard) as port:
            assert b"" == await anyio.to_thread.run_sync(talk, port)

    anyio.run(scenario, backend=backend)
    assert [b"first"] == heard
    assert (1, 1) == (tls.stats.handshakes, tls.stats.ended)
