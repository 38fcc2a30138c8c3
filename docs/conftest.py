"""Every Python example in README and docs runs, on a real trust domain with a real service.

A page is one test: its blocks run in order and share their names, as a reader would type them.
A block that calls `asyncio.run` is a script: it runs as a process of its own, as it stands on the page. One that
serves for ever is called once and runs until the page is over, so that the scripts behind it can call it, too.
`orders.internal` leads to a uvicorn of ours that speaks mutual TLS as spiffe://prod.example/orders. On pages about tokens
the addresses of token brokers and of the service that takes tokens are those of ours on loopback.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import httpx
import pytest
import uvicorn

from spiffe_client import Workload, member_of
from spiffe_client.dev import DevTokenBroker, DevTrustDomain, ProtectedService
from spiffe_client.dev.token_broker import Client

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CONTRACT = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
CALLER, ORDERS = "spiffe://prod.example/billing", "spiffe://prod.example/orders"
CLOSER, AUDITOR = "spiffe://prod.example/agent/closer", "spiffe://prod.example/agent/auditor"
#: Where scripts serve by what the page says; a free port takes its place.
PORT = "8443"
DECISION_POINT = "https://pdp.prod.example"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix == ".md" and "news" not in file_path.parts:
        return Page.from_parent(parent, path=file_path)
    return None


class Page(pytest.File):
    """A Markdown file; README is collected with the docs."""

    def collect(self) -> Iterator[pytest.Item]:
        for path in [self.path] + ([ROOT / "README.md"] if self.path.name == "decisions.md" else []):
            if blocks := BLOCK.findall(path.read_text()):
                yield Example.from_parent(self, name=path.name, blocks=blocks, page=path.read_text())


class Example(pytest.Item):
    """All blocks of one page."""

    def __init__(self, *, blocks: list[str], page: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.page = page
        self.blocks = blocks

    def runtest(self) -> None:
        anyio.run(self._run)

    async def _run(self) -> None:
        # The quickstart is played in the trust domain that `spiffe-client dev` opens.
        world = _dev_world() if self.name == "quickstart.md" else _world()
        async with AsyncExitStack() as stack:
            prelude = await stack.enter_async_context(world)
            names: dict[str, Any] = {}
            port, replaced = _free_port(), {}
            if any("https://tokens.prod.example" in block for block in self.blocks):
                replaced = await stack.enter_async_context(_token_brokers(prelude["domain"]))
            if any(DECISION_POINT in block for block in self.blocks):
                replaced |= await stack.enter_async_context(_decision_point())
            if any("closer.toml\", environment" in block for block in self.blocks):
                replaced = await stack.enter_async_context(_agents(prelude["domain"], replaced)) | replaced
            for number, block in enumerate(self.blocks, 1):
                for said, meant in replaced.items():
                    block = block.replace(said, meant)
                if "asyncio.run(" in block:
                    await stack.enter_async_context(_script(block.replace(PORT, port), self.page, port))
                    continue
                names |= prelude
                code = compile(
                    block, f"{self.name}, example {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
                )
                with anyio.fail_after(60):
                    if code.co_flags & inspect.CO_COROUTINE:
                        await eval(code, names)
                    else:  # blocking code must not block the server it talks to
                        await anyio.to_thread.run_sync(exec, code, names)


@asynccontextmanager
async def _script(block: str, page: str, port: str) -> AsyncIterator[None]:
    """A file of its own: run to its end, saying what the page says, or served from until the page is over."""
    folder = TemporaryDirectory()  # some write files where they are
    process = await anyio.open_process(
        [sys.executable, "-W", "error", "-c", block], stdout=subprocess.PIPE, stderr=None, cwd=folder.name
    )
    try:
        with anyio.fail_after(60):
            if "serve_forever" in block:
                assert "Hello, spiffe://" in await _call(process, port)
            else:
                assert process.stdout is not None
                said = b"".join([piece async for piece in process.stdout])
                assert (0, True) == (await process.wait(), f"\n{said.decode().strip()}\n" in page), said
        yield
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.terminate()
            await process.wait()
            await process.aclose()
        folder.cleanup()


async def _call(process: anyio.abc.Process, port: str) -> str:
    """What a service of this identity answers, once it does."""
    async with Workload() as me, me.http(peer=str(me.id), trust_env=False) as http:
        while True:
            assert process.returncode is None, "it ended"
            try:
                return (await http.get(f"https://localhost:{port}/")).text
            except httpx.ConnectError:
                await anyio.sleep(0.05)


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


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
async def _token_brokers(domain: DevTrustDomain) -> AsyncIterator[dict[str, str]]:
    """What the addresses on the page are replaced with: two token brokers, a service, a secret."""
    rights = {"audiences": ["*"], "scopes": "orders:read orders:refund invoices:read", "details": ["*"], "serves": ["*"]}
    scopes, details = rights["scopes"], ["agent_call", "agent_ticket"]
    clients = [
        Client.of(CLOSER, audiences=["*"], scopes=scopes, details=details, may_delegate_to=[AUDITOR]),
        Client.of(AUDITOR, audiences=["*"], scopes="", details=details),
        Client.of(CALLER, **rights), Client.of("batch", secret="a-secret-that-nobody-knows", **rights),
    ]  # fmt: skip
    async with (
        DevTokenBroker(domain, rules=clients, dpop_nonces="always") as home,
        DevTokenBroker(domain, rules=clients) as partner,
        ProtectedService(home, require_dpop_nonce=True) as orders,
    ):
        partner.trust_issuer(home)
        home.trust_issuer(partner)
        with TemporaryDirectory() as folder:
            secret = Path(folder, "oauth")
            secret.write_text("a-secret-that-nobody-knows\n")
            yield {
                "https://tokens.prod.example": home.issuer,
                "https://tokens.partner.example": partner.issuer,
                "https://orders.prod.example": orders.url,
                "https://billing.prod.example": orders.url,
                "/run/secrets/oauth": str(secret),
            }


@asynccontextmanager
async def _agents(domain: DevTrustDomain, replaced: dict[str, str]) -> AsyncIterator[dict[str, str]]:
    """What contracts on the page are replaced with: files, and agents' own identities; the text is the one in agents.md."""
    (text,) = CONTRACT.findall((ROOT / "docs" / "agents.md").read_text())
    for said, meant in replaced.items():
        text = text.replace(said, meant)
    with TemporaryDirectory() as folder:
        files = {}
        for name, spiffe_id in (("closer.toml", CLOSER), ("auditor.toml", AUDITOR)):
            path = Path(folder, name)
            path.write_text(text.replace(CLOSER, spiffe_id, 1).partition("[delegates." if spiffe_id == AUDITOR else "#")[0])
            endpoint = await domain.endpoint_for(spiffe_id)
            files[f'contract="{name}"'] = f'contract="{path}", endpoint="{endpoint}"'
            files[f'"{name}", '] = f'"{path}", '
            files["contract=agent,"] = f'contract=agent, endpoint="{await domain.endpoint_for(CLOSER)}",'
        yield files


async def _decide(scope: Any, receive: Any, send: Any) -> None:
    """AuthZEN, with one rule: acme's agents may, and it is to be logged."""
    asked, more = b"", True
    while more:
        message = await receive()
        asked, more = asked + message.get("body", b""), message.get("more_body", False)

    def decision(evaluation: Any) -> object:
        return {
            "decision": evaluation["resource"]["properties"]["tenant"] == "acme",
            "context": {"obligations": ["log"]},
        }

    question = json.loads(asked)
    many = question.get("evaluations")
    answer = decision(question) if many is None else {"evaluations": [decision(one) for one in many]}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


@asynccontextmanager
async def _decision_point() -> AsyncIterator[dict[str, str]]:
    """What the address of a decision point on the page is replaced with."""
    server = uvicorn.Server(uvicorn.Config(_decide, port=0, lifespan="off", log_level="error"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield {DECISION_POINT: f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"}
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def _dev_world() -> AsyncIterator[dict[str, Any]]:
    async with DevTrustDomain("dev.example") as domain:
        domain.register("spiffe://dev.example/workload", any=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SPIFFE_ENDPOINT_SOCKET", domain.endpoint)
            yield {}


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
