"""A token broker that answers with exactly the bytes a test wants, also with those no real one would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from tests.support.web_servers import _listen, _thread

__all__ = ["HANG", "Asked", "RawBroker", "issues", "json_reply", "raw_reply", "serve_raw"]

#: Answer nothing, and leave the connection open.
HANG = object()


@dataclass
class Asked:
    """One request as it came."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    peer: bytes | None

    @property
    def form(self) -> list[tuple[str, str]]:
        return parse_qsl(self.body.decode(), keep_blank_values=True)

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


def raw_reply(status: int | str = 200, body: bytes = b"", *headers: tuple[str, str]) -> bytes:
    """A response with a body of this length."""
    line = status if isinstance(status, str) else f"{status} X"
    lines = [f"HTTP/1.1 {line}", *(f"{n}: {v}" for n, v in headers), f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def json_reply(document: object, status: int = 200, *headers: tuple[str, str]) -> bytes:
    """A JSON response."""
    return raw_reply(status, json.dumps(document).encode(), ("Content-Type", "application/json"), *headers)


def issues(**members: object) -> bytes:
    """A token response; a member of `...` is left out."""
    whole = {
        "access_token": "issued-token",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 300,
        **members,
    }
    return json_reply({name: value for name, value in whole.items() if value is not ...})


#: Also a function, which is asked until it has something to say.
Answer = bytes | object
Script = Callable[[Asked], Answer]


@dataclass
class RawBroker:
    """A running one."""

    port: int
    script: Script
    tls: bool = False
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    #: Connections that were closed by the other end.
    gone: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self.tls else f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self.gone.release()
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in head[1:] if line)]
        body = await reader.readexactly(int(dict(headers).get("content-length", 0)))
        tls = writer.get_extra_info("ssl_object")
        asked = Asked(method, target, headers, body, tls.getpeercert(True) if tls else None)
        self.asked.append(asked)
        answer = self.script(asked)
        while callable(answer) and not reader.at_eof():
            if (said := answer()) is not None:
                answer = said
            else:
                await asyncio.sleep(0.005)
        if answer is HANG or callable(answer):
            await reader.read(1)
            return False
        assert isinstance(answer, bytes)
        writer.write(answer)
        await writer.drain()
        return answer.startswith(b"HTTP/1.1 ") and b"connection: close" not in answer.lower()


@contextlib.contextmanager
def serve_raw(script: Script, context: ssl.SSLContext | None = None) -> Iterator[RawBroker]:
    """Serve on a free port of 127.0.0.1, in a thread, until the block ends."""
    sock = _listen()
    broker = RawBroker(sock.getsockname()[1], script, context is not None)
    started = threading.Event()
    finish: list[Callable[[], object]] = []

    async def main() -> None:
        done = asyncio.Event()
        loop = asyncio.get_running_loop()
        finish.append(lambda: loop.call_soon_threadsafe(done.set))
        loop.set_exception_handler(lambda *_: None)  # handshakes that are given up on purpose
        server = await asyncio.start_server(broker.handle, sock=sock, ssl=context)
        started.set()
        await done.wait()
        # A server that is closed while it takes on a socket forgets to close that.
        await asyncio.sleep(0.02)
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        # Also those whose handshake was given up, which no writer is for.
        for transport in list(loop._transports.values()):  # type: ignore[attr-defined]
            transport.abort()
        await asyncio.sleep(0.02)

    def stop() -> None:
        assert started.wait(10)
        finish[0]()

    with _thread(lambda: asyncio.run(main()), stop):
        yield broker
