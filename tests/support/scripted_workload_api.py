"""A Workload API on a real unix socket that answers exactly what a test tells it to.

    async with ScriptedWorkloadApi() as api:
        api.script("FetchX509SVID", message, DROP)        # the first call
        api.script("FetchX509SVID", NO_IDENTITY)          # the second one, and all after it
        client = WorkloadApiClient(api.endpoint)
        ...
        assert ["FetchX509SVID"] == [call.method for call in api.calls]

To push into open streams, script a `Feed` and keep it:

    feed = Feed(first_message)
    api.script("FetchX509SVID", feed)
    ...
    feed.push(next_message)
    feed.push(Fail(Status.PERMISSION_DENIED, "no identity issued"))
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio
from anyio.abc import SocketListener, SocketStream

from spiffe_client._grpc import Call, Server, Status, StatusError
from spiffe_client._service import Service
from spiffe_client.workload_api._fields import Message

__all__ = [
    "DROP",
    "HOLD",
    "METHODS",
    "NO_IDENTITY",
    "Fail",
    "Feed",
    "RecordedCall",
    "ScriptedWorkloadApi",
    "Step",
]

METHODS = (
    "FetchX509SVID",
    "FetchX509Bundles",
    "FetchJWTSVID",
    "FetchJWTBundles",
    "ValidateJWTSVID",
    "FetchWITSVID",
    "FetchWITBundles",
)


@dataclass(frozen=True)
class Fail:
    """End the call with a status."""

    status: Status | int
    details: str = ""


@dataclass(frozen=True)
class _Drop:
    """Close the connection in the middle of the call."""


@dataclass(frozen=True)
class _Hold:
    """Keep the call open and say nothing more."""


DROP, HOLD = _Drop(), _Hold()
NO_IDENTITY = Fail(Status.PERMISSION_DENIED, "no identity issued")


@dataclass(frozen=True)
class RecordedCall:
    """A call as it came in."""

    method: str
    metadata: Mapping[str, str]
    request: bytes


#: What to do next in a call: send a message or the bytes of one, end with a status, wait for an
#: event, follow a feed, compute the answer from the call, or one of the constants.
Step: TypeAlias = "Message | bytes | Fail | _Drop | _Hold | anyio.Event | Feed | Callable[[RecordedCall], Step]"


class Feed:
    """Steps pushed while calls are open; a call that comes later begins with the latest one."""

    def __init__(self, *steps: Step) -> None:
        self._steps: list[Step] = list(steps)
        self._pushed = anyio.Event()

    def push(self, step: Step) -> None:
        """Have every open call do this next."""
        self._steps.append(step)
        self._pushed.set()
        self._pushed = anyio.Event()

    async def follow(self) -> AsyncGenerator[Step]:
        position = max(0, len(self._steps) - 1)
        while True:
            while position < len(self._steps):
                position += 1
                yield self._steps[position - 1]
            await self._pushed.wait()


@dataclass(eq=False)
class _Connection:
    stream: SocketStream


@dataclass
class ScriptedWorkloadApi:
    """See the module.

    Args:
        header_required: Refuse calls without the mandatory header, as real ones do.
        path: Of the socket; one of its own by default.

    Attributes:
        calls: Every call that came in, in order, refused ones included.
        connections: How many connections were accepted.
        open_calls: Methods of the calls that are being answered now.
    """

    header_required: bool = True
    path: str | None = None
    calls: list[RecordedCall] = field(default_factory=list)
    connections: int = 0
    open_calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._scripts: dict[str, list[tuple[Step, ...]]] = defaultdict(list)
        self._greeting: bytes | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._service: Service | None = None
        self._crash: Exception | None = None
        self._changed = anyio.Event()

    @property
    def endpoint(self) -> str:
        """Its address, as `SPIFFE_ENDPOINT_SOCKET` takes it."""
        return f"unix://{self.path}"

    def script(self, method: str, *steps: Step) -> None:
        """Say how to answer the next call of a method that has no script yet; the last script stays."""
        assert method in METHODS, method
        self._scripts[method].append(steps)

    def rescript(self, method: str, *steps: Step) -> None:
        """Forget the scripts of a method and answer its calls like this from now on."""
        self._scripts[method].clear()
        self.script(method, *steps)

    def greet_with(self, data: bytes | None) -> None:
        """Send these bytes instead of HTTP/2 to whoever connects, and close; None ends that."""
        self._greeting = data

    async def __aenter__(self) -> ScriptedWorkloadApi:
        if self.path is None:
            self._directory = tempfile.TemporaryDirectory(prefix="wl-")
            self.path = os.path.join(self._directory.name, "api.sock")
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        if self._directory is not None:
            self._directory.cleanup()
        if self._crash is not None:
            raise self._crash

    async def start(self) -> None:
        """Listen, as a started agent does."""
        listener = await anyio.create_unix_listener(self.path)
        self._service = Service(lambda: self._serve(listener), name="scripted", crashed=self._crashed)

    async def stop(self, *, unlink: bool = True) -> None:
        """Cut every connection and listen no more, as a killed agent does; the socket may stay."""
        service, self._service = self._service, None
        if service is not None:
            await service.stop()
            if unlink:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until calls or connections make a condition true."""
        while not condition():
            await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _crashed(self, error: Exception) -> None:
        self._crash = error

    async def _serve(self, listener: SocketListener) -> None:
        async with listener:
            await listener.serve(self._connected)

    async def _connected(self, stream: SocketStream) -> None:
        self.connections += 1
        self._tell()
        async with stream:
            if self._greeting is not None:
                with contextlib.suppress(anyio.BrokenResourceError):
                    await stream.send(self._greeting)
                return
            handlers = {f"/SpiffeWorkloadAPI/{method}": self._answer for method in METHODS}
            server: Server[_Connection] = Server(handlers, crashed=lambda _, error: self._crashed(error))
            await server.serve_connection(stream, _Connection(stream))

    async def _answer(self, call: Call[_Connection]) -> AsyncIterator[bytes]:
        method = call.path.rpartition("/")[2]
        recorded = RecordedCall(method, dict(call.metadata), call.request)
        self.calls.append(recorded)
        self.open_calls.append(method)
        self._tell()
        try:
            if self.header_required and call.metadata.get("workload.spiffe.io") != "true":
                raise StatusError(Status.INVALID_ARGUMENT, "security header missing from request")
            scripts = self._scripts[method]
            if not scripts:
                raise StatusError(Status.UNIMPLEMENTED, f"the test has no script for {method}")
            for step in scripts.pop(0) if len(scripts) > 1 else scripts[0]:
                async with contextlib.aclosing(self._do(step, recorded, call.peer)) as messages:
                    async for message in messages:
                        yield message
        finally:
            self.open_calls.remove(method)
            self._tell()

    async def _do(self, step: Step, call: RecordedCall, connection: _Connection) -> AsyncGenerator[bytes]:
        match step:
            case bytes():
                yield step
            case Message():
                yield step.encode()
            case Fail(status, details):
                raise StatusError(status, details)
            case anyio.Event():
                await step.wait()
            case Feed():
                async with contextlib.aclosing(step.follow()) as steps:
                    async for pushed in steps:
                        async with contextlib.aclosing(self._do(pushed, call, connection)) as messages:
                            async for message in messages:
                                yield message
            case _Drop():
                await anyio.aclose_forcefully(connection.stream)
                await anyio.sleep_forever()
            case _Hold():
                await anyio.sleep_forever()
            case _:
                async with contextlib.aclosing(self._do(step(call), call, connection)) as messages:
                    async for message in messages:
                        yield message
