"""A token broker that is down for the whole time in which tokens are to be refreshed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from statistics import median

import httpx

from spiffe_client.http import TokenAuth
from tests.bench._figure import Figure, at_most
from tests.bench._token_server import TokenServer, request_for

__all__ = ["outage"]

TTL = 60
#: When tokens of that life are not handed out any more, and how long the broker stays away then.
HARD, BEYOND = 54.0, 3.0
RATE = 50


async def _load(auth: TokenAuth, url: str, until: asyncio.Event, seen: list[tuple[float, str]]) -> None:
    """50 requests per second, each in its own task, as they come."""
    async with httpx.AsyncClient(auth=auth) as client, asyncio.TaskGroup() as tasks:

        async def one() -> None:
            try:
                why = "" if (await client.get(url)).content == b'{"ok":true}' else "no token"
            except Exception as error:  # whatever it is: the request failed
                why = type(error).__name__
            seen.append((time.monotonic(), why))

        while not until.is_set():
            tasks.create_task(one())
            await asyncio.sleep(1 / RATE)


async def _outage(workloads: int) -> tuple[Counter[str], list[float]]:
    """Requests while tokens are valid by why they failed, and the seconds to the first success after."""
    with TokenServer(TTL) as broker_process, TokenServer(TTL) as resource:
        brokers = [broker_process.broker() for _ in range(workloads)]
        requests = [request_for(resource, f"scope:{n}") for n in range(workloads)]
        seen: list[list[tuple[float, str]]] = [[] for _ in brokers]
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            first = []
            for broker, request, results in zip(brokers, requests, seen, strict=True):
                await broker.open()
                # Before it is asked for: that is where its life is counted from, however long the answer takes.
                first.append(time.monotonic())
                await broker.fetch(request)
                tasks.create_task(_load(TokenAuth(broker, request), resource.url, ended, results))
            broker_process.stop()
            await asyncio.sleep(first[-1] + HARD + BEYOND - time.monotonic())
            await asyncio.to_thread(broker_process.resume)
            back = time.monotonic()
            await asyncio.sleep(4)
            ended.set()
        for broker in brokers:
            await broker.aclose()
    valid = Counter(why for start, results in zip(first, seen, strict=True) for at, why in results if at < start + HARD - 0.5)
    recovered = [min((at for at, why in results if not why and at > back), default=back + 99) - back for results in seen]
    return valid, recovered


def outage(workloads: int = 5) -> list[Figure]:
    """Tokens of 60 s, 50 requests per second for each of some workloads, no token broker from the first token on."""
    valid, took = asyncio.run(_outage(workloads))
    failures = {why: count for why, count in valid.items() if why}
    detail = f"{valid.total()} requests while tokens were valid{failures or ''}; the broker down from the first token until {BEYOND:g} s after its end"
    return [
        at_most("broker_outage_failures", sum(failures.values()), 0, unit="requests", peer="none", runs=workloads, detail=detail),
        at_most("broker_recovery_s", median(took), 1.0, unit="s", peer="none", runs=workloads,
                detail=f"first request that succeeds after the broker is back; slowest {max(took):.2f} s"),
    ]  # fmt: skip
