"""What the demo's two child processes have in common: orders on standard input, facts on output.

An order is a JSON object with `do`; each is answered with one object. In between come events. When
standard input ends, whoever gave the orders is gone, and so is the child.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import anyio

from spiffe_client.audit import Event
from spiffe_client.cli._failure import failure_of

__all__ = ["be_child", "orders", "speak", "speak_event"]


def speak(kind: str, **facts: object) -> None:
    """Say something to whoever gives the orders: a `reply`, an `event`, `progress` or a `failure`."""
    sys.stdout.write(json.dumps({"kind": kind, **facts}) + "\n")
    sys.stdout.flush()


def speak_event(event: Event) -> None:
    """Pass an event on."""
    speak("event", name=event.name, message=event.message, attributes=dict(event.attributes))


async def orders() -> AsyncIterator[dict[str, str]]:
    """Yield what is to be done, until there is nobody left to say it."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while text := await reader.readline():
            yield json.loads(text)
    finally:
        transport.close()


def be_child(act: Callable[[Sequence[str]], Awaitable[None]]) -> None:
    """Do what a child does until standard input ends; say what went wrong, if something does."""
    try:
        anyio.run(act, sys.argv[1:])
    except Exception as error:  # noqa: BLE001 - the border: the parent shows it
        failure = failure_of(error)
        speak("failure", code=failure.code, message=failure.message)
        sys.exit(1)
