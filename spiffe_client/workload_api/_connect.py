"""Opening a connection to the endpoint, and saying why there is none."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from typing import TypeAlias

import anyio
from anyio.abc import ByteStream, UNIXSocketStream

from spiffe_client.errors import UnavailableCause, UnavailableError
from spiffe_client.workload_api._endpoint import Endpoint

__all__ = ["connect"]

_Why: TypeAlias = tuple[UnavailableCause, str]

_FORBIDDEN: _Why = (
    "forbidden",
    "permission denied: may this user write to the socket and enter its folders?",
)
_MISSING: _Why = ("missing", "the socket does not exist: is the agent running, and is this its socket?")
_NOT_A_SOCKET: _Why = ("not_a_socket", "what is at this path is not a socket that the agent listens on")
_BUSY: _Why = ("busy", "too many connections wait to be accepted: is the agent overloaded or stopped?")
_REFUSED: _Why = ("refused", "nobody listens there: is the agent running?")

_BY_ERRNO: dict[int | None, _Why] = {
    errno.ENOENT: _MISSING,
    errno.ENOTDIR: _MISSING,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.ENOTSOCK: _NOT_A_SOCKET,
    errno.EPROTOTYPE: _NOT_A_SOCKET,
    errno.EAGAIN: _BUSY,
    errno.ECONNREFUSED: _REFUSED,
    errno.ETIMEDOUT: ("timed_out", "there is no answer"),
}


async def connect(endpoint: Endpoint) -> ByteStream:
    """Open a connection.

    Raises:
        UnavailableError: It cannot be opened now; its `cause_kind` says why.
    """
    try:
        if endpoint.kind == "unix":
            return await _connect_unix(endpoint.path)
        return await anyio.connect_tcp(endpoint.host, endpoint.port)
    except OSError as error:
        kind, why = _reason(endpoint, error)
        raise UnavailableError(f"cannot connect to {endpoint}: {why}", cause_kind=kind) from error


async def _connect_unix(path: str) -> ByteStream:
    # By hand, because a unix socket connects at once or not at all: where the queue is full, to
    # wait until it is writable is to spin (asyncio) or to take it for connected (trio).
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(path)
        return await UNIXSocketStream.from_socket(sock)
    except BaseException:
        sock.close()
        raise


def _reason(endpoint: Endpoint, error: OSError) -> _Why:
    # anyio wraps what happened to the only address there is.
    happened = error.__cause__ if isinstance(error.__cause__, OSError) else error
    why = _BY_ERRNO.get(happened.errno)
    if why is None:
        return "unreachable", happened.strerror or str(happened)
    if why is _REFUSED and endpoint.kind == "unix" and not _is_socket(endpoint.path):
        return _NOT_A_SOCKET
    return why


def _is_socket(path: str) -> bool:
    """Whether there is a socket: on Linux a refused connection does not say so, elsewhere it does."""
    if sys.platform != "linux":
        return True
    try:
        descriptor = os.open(path, os.O_PATH)  # looks, without opening what is there
    except OSError:
        return True  # gone in the meantime
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
