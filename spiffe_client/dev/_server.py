"""One unix socket that speaks the Workload API: opened, closed, and opened again."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
from pathlib import Path

import anyio
from anyio.abc import SocketAttribute, SocketListener, SocketStream

from spiffe_client._grpc import Server
from spiffe_client._service import Service
from spiffe_client.dev._caller import caller_of
from spiffe_client.dev._issuer import Issuer
from spiffe_client.dev._workload_api import Entitled, WorkloadApi
from spiffe_client.errors import EndpointError
from spiffe_client.workload_api import Endpoint

__all__ = ["WorkloadApiServer"]

_log = logging.getLogger("spiffe_client.dev")


class WorkloadApiServer:
    """Serves the Workload API on a unix socket (SPIFFE Workload Endpoint §3-6).

    Callers are told apart by what the kernel says of them: `SO_PEERCRED` on Linux,
    `LOCAL_PEERCRED` on macOS; elsewhere only registrations for any caller match.

    Args:
        issuer: Issues what is served, and tells of changes.
        path: Where the socket is to be.
        entitled: Who gets what here; by default what the registrations say of the caller.
        mode: The socket file's permissions: who may connect at all.
    """

    def __init__(
        self, issuer: Issuer, path: Path, *, entitled: Entitled | None = None, mode: int = 0o600
    ) -> None:
        self._path = path
        self._mode = mode
        self._grpc = Server(WorkloadApi(issuer, entitled or issuer.matching).handlers)
        self._service: Service | None = None
        self._inode: int | None = None

    @property
    def endpoint(self) -> str:
        """Its address, as `SPIFFE_ENDPOINT_SOCKET` takes it: percent-encoded where a URI has to be."""
        return str(Endpoint("unix", path=os.fspath(self._path)))

    async def start(self) -> None:
        """Begin to serve; nothing happens if it does already.

        Raises:
            EndpointError: Something else is at the path, or it cannot be used.
        """
        if self._service is not None:
            return
        _clear(self._path)
        try:
            listener = await anyio.create_unix_listener(self._path, mode=self._mode)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            raise EndpointError(f"cannot serve at {self._path}: {error}") from error
        self._inode = self._path.stat().st_ino
        self._service = Service(
            lambda: self._serve(listener), name=f"workload api at {self._path}", crashed=self._crashed
        )

    async def stop(self) -> None:
        """Cut every connection and take the socket away; nothing happens if it is gone already."""
        if self._service is None:
            return
        service, self._service = self._service, None
        with contextlib.suppress(OSError):
            # Not one that somebody else has put there in the meantime.
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        await service.stop()

    async def _serve(self, listener: SocketListener) -> None:
        async with listener:
            await listener.serve(self._connected)

    async def _connected(self, stream: SocketStream) -> None:
        async with stream:
            caller = caller_of(stream.extra(SocketAttribute.raw_socket))  # noqa: S610 - not Django's
            await self._grpc.serve_connection(stream, caller)

    def _crashed(self, error: Exception) -> None:
        _log.error("the Workload API at %s ended by a bug of ours", self._path, exc_info=error)


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens at any more.

    Raises:
        EndpointError: It is in use, or not a socket.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # nothing is there, or opening will say what is wrong
    if not stat.S_ISSOCK(mode):
        raise EndpointError(f"cannot serve at {path}: there is something that is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a full backlog must not hold us up
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass  # busy or forbidden: alive
    raise EndpointError(f"cannot serve at {path}: another server is listening there")
