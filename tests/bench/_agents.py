"""What a guarded call costs, what a thousand tasks weigh, and how soon a stop is over."""

from __future__ import annotations

import asyncio
import gc
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory

from spiffe_client import Workload
from spiffe_client.agents import current_task, guard
from spiffe_client.audit import EventSink, JsonlSink, MemorySink
from spiffe_client.dev import CertificateAuthority, DevTokenBroker, DevTrustDomain
from spiffe_client.dev.token_broker import Client
from spiffe_client.errors import TaskEndedError
from spiffe_client.policy import Contract
from tests.bench._figure import Figure, at_most

__all__ = ["guarded", "many_tasks", "stop"]

_AGENT = "spiffe://prod.example/agent/closer"
_ORDERS = "https://orders.prod.example"
_MANY = 1000
#: How far up it is looked for whose code has asked for memory.
_FRAMES = 6


def _contract() -> Contract:
    whole = {
        "agent": {"id": _AGENT, "purpose": "bench", "environment": "prod", "trust_domain": "prod.example"},
        "limits": {"calls_per_task": 10**9, "calls_per_minute": 10**6, "parallel_tasks": 2 * _MANY},
        "actions": {
            "orders:read": {
                "audience": [_ORDERS],
                "scopes": ["orders:read"],
                "resources": ["tenants/{tenant}/orders/*"],
            }
        },
    }
    return Contract.parse(json.dumps(whole).encode(), "json")


@asynccontextmanager
async def _agent(sink: EventSink) -> AsyncIterator[Workload]:
    rules = [Client.of(_AGENT, audiences=["*"], scopes="orders:read")]
    async with DevTrustDomain("prod.example") as dev:
        dev.register(_AGENT, any=True, ttl=3600)
        async with DevTokenBroker(dev, rules=rules) as broker:
            async with Workload(
                dev.endpoint,
                token_broker=broker.issuer,
                contract=_contract(),
                environment="prod",
                on_event=sink,
            ) as me:
                yield me


async def _bare(order: str) -> str:
    return order


_tool = guard(_bare, requires="orders:read", resource="tenants/{tenant}/orders/{order}")


async def _seconds(tool: Callable[..., Awaitable[str]], each: int) -> list[float]:
    took, clock = [], time.perf_counter
    for _ in range(each):
        start = clock()
        await tool(order="7")
        took.append(clock() - start)
    return took


async def _beyond(sink: EventSink, runs: int, each: int) -> list[float]:
    """Seconds of a guarded call, its token cached, decided here, beyond what the tool takes at its middle."""
    async with _agent(sink) as me, me.task("bench", ["orders:read"], tenant="acme"):
        await _tool(order="7")
        guarded, bare = [], []
        for _ in range(runs):
            guarded += await _seconds(_tool, each)
            bare += await _seconds(_bare, each)
            await asyncio.sleep(0.002)  # as between calls of a model: a sink that writes may do so
        own = median(bare)
        return [each - own for each in guarded]


def guarded(runs: int = 150, each: int = 20) -> list[Figure]:
    """A guarded call with a cached token and a local decision, with either kind of audit."""
    memory = asyncio.run(_beyond(MemorySink(1000), runs, each))
    svid = CertificateAuthority("prod.example").issue_x509_svid(_AGENT)
    with TemporaryDirectory() as folder:
        with JsonlSink(Path(folder, "audit.jsonl"), on_trouble="block", signer=lambda: svid) as sink:
            jsonl = asyncio.run(_beyond(sink, runs, each))
    figures = []
    for name, took, target in (("guard_memory_us", memory, 30), ("guard_jsonl_us", jsonl, 60)):
        detail = f"p50 of all calls; mean {fmean(took) * 1e6:.1f} µs, fastest {min(took) * 1e6:.1f} µs"
        figures.append(
            at_most(name, median(took) * 1e6, target, unit="µs", peer="the bare tool", runs=len(took), detail=detail)
        )
    return figures


def _ours(snapshot: tracemalloc.Snapshot) -> int:
    """Bytes that are not the development token broker's, which runs in the same process."""
    def theirs(trace: tracemalloc.Trace) -> bool:
        return any("/spiffe_client/dev/" in at.filename or "/uvicorn/" in at.filename for at in trace.traceback)

    return sum(trace.size for trace in snapshot.traces if not theirs(trace))


