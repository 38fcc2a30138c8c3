"""Every Python example in README and docs runs, on a real trust domain with a real service.

A page is one test: its blocks run in order and share their names, as a reader would type them.
`orders.internal` leads to a uvicorn of ours that speaks mutual TLS as spiffe://prod.example/orders.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import uvicorn

from spiffe_client import Workload, member_of
from spiffe_client.dev import DevTrustDomain

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CALLER, ORDERS = "spiffe://prod.example/billing", "spiffe://prod.example/orders"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix == ".md" and "news" not in file_path.parts:
        return Page.from_parent(parent, path=file_path)
    return None


class Page(pytest.File):
    """A Markdown file; README is collected with the docs."""

    def collect(self) -> Iterator[pytest.Item]:
        for path in [self.path] + ([ROOT / "README.md"] if self.path.name == "decisions.md" else []):
            if blocks := BLOCK.findall(path.read_text()):
                yield Example.from_parent(self, name=path.name, blocks=blocks)


class Example(pytest.Item):
    """All blocks of one page."""

    def __init__(self, *, blocks: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blocks = blocks

    def runtest(self) -> None:
        anyio.run(self._run)

    async def _run(self) -> None:
        async with _world() as prelude:
            names: dict[str, Any] = {}
            for number, block in enumerate(self.blocks, 1):
                names |= prelude
                code = compile(
                    block, f"{self.name}, example {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
                )
                with anyio.fail_after(20):
                    if code.co_flags & inspect.CO_COROUTINE:
                        await eval(code, names)
                    else:  # blocking code must not block the server it talks to
                        await anyio.to_thread.run_sync(exec, code, names)


async def _handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"[]"})


@asynccontextmanager
async def _service(domain: DevTrustDomain, spiffe_id: str) -> AsyncIterator[int]:
    async with Workload(await domain.endpoint_for(spiffe_id)) as me:
        tls = me.server_tls(peer=member_of("prod.example"))
        config = uvicorn.Config(
            _app, port=0, lifespan="off", log_level="error", ssl_context_factory=lambda *_: tls
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def _world() -> AsyncIterator[dict[str, Any]]:
    async with DevTrustDomain("prod.example") as domain:
        domain.register(CALLER, any=True)
        async with _service(domain, ORDERS) as port:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SPIFFE_ENDPOINT_SOCKET", domain.endpoint)
                resolve = socket.getaddrinfo

                def local(host: Any, service: Any, *args: Any, **kwargs: Any) -> Any:
                    name = host.decode() if isinstance(host, bytes) else host
                    if str(name).endswith(".internal"):
                        return resolve("127.0.0.1", port, *args, **kwargs)
                    return resolve(host, service, *args, **kwargs)

                connect = anyio.connect_tcp

                async def connect_locally(remote_host: Any, remote_port: Any, **kwargs: Any) -> Any:
                    if str(remote_host).endswith(".internal"):  # anyio asks for addresses and keeps the port
                        return await connect("127.0.0.1", port, **kwargs)
                    return await connect(remote_host, remote_port, **kwargs)

                patch.setattr(socket, "getaddrinfo", local)
                patch.setattr(anyio, "connect_tcp", connect_locally)
                async with Workload() as impostor_hunter:
                    orders = impostor_hunter.http(peer="spiffe://prod.example/somebody-else")
                    yield {
                        "asyncio": asyncio, "httpx": httpx, "os": os, "threading": threading, "anyio": anyio,
                        "handle": _handle, "orders": orders, "domain": domain,
                    }  # fmt: skip
                    await orders.aclose()
