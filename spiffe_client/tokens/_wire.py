"""What a request is made of on its way, and what the sockets below it tell: nothing of it is shown."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import httpx

from spiffe_client._redact import Secret
from spiffe_client.errors import TokenBrokerUnavailableError

if TYPE_CHECKING:
    import httpcore

__all__ = ["Body", "Headers", "Wire"]

#: Request headers, in order. One that carries a secret is an `Unprinted`.
Headers: TypeAlias = Sequence[tuple[str, str]]


class Body(httpx.AsyncByteStream):
    """A request's body, which httpx passes on and never holds as text.

    Attributes:
        headers: That describe it.
    """

    def __init__(self, content: bytes, media_type: str) -> None:
        self._content = Secret(content)
        self.headers: Headers = (("content-type", media_type), ("content-length", str(len(content))))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Chunk(self._content)


class _Chunk(AsyncIterator[bytes]):
    """One chunk. Not a generator: trio warns of one that a cancelled request left unfinished."""

    def __init__(self, content: Secret[bytes]) -> None:
        self._content: Secret[bytes] | None = content

    async def __anext__(self) -> bytes:
        content, self._content = self._content, None
        if content is None:
            raise StopAsyncIteration
        return content.reveal()


class Wire:
    """What httpcore tells while it works: which sockets it opened, and what it would log.

    Args:
        clear: Whether nothing is encrypted: such a request goes to this very machine, whatever a
            resolver says where `localhost` is.
    """

    def __init__(self, *, clear: bool) -> None:
        self._clear = clear
        self._streams: list[httpcore.AsyncNetworkStream] = []

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """See httpx's request extension of this name.

        Raises:
            TokenBrokerUnavailableError: It connected to another machine, and nothing was sent yet.
        """
        if event == "connection.connect_tcp.complete":
            stream = info["return_value"]
            self._streams.append(stream)
            if self._clear:
                _check_peer(stream.get_extra_info("server_addr"))
        if not event.endswith(".started"):
            # httpcore logs this dictionary right after this call, at DEBUG: response headers, and
            # errors that quote what came.
            info.clear()

    def keep(self) -> None:
        """Leave what was connected to httpcore: it was answered, and may be used again."""
        self._streams.clear()

    async def close(self) -> None:
        """Close what was connected: httpcore forgets a socket whose handshake is cancelled."""
        with anyio.CancelScope(shield=True):
            for stream in self._streams:
                await stream.aclose()


def _check_peer(address: tuple[Any, ...]) -> None:
    host = ipaddress.ip_address(str(address[0]).partition("%")[0])
    mapped = getattr(host, "ipv4_mapped", None)
    if not (mapped or host).is_loopback:
        error = TokenBrokerUnavailableError(
            f"its name leads to {host}, which is another machine: without TLS nothing is sent there"
        )
        error.retryable = False
        raise error
