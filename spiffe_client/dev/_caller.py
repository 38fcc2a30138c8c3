"""Who is on the other end of a unix socket, by what the kernel says and never by what they say."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Caller", "caller_of"]

_SO_PEERCRED = getattr(socket, "SO_PEERCRED", 17)  # differs by architecture; absent off Linux
_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)

_SOL_LOCAL, _LOCAL_PEERCRED, _LOCAL_PEERPID = 0, 1, 2  # macOS, sys/un.h
_XUCRED = struct.Struct("=IIhxx16I")  # version, uid, number of groups, groups: sys/ucred.h
_XUCRED_VERSION = 0


@dataclass(frozen=True, slots=True)
class Caller:
    """A process that connected; None where the platform does not tell.

    Attributes:
        uid: Effective user ID when it connected.
        gid: Effective group ID when it connected.
        pid: Process ID.
        path: The executable it runs, symbolic links resolved.
    """

    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    path: str | None = None


def _on_linux(sock: socket.socket) -> Caller:
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, _UCRED.size))
    path = None
    # Of another user's process the path is not ours to read; one that has ended has none.
    with contextlib.suppress(OSError):
        path = str(Path(f"/proc/{pid}/exe").readlink())
    return Caller(uid=uid, gid=gid, pid=pid, path=path)


def _on_macos(sock: socket.socket) -> Caller:
    version, uid, groups, gid, *_ = _XUCRED.unpack(sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size))
    if version != _XUCRED_VERSION:
        return Caller()
    (pid,) = struct.unpack("i", sock.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID, 4))
    return Caller(uid=uid, gid=gid if groups > 0 else None, pid=pid)


def caller_of(sock: socket.socket, *, platform: str = sys.platform) -> Caller:
    """Ask the kernel who connected to this unix socket.

    Args:
        sock: An accepted connection.
        platform: As `sys.platform`.

    Returns:
        What is known; nothing at all on a platform that cannot say, or where it fails. Only
        registrations for any caller match then.
    """
    ask = {"linux": _on_linux, "darwin": _on_macos}.get(platform)
    try:
        return Caller() if ask is None else ask(sock)
    except (OSError, struct.error):
        return Caller()
