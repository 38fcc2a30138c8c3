"""What a changed snapshot means for connections that are already open."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable
from typing import Protocol

from spiffe_client.ids import TrustDomain
from spiffe_client.workload_api import RotatingX509Source, X509Context, X509ContextSource

__all__ = ["NetworkStream", "follow", "hang_up", "withdrawn"]


class NetworkStream(Protocol):
    """What httpx hands out as `response.extensions["network_stream"]`."""

    def get_extra_info(self, info: str) -> object:
        """Return the raw socket for `socket`, and so on."""
        ...


def follow(
    source: X509ContextSource, before: Callable[[X509Context], None], *after: Callable[[], None]
) -> None:
    """Have bound methods called before and after each change of a source, if it is one that tells.

    The source holds them weakly.
    """
    if isinstance(source, RotatingX509Source):
        source.before_publish(before)
        for notify in after:
            source.after_publish(notify)


def withdrawn(
    before: X509Context, after: X509Context, trust_domains: Iterable[TrustDomain] | None
) -> str | None:
    """Say what was taken back between two snapshots, or None if nothing was.

    An addition (a new root, a fresh SVID of the same identity) takes nothing back: connections
    may drain in their own time.

    Args:
        before: What the connections were made under.
        after: What holds now.
        trust_domains: Where their peers can come from, or None for every one held before.
    """
    identity = before.svid.id
    if identity not in {svid.id for svid in after.svids}:
        return f"the own identity {identity} was withdrawn"
    for trust_domain in before.bundles if trust_domains is None else trust_domains:
        old, new = before.bundles.get(trust_domain), after.bundles.get(trust_domain)
        if old is not None and (new is None or not old.ders <= new.ders):
            return f"an authority of {trust_domain} was withdrawn"
    return None


def hang_up(stream: NetworkStream) -> None:
    """Shut down the TCP connection under a network stream, at once and from any thread.

    A reader that waits on it wakes up and fails; the descriptor is freed when its pool closes.
    """
    sock = stream.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it is closed already
        if isinstance(sock, socket.socket):
            # Not sock.shutdown(): an SSLSocket would drop its TLS object first and from then on
            # hand its reader whatever comes, unverified.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        else:
            # The wrappers of asyncio, uvloop and trio want to be asked on their event loop only.
            with socket.fromfd(sock.fileno(), sock.family, sock.type) as twin:  # type: ignore[attr-defined]  # a socket in all but type
                twin.shutdown(socket.SHUT_RDWR)
