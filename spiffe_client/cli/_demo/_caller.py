"""The demo's client process: calls the server once, under load, or until it no longer may."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import httpx

from spiffe_client import Workload, peer_of
from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.cli._demo._child import be_child, orders, speak, speak_event
from spiffe_client.errors import SpiffeError, find
from spiffe_client.http import AsyncClient

__all__ = ["GRACE", "call_on_orders"]

#: Seconds that a confirmed denial does not cut off yet: less than the default, to tell the story quickly.
GRACE = 0.5
#: Seconds within which connections are replaced after a rotation.
_DRAIN = 0.2
_WORKERS = 4
#: Seconds between two words about how it goes, and between two looks at what should fail soon.
_PROGRESS = 0.2
_AGAIN = 0.02
_LONGEST_WAIT = 10.0
_REFUSALS = 5


@dataclass(slots=True)
class _Load:
    """Requests, as fast as they are answered, on a few connections at a time."""

    http: AsyncClient
    calls: int = 0
    failures: list[str] = field(default_factory=list)
    certificates: set[str] = field(default_factory=set)
    over: bool = False

    async def work(self) -> None:
        while not self.over:
            try:
                response = await self.http.get("/")
                response.raise_for_status()
                self.certificates.add(hashlib.sha256(peer_of(response).chain[0]).hexdigest())
            except (httpx.HTTPError, SpiffeError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            self.calls += 1

    async def tell(self) -> None:
        while not self.over:
            await anyio.sleep(_PROGRESS)
            speak("progress", calls=self.calls, failed=len(self.failures))


async def call_on_orders(arguments: Sequence[str]) -> None:
    """Call the server whenever told to.

    Args:
        arguments: The Workload API's address, the server's ID.
    """
    endpoint, server = arguments
    async with Workload(endpoint, grace=GRACE, on_event=speak_event) as me:
        speak("reply", id=str(me.id))
        incoming = orders()
        where = await anext(incoming, None)
        if where is None:
            return
        url = f"https://127.0.0.1:{where['port']}"
        # Not through a proxy that the environment names: it is this machine.
        async with me.http(peer=server, base_url=url, drain=_DRAIN, trust_env=False) as http:
            async for order in incoming:
                await _obey(order["do"], http, incoming)


async def _obey(what: str, http: AsyncClient, incoming: AsyncIterator[dict[str, str]]) -> None:
    if what == "call":
        response = await http.get("/")
        speak("reply", status=response.status_code, server=str(peer_of(response).id), **response.json())
    elif what == "load":
        async with _under_load(http) as load:
            speak("reply")
            await anext(incoming, None)  # to stop
        speak("reply", calls=load.calls, failures=load.failures, certificates=len(load.certificates))
    else:
        await _until_refused(http)


@asynccontextmanager
async def _under_load(http: AsyncClient) -> AsyncIterator[_Load]:
    load = _Load(http)
    async with anyio.create_task_group() as tasks:
        for _ in range(_WORKERS):
            tasks.start_soon(load.work)
        tasks.start_soon(load.tell)
        yield load
        load.over = True


async def _until_refused(http: AsyncClient) -> None:
    """Call until calls are refused here, and some more times, to see that it stays so."""
    begun = SYSTEM_CLOCK.monotonic()
    refusals: list[str] = []
    refused_after = None
    calls = 0
    while refusals.count("stale") < _REFUSALS and SYSTEM_CLOCK.monotonic() - begun < _LONGEST_WAIT:
        try:
            await http.get("/")
        except httpx.HTTPError as error:
            reason = find(error, SpiffeError)
            refusals.append("other" if reason is None else reason.code)
            refused_after = refused_after or SYSTEM_CLOCK.monotonic() - begun
        else:
            calls += 1
            if refusals:
                refusals.append("none")
        await anyio.sleep(_AGAIN)
    speak("reply", seconds=refused_after, calls=calls, refusals=refusals)


if __name__ == "__main__":
    be_child(call_on_orders)
