"""What a connection and a request cost, and what a rotation breaks: nothing."""

from __future__ import annotations

import asyncio
import gc
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles

import httpx
import uvicorn

from spiffe_client import Workload
from spiffe_client.dev import DevTrustDomain
from spiffe_client.svid import X509Svid
from spiffe_client.workload_api import X509Context
from tests.bench._figure import Figure, at_least, at_most

__all__ = ["handshake", "keepalive", "push", "rate", "rotation", "served"]

ID = "spiffe://bench.test/workload"
#: Seconds within which pooled connections of a former generation are given up.
DRAIN = 0.1


@asynccontextmanager
async def _workload() -> AsyncIterator[tuple[DevTrustDomain, Workload]]:
    async with DevTrustDomain("bench.test", svid_ttl=3600) as domain:
        domain.register(ID, any=True)
        async with Workload(domain.endpoint) as me:
            yield domain, me


def _static(context: X509Context, *, server: bool) -> ssl.SSLContext:
    """What one would write by hand: the same certificates, fixed, verified by the CA alone."""
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.verify_mode = ssl.CERT_REQUIRED
    bare.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    bare.minimum_version = ssl.TLSVersion.TLSv1_3
    if server:
        bare.num_tickets = 0
    svid = context.svid
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "svid.pem")
        file.write_bytes(svid.key_pem().reveal() + svid.chain_pem())
        bare.load_cert_chain(file)
    bare.load_verify_locations(cadata=context.bundles[svid.id.trust_domain].to_der())
    return bare


@asynccontextmanager
async def _echo(tls: ssl.SSLContext) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _connect(port: int, tls: ssl.SSLContext) -> float:
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="localhost")
    writer.write(b"x")
    await reader.readexactly(1)
    took = time.perf_counter() - start
    writer.close()
    await writer.wait_closed()
    return took


async def _handshakes(runs: int) -> tuple[list[float], list[float]]:
    own: list[float] = []
    bare: list[float] = []
    async with _workload() as (_, me):
        static_server, static_client = (_static(me.x509_context, server=s) for s in (True, False))
        async with _echo(me.server_tls(peer=ID)) as ours, _echo(static_server) as theirs:
            client = me.tls(peer=ID)
            for i in range(runs + 20):
                a, b = await _connect(ours, client), await _connect(theirs, static_client)
                if i >= 20:  # the first ones warm up both
                    own.append(a)
                    bare.append(b)
    return own, bare


def handshake(runs: int = 600) -> list[Figure]:
    """A new mutual TLS connection until its first byte is back, both ends in one process."""
    own, bare = asyncio.run(_handshakes(runs))
    a, b = median(own), median(bare)
    detail = f"p50 {a * 1000:.2f} ms against {b * 1000:.2f} ms"
    return [at_most("handshake_ratio", a / b, 1.08, unit="ratio", peer="ssl, no tickets", runs=runs, detail=detail)]


