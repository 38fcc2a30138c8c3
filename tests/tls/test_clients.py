"""Clients as they are, given our context: good servers are reached, bad ones get not a byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import anyio
import anyio.streams.tls
import pytest
import trio

from spiffe_client.authorize import allow
from spiffe_client.errors import PeerError, PeerNotAllowedError, PeerUnverifiedError, find
from spiffe_client.tls import peer_of
from tests.support.pki import Identity, new_authority
from tests.support.tls_server import REPLY, REQUEST, server
from tests.support.tls_wire import TLS12, TLS13, context_of, tls_of

A, B = new_authority("a.test"), new_authority("b.test")
ME = context_of(A.leaf("spiffe://a.test/me"), A, B)
RULE = allow("spiffe://a.test/peer")


async def asyncio_streams(context: ssl.SSLContext, port: int) -> tuple[bytes, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="peer.test")
    return await over_asyncio(reader, writer)


async def asyncio_start_tls(context: ssl.SSLContext, port: int) -> tuple[bytes, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await writer.start_tls(context, server_hostname="peer.test")
    except ssl.SSLError:
        await asyncio.sleep(0)  # asyncio closes the bare connection one turn later
        raise
    return await over_asyncio(reader, writer)


async def over_asyncio(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, Any]:
    try:
        writer.write(REQUEST)
        reply = await reader.readexactly(len(REPLY))
        assert peer_of(writer) is peer_of(writer.transport)
        return reply, peer_of(writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def anyio_stream(context: ssl.SSLContext, port: int) -> tuple[bytes, Any]:
    async with await anyio.connect_tcp(
        "127.0.0.1", port, ssl_context=context, tls_hostname="peer.test", tls_standard_compatible=False
    ) as stream:
        await stream.send(REQUEST)
        return await stream.receive(len(REPLY)), peer_of(stream)


async def trio_stream(context: ssl.SSLContext, port: int) -> tuple[bytes, Any]:
    raw = await trio.open_tcp_stream("127.0.0.1", port)
    stream = trio.SSLStream(raw, context, server_hostname="peer.test", https_compatible=True)
    async with stream:
        with pytest.raises(PeerUnverifiedError):
            peer_of(stream)
        await stream.send_all(REQUEST)
        return await stream.receive_some(len(REPLY)), peer_of(stream)


async def aiohttp_client(context: ssl.SSLContext, port: int) -> tuple[bytes, Any]:
    sockets: list[socket.socket] = []

    def new_socket(address: Any) -> socket.socket:
        sockets.append(socket.socket(*address[:3]))
        return sockets[-1]

    connector = aiohttp.TCPConnector(ssl=context, socket_factory=new_socket)
    try:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"https://127.0.0.1:{port}/") as response,
        ):
            connection = response.connection  # None if the whole reply is here already
            peer = None if connection is None else peer_of(connection)
            assert b"ok" == await response.read()
            return REPLY, peer
    finally:  # aiohttp does not wait for its connections to be closed
        async with asyncio.timeout(10):
            while any(s.fileno() >= 0 for s in sockets):
                await asyncio.sleep(0)


def urllib_client(context: ssl.SSLContext, port: int) -> tuple[bytes, Any]:
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/", context=context, timeout=10) as response:
        assert b"ok" == response.read()
        return REPLY, None


def ssl_socket(context: ssl.SSLContext, port: int, *, lazy: bool = False) -> tuple[bytes, Any]:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="peer.test", do_handshake_on_connect=not lazy) as connection,
    ):
        connection.sendall(REQUEST)
        return connection.recv(len(REPLY)), peer_of(connection)


Client = Callable[[ssl.SSLContext, int], tuple[bytes, Any]]


def on_asyncio(client: Callable[[ssl.SSLContext, int], Awaitable[Any]]) -> Client:
    return lambda context, port: anyio.run(client, context, port, backend="asyncio")


def on_trio(client: Callable[[ssl.SSLContext, int], Awaitable[Any]]) -> Client:
    return lambda context, port: anyio.run(client, context, port, backend="trio")


CLIENTS: dict[str, Client] = {
    "asyncio streams": on_asyncio(asyncio_streams),
    "asyncio start_tls": on_asyncio(asyncio_start_tls),
    "anyio on asyncio": on_asyncio(anyio_stream),
    "anyio on trio": on_trio(anyio_stream),
    "trio": on_trio(trio_stream),
    "aiohttp": on_asyncio(aiohttp_client),
    "urllib": urllib_client,
    "SSLSocket": ssl_socket,
    "SSLSocket without do_handshake": lambda context, port: ssl_socket(context, port, lazy=True),
}


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
class TestClients:
    def test_good_server(self, client: Client, version: ssl.TLSVersion) -> None:
        """It works, and the peer is known by name where the library lets one look."""
        with server(A.leaf("spiffe://a.test/peer"), A, version) as running:
            reply, peer = client(tls_of(ME, RULE, minimum_version=version).client_context(), running.port)
            assert REPLY == reply
            assert peer is None or "spiffe://a.test/peer" == str(peer.id)

    @pytest.mark.parametrize(
        ("identity", "error"),
        [
            (B.leaf("spiffe://a.test/peer"), PeerUnverifiedError),
            (A.leaf("spiffe://a.test/other"), PeerNotAllowedError),
        ],
        ids=["forged", "not allowed"],
    )
    def test_bad_server(
        self, client: Client, version: ssl.TLSVersion, identity: Identity, error: type[PeerError]
    ) -> None:
        """It gets no byte of the request, and the reason is in the error that the library raises."""
        tls = tls_of(ME, RULE, minimum_version=version, trust_domains={"a.test", "b.test"})
        with server(identity, A, version) as running:
            with pytest.raises(Exception) as e:
                client(tls.client_context(), running.port)
            assert type(find(e.value, PeerError)) is error
        assert [] == running.heard
        assert 1 <= tls.stats.refused
