"""How soon a source is fresh again after its agent was away."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from statistics import median

import anyio

from spiffe_client import WorkloadApiClient, X509Source
from tests.bench._domain import DomainProcess
from tests.bench._figure import Figure, at_most

__all__ = ["recovery"]

PEER = os.environ.get("BENCH_PEER_PYTHON", "")
# Prints the clock, which all processes of the machine share, at each new serial number.
_PEER_WATCH = """
import time
from spiffe import X509Source
with X509Source() as source:
    last = None
    while True:
        serial = source.svid.leaf.serial_number
        if serial != last:
            last = serial
            print(time.monotonic(), flush=True)
        time.sleep(0.005)
"""


async def _own(domain: DomainProcess, away: float, sources: int) -> list[float]:
    """Seconds from the agent's return to a fresh SVID, for each of some independent sources."""
    took: list[float] = []
    async with anyio.create_task_group() as group:
        live = [X509Source(WorkloadApiClient(domain.endpoint)) for _ in range(sources)]
        for source in live:
            await source.open()
        await anyio.to_thread.run_sync(domain.tell, "stop")
        await anyio.sleep(away)
        await anyio.to_thread.run_sync(domain.tell, "rotate")  # so that there is something fresh
        start = time.monotonic()

        async def watch(source: X509Source) -> None:
            await source.wait_updated()
            took.append(time.monotonic() - start)
            await source.aclose()

        for source in live:
            group.start_soon(watch, source)
        await anyio.to_thread.run_sync(domain.tell, "resume")
    return took


def _peer(domain: DomainProcess, away: float) -> float:
    env = {**os.environ, "SPIFFE_ENDPOINT_SOCKET": domain.endpoint}
    process = subprocess.Popen(
        [PEER, "-c", _PEER_WATCH], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
    )
    assert process.stdout
    try:
        process.stdout.readline()
        domain.tell("stop")
        time.sleep(away)
        domain.tell("rotate")
        start = time.monotonic()
        domain.tell("resume")
        return float(process.stdout.readline()) - start
    finally:
        process.kill()
        process.communicate()


def recovery(away: float) -> Callable[[], list[Figure]]:
    """Make the measurement for an agent that is away for so many seconds."""

    def measure(sources: int = 15) -> list[Figure]:
        with DomainProcess() as domain:
            theirs = _peer(domain, away)
            took = anyio.run(_own, domain, away, sources)
        detail = f"slowest {max(took):.2f} s; the peer, once: {theirs:.1f} s"
        return [
            at_most(f"recovery_{away:g}s", median(took), 1.0, unit="s", peer="spiffe (PyPI)", runs=sources, detail=detail)
        ]

    return measure