async def _idle() -> float:
    """KiB for each task of asyncio that only waits."""
    go_on = asyncio.Event()

    async def wait() -> None:
        await go_on.wait()

    gc.collect()
    tracemalloc.start()
    async with asyncio.TaskGroup() as group:
        for _ in range(_MANY):
            group.create_task(wait())
        await asyncio.sleep(0)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        go_on.set()
    return held / _MANY / 1024


async def _side_by_side() -> tuple[float, int, int, int]:
    """KiB for each task, tasks of the loop's beside the callers, tokens, and calls that saw another one's."""
    async with _agent(MemorySink(10)) as me:
        ready, go_on = asyncio.Semaphore(0), asyncio.Event()
        tokens: set[str] = set()
        wrong = 0

        async def work(number: int) -> None:
            nonlocal wrong
            async with me.task(f"{number}", ["orders:read"], tenant=f"t{number}") as task:
                for call_number in range(10):
                    async with task.call("orders:read", f"tenants/t{number}/orders/{call_number}") as call:
                        await asyncio.sleep(0)
                        wrong += current_task() is not task or call.task is not task
                        assert call.token is not None
                        tokens.add(call.token.fingerprint)
                del call
                ready.release()
                await go_on.wait()

        async with asyncio.TaskGroup() as group:
            group.create_task(work(-1))
            await ready.acquire()
            before = len(asyncio.all_tasks())
            for number in range(_MANY):
                if number == 0:
                    gc.collect()
                    tracemalloc.start(_FRAMES)
                group.create_task(work(number))
                await ready.acquire()  # one after the other: the token broker is no part of this
            gc.collect()
            held = _ours(tracemalloc.take_snapshot())
            tracemalloc.stop()
            extra = len(asyncio.all_tasks()) - before - _MANY
            go_on.set()
    return held / _MANY / 1024, extra, len(tokens), wrong


def _weighed() -> tuple[float, int, int, int]:
    return asyncio.run(_side_by_side())


def _weighed_idle() -> float:
    return asyncio.run(_idle())


def many_tasks() -> list[Figure]:
    """A thousand tasks at once, ten calls each, each with a token of its own."""
    # In a process of its own: what was measured before would have a part in it, and makes tracing slow.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        kib, extra, tokens, wrong = alone.submit(_weighed).result()
        idle = alone.submit(_weighed_idle).result()
    assert (0, _MANY + 1) == (wrong, tokens), (wrong, tokens)
    detail = f"{_MANY} tasks × 10 calls, {tokens} tokens, no cross-talk, {extra} background task(s) more; token included, {idle:.1f} KiB of asyncio's own task not"
    return [at_most("task_kib", kib - idle, 6, unit="KiB", peer="none", runs=1, detail=detail)]


async def _stopped() -> float:
    async with _agent(MemorySink(10)) as me:
        running = 0
        ready = asyncio.Event()
        ends: list[float] = []

        async def work() -> None:
            nonlocal running
            try:
                async with task.call("orders:read", "tenants/acme/orders/7"):
                    running += 1
                    if running == _MANY:
                        ready.set()
                    await asyncio.Event().wait()
            except TaskEndedError:
                ends.append(time.perf_counter())

        calls: list[asyncio.Task[None]] = []
        try:
            async with me.task("bench", ["orders:read"], tenant="acme") as task:
                calls += [asyncio.create_task(work()) for _ in range(_MANY)]
                await ready.wait()
                start = time.perf_counter()
                me.stop("bench")
                await asyncio.Event().wait()
        except TaskEndedError:
            pass
        await asyncio.gather(*calls)
    assert _MANY == len(ends)
    return max(ends) - start


def stop(runs: int = 5) -> list[Figure]:
    """From a kill switch to the end of the last of a thousand running calls."""
    took = [asyncio.run(_stopped()) for _ in range(runs)]
    detail = f"{_MANY} running calls; slowest {max(took):.3f} s"
    return [at_most("stop_s", median(took), 1, unit="s", peer="none", runs=runs, detail=detail)]
