"""Calls to the Workload API: paths, the mandatory header, and what a status means to a caller."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar

from spiffe_client._frames import async_border, without_frames
from spiffe_client._grpc import Limits, Status, StatusError, server_stream, unary
from spiffe_client.audit import Event, log_event
from spiffe_client.errors import (
    AccessDeniedError,
    InvalidRequestError,
    NoIdentityIssuedError,
    ProtocolError,
    SpiffeError,
    UnavailableError,
    UnexpectedStatusError,
    UnimplementedError,
    WorkloadApiError,
)
from spiffe_client.workload_api._connect import connect
from spiffe_client.workload_api._endpoint import Endpoint
from spiffe_client.workload_api._fields import Message

__all__ = ["Caller", "Refused", "Watch", "log_refused"]

#: Told what of a message cannot be used.
Refused = Callable[[SpiffeError], None]

#: Keeps a server-side request forger from reading keys (Workload Endpoint §3).
_METADATA: Sequence[tuple[str, str]] = (("workload.spiffe.io", "true"),)

#: Shorter pieces of a token are of no use to anybody.
_SECRET = 16

_T = TypeVar("_T")


def log_refused(error: SpiffeError) -> None:
    """Write a refusal to the log: what is done with one where nobody else wants to know."""
    log_event(Event("bundle.refused", str(error), {"code": error.code}, level=logging.WARNING))


class Caller:
    """Makes calls, each on a connection of its own.

    Args:
        endpoint: Where.
        timeout: Seconds that an answer may take, for a stream its first message.
        limits: Bounds on what comes back.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float, limits: Limits) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        self.limits = limits
        self._connect = partial(connect, endpoint)

    @async_border
    async def ask(self, method: str, request: Message, *, hide: str = "") -> bytes:
        """Make a call that is answered with one message.

        Args:
            method: Which one.
            request: What to send.
            hide: A token that is sent, and that a server may quote in its status.

        Raises:
            WorkloadApiError: It is not.
        """
        try:
            return await unary(
                self._connect,
                _path(method),
                request.encode(),
                metadata=_METADATA,
                timeout=self.timeout,
                limits=self.limits,
            )
        except StatusError as error:
            ended = StatusError(error.status, _without(error.details, hide))
        except (UnavailableError, ProtocolError) as error:
            raise self.located(error)  # noqa: B904 - it is the same error
        # Outside the handler: the original would still quote the token.
        raise self.error_of(method, ended) from ended

    def watch(
        self, method: str, request: Message, load: Callable[[], Callable[[bytes], _T]], refused: Refused
    ) -> Watch[_T]:
        """Make a call that is answered with a stream.

        Args:
            method: Which one.
            request: What to send.
            load: Returns what makes a value of a message, and raises `SpiffeError` for one that is of
                no use. Called when the request is out: what only reading needs is to be imported
                in it, while the server is at work.
            refused: Told of each such message; the stream goes on.
        """
        stream = self.stream(method, request, keepalive=30.0)
        return Watch(stream, load, refused, partial(self.meaning, method))

    @async_border
    async def first(self, method: str, request: Message) -> bytes:
        """Return the first message of a stream, and close it.

        Raises:
            WorkloadApiError: There is none.
        """
        try:
            async with self.stream(method, request, keepalive=None) as messages:
                async for message in messages:
                    return message
        except (StatusError, UnavailableError, ProtocolError) as error:
            raise self.meaning(method, error)  # noqa: B904 - it links to the status itself
        raise UnavailableError(f"{method}: the Workload API ended the stream without an answer")

    def stream(
        self, method: str, request: Message, *, keepalive: float | None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Make a call that is answered with a stream of messages as they come.

        Args:
            method: Which one.
            request: What to send.
            keepalive: Seconds of silence until the server is asked for a sign of life; None never.
        """
        return server_stream(
            self._connect,
            _path(method),
            request.encode(),
            metadata=_METADATA,
            timeout_first=self.timeout,
            keepalive=keepalive,
            limits=self.limits,
        )

    def meaning(self, method: str, error: Exception) -> Exception:
        """Return what a call that failed raises: what a status means, else the error with its place."""
        if not isinstance(error, StatusError):
            return self.located(error)
        meant = self.error_of(method, error)
        meant.__cause__ = error
        return meant

    def located(self, error: Exception) -> Exception:
        """Return an error of the connection with the endpoint's address in its message."""
        if str(self.endpoint) not in str(error):
            error.args = (f"{self.endpoint}: {error}", *error.args[1:])
        return error

    def error_of(self, method: str, error: StatusError) -> WorkloadApiError:
        """Return what a status means (Workload Endpoint §6 and appendix A)."""
        said = f"{method}: {error.details or 'no details'}"
        if error.status in _MEANINGS:
            kind, meaning = _MEANINGS[error.status]
            return kind(f"{meaning}: {said}")
        if error.status == Status.PERMISSION_DENIED:
            if "no identity issued" in error.details.lower():
                return NoIdentityIssuedError(
                    f"no identity is issued to this process (yet): {said}; does a registration match it?"
                )
            return AccessDeniedError(f"the Workload API denies access: {said}")
        name = error.status.name if isinstance(error.status, Status) else str(error.status)
        return UnexpectedStatusError(f"the Workload API failed with status {name}: {said}", status=name)


class Watch(AbstractAsyncContextManager["Watch[_T]"], AsyncIterator[_T], Generic[_T]):
    """One stream of values: enter it, iterate it, leave it. It ends when the server ends it."""

    def __init__(
        self,
        stream: AbstractAsyncContextManager[AsyncIterator[bytes]],
        load: Callable[[], Callable[[bytes], _T]],
        refused: Refused,
        meaning: Callable[[Exception], Exception],
    ) -> None:
        self._stream = stream
        self._load = load
        self._refused = refused
        self._meaning = meaning
        self._messages: AsyncIterator[bytes]

    async def __aenter__(self) -> Self:
        try:
            self._messages = await self._stream.__aenter__()
        except (UnavailableError, ProtocolError) as error:
            raise self._meaning(error)  # noqa: B904 - it is the same error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stream.__aexit__(kind, error, trace)

    @async_border
    async def __anext__(self) -> _T:
        handled = sys.exception()
        read = self._load()
        while True:
            message = await self._next()
            try:
                return read(message)
            except SpiffeError as error:
                self._refused(without_frames(error, handled=handled))

    async def _next(self) -> bytes:
        try:
            return await anext(self._messages)
        except (StatusError, UnavailableError, ProtocolError) as error:
            raise self._meaning(error)  # noqa: B904 - it links to the status itself


def _path(method: str) -> str:
    return f"/SpiffeWorkloadAPI/{method}"  # the service has no package (Workload API §3)


_MEANINGS: Mapping[int, tuple[Callable[[str], WorkloadApiError], str]] = {
    Status.INVALID_ARGUMENT: (InvalidRequestError, "the Workload API calls the request malformed"),
    Status.UNIMPLEMENTED: (UnimplementedError, "the Workload API does not offer this"),
    Status.UNAVAILABLE: (
        partial(UnavailableError, cause_kind="answered"),
        "the Workload API is unavailable",
    ),
    Status.DEADLINE_EXCEEDED: (
        partial(UnavailableError, cause_kind="timed_out"),
        "the Workload API took too long",
    ),
}


def _without(details: str, token: str) -> str:
    """Return the details without the token and without pieces of it: details may be cut anywhere."""
    kept, at = "", 0
    while at < len(details):
        end = at + _SECRET
        if end > len(details) or details[at:end] not in token:
            kept, at = kept + details[at], at + 1
            continue
        while end < len(details) and details[at : end + 1] in token:
            end += 1
        kept, at = kept + "…", end
    return kept