async def _app(scope: dict[str, object], receive: Callable[[], Awaitable[object]], send: Callable[[object], Awaitable[None]]) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def served(tls: ssl.SSLContext) -> AsyncIterator[str]:
    config = uvicorn.Config(
        _app, port=0, lifespan="off", log_level="error", access_log=False, http="h11", loop="asyncio",
        ssl_context_factory=lambda *_: tls,
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"https://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        await task


async def rate(client: httpx.AsyncClient, url: str, requests: int) -> float:
    start = time.perf_counter()
    for _ in range(requests):
        assert (await client.get(url)).status_code == 200
    return requests / (time.perf_counter() - start)


async def _keepalives(batches: int, requests: int) -> tuple[list[float], list[float]]:
    own: list[float] = []
    plain: list[float] = []
    async with _workload() as (_, me), served(me.server_tls(peer=ID)) as url:
        static = _static(me.x509_context, server=False)
        async with me.http(peer=ID) as ours, httpx.AsyncClient(verify=static) as theirs:
            await rate(ours, url, 50), await rate(theirs, url, 50)
            gc.collect()
            for i in range(batches):
                order = [(ours, own), (theirs, plain)]
                for client, rates in order if i % 2 else reversed(order):
                    rates.append(await rate(client, url, requests))
    return own, plain


def keepalive(batches: int = 160) -> list[Figure]:
    """Requests per second on one kept connection, against plain httpx with static certificates."""
    own, plain = asyncio.run(_keepalives(batches, 40))
    ratio = median(a / b for a, b in zip(own, plain, strict=True))
    detail = f"{median(own):.0f}/s against {median(plain):.0f}/s"
    return [at_least("keepalive_ratio", ratio, 0.97, unit="ratio", peer="httpx", runs=batches, detail=detail)]


async def _rotations(rotations: int) -> tuple[int, int]:
    calls, failures, stop = 0, 0, False
    async with _workload() as (domain, me), served(me.server_tls(peer=ID)) as url, me.http(peer=ID, drain=DRAIN) as http:

        async def load() -> None:
            nonlocal calls, failures
            while not stop:
                calls += 1
                try:
                    failures += (await http.get(url)).status_code != 200
                except httpx.HTTPError:
                    failures += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            for i in range(rotations):
                before = calls
                await (domain.rotate_authority() if i % 10 == 5 else domain.rotate())
                if i % 10 == 9:  # as an operator does: once nobody uses the old authority any more
                    await asyncio.sleep(3 * DRAIN)
                    await domain.retire_old_authorities()
                while calls < before + 8:  # every generation carries load
                    await asyncio.sleep(0)
            stop = True
    return calls, failures


def rotation(rotations: int = 100) -> list[Figure]:
    """Requests that fail while SVIDs and authorities rotate under load."""
    calls, failures = asyncio.run(_rotations(rotations))
    detail = f"{calls} calls, {rotations} rotations; on SPIRE: nox -s spire"
    return [at_most("rotation_failures", failures, 0, unit="requests", peer="none", runs=rotations, detail=detail)]


async def _pushes(runs: int) -> tuple[list[float], list[float]]:
    """Milliseconds since the agent had the new SVID, and since it was told to issue one."""
    pushed: list[float] = []
    told: list[float] = []
    issued = 0.0
    async with _workload() as (domain, me), _echo(me.server_tls(peer=ID)) as port:
        issue = domain.ca.issue_x509_svid

        def timed(*args: object, **kwargs: object) -> X509Svid:
            nonlocal issued
            svid = issue(*args, **kwargs)  # type: ignore[arg-type]
            issued = time.perf_counter()
            return svid

        domain.ca.issue_x509_svid = timed  # type: ignore[method-assign]
        client = me.tls(peer=ID)
        await _connect(port, client)
        gc.collect()
        gc.freeze()  # what the bench has loaded is no part of a push
        for _ in range(runs):
            updated = asyncio.create_task(me.wait_updated())
            await asyncio.sleep(0)
            start = time.perf_counter()
            rotating = asyncio.create_task(domain.rotate())  # issues and pushes
            await updated
            end = time.perf_counter()
            await _connect(port, client)  # a handshake that begins now uses it
            pushed.append((end - issued) * 1000)
            told.append((end - start) * 1000)
            await rotating
        gc.unfreeze()
    return pushed, told


def push(runs: int = 300) -> list[Figure]:
    """From the new SVID in the hands of the Workload API's server until a handshake that begins uses it."""
    pushed, told = asyncio.run(_pushes(runs))
    p99, with_issuing = (quantiles(took, n=100)[98] for took in (pushed, told))
    detail = f"p50 {median(pushed):.1f} ms; with issuing the new SVID: p99 {with_issuing:.1f} ms, p50 {median(told):.1f} ms"
    return [at_most("push_to_handshake_p99_ms", p99, 10, unit="ms", peer="none", runs=runs, detail=detail)]
