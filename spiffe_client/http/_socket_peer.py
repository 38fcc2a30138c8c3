"""Whether a connection without TLS ends on this machine: its socket says, not a name or a resolver."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final

from spiffe_client.errors import TokenOriginError
from spiffe_client.http._library import library_of

if TYPE_CHECKING:
    import httpcore

    from spiffe_client.tokens._origin import Origin

__all__ = ["SocketPeer"]

_TCP: Final = "connection.connect_tcp.complete"
_UNIX: Final = "connection.connect_unix_socket.complete"
#: Connections that are thrown away for one request: more than a pool keeps.
_MAX_REUSED: Final = 1000


class SocketPeer:
    """Where the connection of one request goes, as far as httpcore told.

    A connection that was there before was opened by somebody else, perhaps through a proxy, and
    httpcore does not tell which it is: it is closed, and another one opened.
    """

    _here: bool | None = None
    _reused: int = 0

    def see(self, event: str, info: dict[str, Any]) -> None:
        """Take in what httpcore tells of its doings (the request extension `trace`)."""
        if event == _TCP:
            address = info["return_value"].get_extra_info("server_addr")
            self._here = _is_loopback(address)
        elif event == _UNIX:
            self._here = True
        elif event.endswith(("connect_tcp.complete", "connect_unix_socket.complete")):
            self._here = False  # to a SOCKS proxy, which resolves names as it likes

    def take(self) -> bool | None:
        """Return whether the connection opened for the request about to be written stays here; None if none was."""
        here, self._here = self._here, None
        return here

    def refuse_elsewhere(
        self, event: str, request: httpcore.Request, origin: Origin, *, here: bool | None
    ) -> None:
        """Return if the request about to be written stays on this machine.

        Args:
            event: Which says that it is about to be written.
            request: The request, as httpcore has it.
            origin: Where to, for the message.
            here: As `take` said.

        Raises:
            TokenOriginError: It does not, or there is a proxy between.
            httpcore.ConnectionNotAvailable: The pool has to open another connection.
        """
        if here:
            return
        if here is None and event.startswith("http11.") and self._reused < _MAX_REUSED:
            self._reused += 1
            raise library_of(request).ConnectionNotAvailable
        raise TokenOriginError(
            f"the connection to {origin} has no TLS, and it is not known to end on this machine: a proxy "
            "or a resolver leads elsewhere; credentials were not sent"
        )


def _is_loopback(address: object) -> bool:
    host = address[0] if isinstance(address, tuple) and address else None
    try:
        ip = ipaddress.ip_address(str(host))
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
