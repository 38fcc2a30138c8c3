"""What tokens cost: a read, a crowd, ten thousand of them, a request that carries one."""

from __future__ import annotations

import asyncio
import gc
import ssl
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from statistics import median

import httpx

from spiffe_client._redact import Secret
from spiffe_client._service import Service
from spiffe_client.http import TokenAuth
from spiffe_client.tokens import AccessToken, Binding, TokenRequest
from spiffe_client.tokens._cache import TokenCache
from spiffe_client.tokens._endpoint import Minted
from spiffe_client.tokens._gates import Gate
from spiffe_client.tokens._home import Home
from spiffe_client.tokens._reports import Reports
from spiffe_client.tokens._retries import Try
from tests.bench import _channels
from tests.bench._figure import Figure, at_least, at_most
from tests.bench._token_server import TokenServer, request_for

__all__ = ["auth_keepalive", "cached_token", "many_tokens", "refresh_cpu", "single_flight"]


async def _cached(runs: int, each: int) -> tuple[list[float], list[float]]:
    took, peeked = [], []
    with TokenServer() as server:
        async with server.broker() as broker:
            asked = request_for(server)
            auth = TokenAuth(broker, asked)
            await broker.fetch(asked)
            request = httpx.Request("GET", server.url)
            for _ in range(runs):
                start = time.perf_counter()
                for _ in range(each):
                    flow = auth.async_auth_flow(request)
                    await anext(flow)
                    await flow.aclose()
                    del request.headers["authorization"]
                middle = time.perf_counter()
                for _ in range(each):
                    flow = _plain(request)
                    await anext(flow)
                    await flow.aclose()
                    del request.headers["authorization"]
                end = time.perf_counter()
                for _ in range(each):
                    broker.peek(asked)
                peeked.append((time.perf_counter() - end) / each)
                took.append(((middle - start) - (end - middle)) / each)
    return took, peeked


async def _plain(request: httpx.Request):
    """What httpx itself needs to set a header in an auth flow."""
    request.headers["authorization"] = "Bearer x"
    yield request


def cached_token(runs: int = 300) -> list[Figure]:
    """From a cached token to the header of a request, beyond what a static header costs in httpx."""
    took, peeked = asyncio.run(_cached(runs, 100))
    detail = f"of it the cache's peek: {median(peeked) * 1e6:.2f} µs"
    return [at_most("cached_token_us", median(took) * 1e6, 5, unit="µs", peer="httpx", runs=runs, detail=detail)]


async def _crowd(callers: int) -> tuple[int, int, float]:
    with TokenServer() as server:
        async with server.broker() as broker:
            asked = request_for(server)
            start = time.perf_counter()
            tokens = await asyncio.gather(*(broker.fetch(asked) for _ in range(callers)))
            took = time.perf_counter() - start
        async with httpx.AsyncClient() as client:
            posts = int((await client.get(f"{server.url}/count")).text)
    return posts, len({id(token) for token in tokens}), took


def single_flight(callers: int = 1000) -> list[Figure]:
    """Requests that the token broker sees when a crowd asks for one token at once."""
    posts, tokens, took = asyncio.run(_crowd(callers))
    detail = f"{callers} callers, {tokens} token, {took * 1000:.0f} ms"
    return [at_most("single_flight_posts", posts, 1, unit="POST", peer="none", runs=1, detail=detail)]


def _request(number: int) -> TokenRequest:
    return TokenRequest.of(
        f"orders:read:{number}",
        audience=f"https://orders-{number}.prod.example",
        purpose=f"close the books of {number}",
        grant="client_credentials",
    )


async def _hold(number: int) -> tuple[float, int]:
    """KiB for each token beyond its text, and tasks beyond those of an idle loop."""
    with TokenServer() as server:
        before_tasks = len(asyncio.all_tasks())
        async with server.broker() as broker:
            numbers = iter(range(number))

            async def work() -> None:
                for n in numbers:
                    await broker.fetch(_request(n), timeout=60)

            await broker.fetch(_request(-1))
            gc.collect()
            tracemalloc.start()
            await asyncio.gather(*(work() for _ in range(8)))
            gc.collect()
            used, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            held = broker._opened().cache.held()
            assert number + 1 == len(held)
            text = sum(len(token.token.reveal()) for token in held)
            tasks = len(asyncio.all_tasks()) - before_tasks
    return (used - text) / number / 1024, tasks


