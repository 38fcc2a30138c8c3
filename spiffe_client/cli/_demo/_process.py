"""A child process of the demo, as its parent sees it; ended by its own handle, whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

import spiffe_client

__all__ = ["Broken", "Child", "child_process"]

#: Seconds for an answer: far more than any takes, so that nothing hangs.
_LONGEST_WAIT = 20.0
#: Seconds to go when asked to, before it is made to.
_GOODBYE = 2.0


class Broken(Exception):  # noqa: N818 - what the demo finds, not an error of the program
    """The story went another way than it must."""


class Child:
    """Orders to one child, and what comes back.

    Args:
        name: For messages.
        process: Its handle.
    """

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        #: What it said last about how it goes.
        self.progress: dict[str, Any] = {}
        self._process = process
        self._failure = "without a word"
        self._replies, self._next_reply = anyio.create_memory_object_stream[dict[str, Any]](inf)
        self._events: deque[dict[str, Any]] = deque(maxlen=1000)
        self._news = anyio.Event()

    @property
    def pid(self) -> int:
        """Its process ID: by that the Workload API knows it."""
        return self._process.pid

    async def ask(self, **order: object) -> dict[str, Any]:
        """Give an order, and return the answer."""
        await self.order(**order)
        return await self.reply()

    async def order(self, **order: object) -> None:
        """Give an order."""
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send(json.dumps(order).encode() + b"\n")
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise self._gone() from error

    async def reply(self) -> dict[str, Any]:
        """Return the next answer.

        Raises:
            Broken: There is none.
        """
        with anyio.move_on_after(_LONGEST_WAIT):
            try:
                return await self._next_reply.receive()
            except anyio.EndOfStream:
                raise self._gone() from None
        raise Broken(f"the {self.name} process did not answer within {_LONGEST_WAIT:g} s")

    async def event(self, name: str) -> dict[str, Any]:
        """Return the next event of this name; those before it are forgotten.

        Raises:
            Broken: There is none.
        """
        with anyio.move_on_after(_LONGEST_WAIT):
            while True:
                while self._events:
                    event = self._events.popleft()
                    if event["name"] == name:
                        return event
                self._news = anyio.Event()
                await self._news.wait()
        raise Broken(f"the {self.name} process did not say {name} within {_LONGEST_WAIT:g} s")

    async def listen(self) -> None:
        """Take in what it says, until it ends."""
        assert self._process.stdout is not None
        buffered = ""
        with self._replies:
            async for piece in TextReceiveStream(self._process.stdout):
                *lines, buffered = (buffered + piece).split("\n")
                for text in lines:
                    self._take(json.loads(text))

    def close(self) -> None:
        """Nobody asks any more."""
        self._replies.close()
        self._next_reply.close()

    def _take(self, said: dict[str, Any]) -> None:
        kind = said.pop("kind")
        if kind == "reply":
            self._replies.send_nowait(said)
        elif kind == "event":
            self._events.append(said)
            self._news.set()
        elif kind == "progress":
            self.progress = said
        else:
            self._failure = f"{said['code']}: {said['message']}"

    def _gone(self) -> Broken:
        return Broken(f"the {self.name} process ended: {self._failure}")


@asynccontextmanager
async def child_process(name: str, module: str, *arguments: str) -> AsyncIterator[Child]:
    """Run a module of the demo in a process of its own, in a session of its own.

    So Ctrl-C on the terminal reaches the parent alone, which ends its children in its own order.
    """
    source = str(Path(spiffe_client.__file__).parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    process = await anyio.open_process(
        # -P: what lies in the current directory is no module of ours.
        [sys.executable, "-P", "-m", f"spiffe_client.cli._demo.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    child = Child(name, process)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child.listen)
            yield child
            tasks.cancel_scope.cancel()
    finally:
        child.close()
        with anyio.CancelScope(shield=True):
            await _end(process)


async def _end(process: Process) -> None:
    assert process.stdin is not None
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.aclose()  # it goes by itself
    with anyio.move_on_after(_GOODBYE):
        await process.wait()
    if process.returncode is None:
        process.kill()
    await process.aclose()
