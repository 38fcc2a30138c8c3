"""A development trust domain with a workload, for tests of the front doors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener

from spiffe_client import Workload
from spiffe_client._portal import Portal
from spiffe_client.dev import DevTrustDomain
from spiffe_client.tls import peer_of

BILLING = "spiffe://prod.example/billing"


@pytest.fixture
async def dev(anyio_backend: str) -> AsyncIterator[DevTrustDomain]:
    """A trust domain on the test's own loop; this process is `billing`."""
    async with DevTrustDomain("prod.example") as dev:
        dev.register(BILLING, any=True, ttl=3600)
        yield dev


class BlockingDev:
    """A trust domain on a loop of its own, for tests that block."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.domain = DevTrustDomain("prod.example")
        portal.call(self.domain.__aenter__)
        self.domain.register(BILLING, any=True, ttl=3600)
        self.endpoint = self.domain.endpoint

    def rotate(self) -> None:
        self.portal.call(self.domain.rotate)


@pytest.fixture
def blocking_dev() -> Iterator[BlockingDev]:
    portal = Portal()
    portal.start()
    dev = BlockingDev(portal)
    yield dev
    portal.call(dev.domain.__aexit__, None, None, None)
    portal.close()


@asynccontextmanager
async def serve_who_calls(me: Workload, peer) -> AsyncIterator[str]:
    """Serve over mutual TLS: each request is answered with the caller's SPIFFE ID. Yields the URL."""

    async def answer(stream) -> None:
        async with stream:
            body = str(peer_of(stream).id).encode()
            while True:
                try:
                    await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return
                await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))

    raw = await anyio.create_tcp_listener(local_host="127.0.0.1")
    listener = TLSListener(raw.listeners[0], me.server_tls(peer=peer), standard_compatible=False)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        yield f"https://127.0.0.1:{raw.extra(SocketAttribute.local_port)}/"
        tasks.cancel_scope.cancel()


@pytest.fixture
def who_calls():
    return serve_who_calls