def many_tokens(number: int = 10_000) -> list[Figure]:
    """Memory of a held token with its request, entry and appointment; tasks that keep them all fresh."""
    kib, tasks = asyncio.run(_hold(number))
    detail = f"{number} tokens from a token server, counted by tracemalloc, request included"
    return [
        at_most("token_kib", kib, 2.5, unit="KiB", peer="none", runs=1, detail=detail),
        at_most("token_tasks", tasks, 1, unit="tasks", peer="none", runs=1, detail=f"with {number} tokens held"),
    ]


class _FastClock:
    """Nobody waits: time jumps to where the one who sleeps wants to wake."""

    def __init__(self) -> None:
        self._elapsed = 0.0

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        for _ in range(4):  # until what was started has ended
            await asyncio.sleep(0)
        self._elapsed += max(0.0, seconds)


async def _refreshes(held: int, refreshes: int) -> float:
    """CPU seconds for each refresh with so many tokens held, without HTTP."""
    clock, home = _FastClock(), Home("the bench")
    count, stop = 0, asyncio.Event()
    cache: TokenCache

    async def mint(request: TokenRequest, attempt: Try) -> Minted:
        nonlocal count
        count += 1
        cache.peek(request)  # it is in use
        if count == held + refreshes:
            stop.set()
        token = AccessToken(
            Secret(f"{count}." + "x" * 100), "Bearer", "https://t.example", request, request.scope, "", "urn:x",
            clock.now() + timedelta(seconds=300), Binding(),
        )  # fmt: skip
        return Minted(token, 300.0, None)

    reports = Reports("https://t.example", lambda _: None, clock)
    cache = TokenCache(
        mint, home, clock=clock, timeout=10.0, limit=lambda _: 3600.0, capacity=20_000, gate=Gate(), reports=reports
    )
    for n in range(held):
        token = (await mint(_request(n), Try(1, 1.0, False))).token
        cache.adopt(token.request, Minted(token, 300.0, None), 0.0)

    async def body() -> None:
        await home.run(cache.run)

    gc.collect()
    gc.freeze()
    start = time.process_time()
    service = Service(body, name="bench", crashed=lambda error: None)
    await stop.wait()
    used = time.process_time() - start
    await service.stop()
    gc.unfreeze()
    return used / refreshes


def refresh_cpu(runs: int = 5, refreshes: int = 20_000) -> list[Figure]:
    """CPU of a refresh with 10,000 tokens held against one with 100: all of ours but HTTP, which would hide it."""
    few, many = [], []
    for run in range(runs + 1):
        a, b = asyncio.run(_refreshes(100, refreshes)), asyncio.run(_refreshes(10_000, refreshes))
        if run:  # the first ones warm up
            few.append(a)
            many.append(b)
    ratio = median(b / a for a, b in zip(few, many, strict=True))
    detail = f"{median(many) * 1e6:.0f} µs against {median(few) * 1e6:.0f} µs, without HTTP"
    return [at_most("refresh_cpu_growth", ratio, 1.2, unit="ratio", peer="none", runs=runs, detail=detail)]


async def _keepalives(batches: int, requests: int) -> tuple[list[float], list[float]]:
    own: list[float] = []
    plain: list[float] = []
    with TokenServer(tls=True) as server:
        async with server.broker() as broker, _channels.served(server.tls()) as url:
            asked = TokenRequest.of("orders:read", resource=url, grant="client_credentials")
            token = await broker.fetch(asked)
            tls = ssl.create_default_context(cadata=server.roots)
            headers = {"Authorization": f"Bearer {token.token.reveal()}"}
            async with (
                httpx.AsyncClient(auth=TokenAuth(broker, asked), verify=tls) as ours,
                httpx.AsyncClient(headers=headers, verify=tls) as theirs,
            ):
                for client in (ours, theirs):
                    await _channels.rate(client, url, 50)
                gc.collect()
                for i in range(batches):
                    order = [(ours, own), (theirs, plain)]
                    for client, rates in order if i % 2 else reversed(order):
                        rates.append(await _channels.rate(client, url, requests))
    return own, plain


def auth_keepalive(batches: int = 120) -> list[Figure]:
    """Requests per second with a token on one kept connection, against a static header, as `keepalive`."""
    own, plain = asyncio.run(_keepalives(batches, 50))
    ratio = median(a / b for a, b in zip(own, plain, strict=True))
    detail = f"{median(own):.0f}/s against {median(plain):.0f}/s, https on loopback"
    return [at_least("auth_keepalive_ratio", ratio, 0.97, unit="ratio", peer="httpx", runs=batches, detail=detail)]
