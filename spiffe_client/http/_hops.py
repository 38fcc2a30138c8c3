"""What becomes of credentials where httpx sends a request on, after the auth flow has seen it.

httpx asks an auth flow once, then follows redirects by itself. To another origin it takes the
`Authorization` header off, and nothing else; a proof of possession would go along, and to the same
origin it would go twice, for the wrong URL. httpcore tells of each request that it is about to
write (its `trace` extension), so each gets its own proof there, or none. Transports that tell
nothing, such as `httpx.ASGITransport`, are not watched.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from spiffe_client.http._socket_peer import SocketPeer
from spiffe_client.tokens._origin import Origin
from spiffe_client.tokens._unprinted import UnprintedBytes

if TYPE_CHECKING:
    import httpcore
    import httpx

__all__ = ["AsyncHeaderGuard", "AsyncHops", "HeaderGuard", "Hops", "Prove"]

#: Makes a proof for a method and URL at an origin, and returns the header's value.
Prove: TypeAlias = Callable[[str, str, Origin], str]

_WRITING: Final = ".send_request_headers.started"
_OURS: Final = frozenset({b"authorization", b"dpop"})
_PORTS: Final = {"https": 443, "http": 80}


class HeaderGuard:
    """Takes headers off each request to whom they may not go, before it is written; for `httpx.Client`.

    Args:
        request: As the auth flow sends it; this becomes its `trace` extension, and calls the one it had.
        allowed: To whom they may go.
        names: Of the headers, in lower case; only those with a value of ours count.

    Raises:
        TokenOriginError: Later, through the request: there is no TLS, and it does not go to this machine.
    """

    #: Whether requests pass by here: not with transports that know no `trace`.
    watched: bool = False

    def __init__(
        self, request: httpx.Request, allowed: frozenset[Origin], names: frozenset[bytes] = _OURS
    ) -> None:
        then: Any = request.extensions.get("trace")
        # One of the same kind is from an earlier try.
        self._then: Any = then.then if type(then) is type(self) else then
        self._allowed = allowed
        self._names = names
        self._peer = SocketPeer()
        request.extensions["trace"] = self

    def __repr__(self) -> str:
        return type(self).__name__

    @property
    def then(self) -> Any:
        """The `trace` extension that the request had before."""
        return self._then

    def __call__(self, event: str, info: dict[str, Any]) -> Any:
        """See httpx's request extension `trace`."""
        self._see(event, info)
        return None if self._then is None else self._then(event, info)

    def _see(self, event: str, info: dict[str, Any]) -> None:
        if event.endswith(_WRITING):
            self._check(event, info["request"])
        else:
            self._peer.see(event, info)

    def _check(self, event: str, request: httpcore.Request) -> None:
        """Look at a request that is about to be written, and take off it what may not go there."""
        here = self._peer.take()
        ours = {name.lower() for name, value in request.headers if type(value) is UnprintedBytes}
        if not ours & self._names:
            return  # a CONNECT to a proxy, or there is nothing to protect any more
        url = request.url
        scheme = url.scheme.decode("ascii")
        origin = Origin(scheme, url.host.decode("ascii").lower(), url.port or _PORTS.get(scheme, 0))
        if origin not in self._allowed or not self._complete(ours):
            self.watched = True
            request.headers = [pair for pair in request.headers if pair[0].lower() not in self._names]
            return
        if scheme != "https":
            self._peer.refuse_elsewhere(event, request, origin, here=here)
        self._pass(request, origin)
        self.watched = True

    def _complete(self, ours: set[bytes]) -> bool:  # noqa: ARG002 - for those with headers that need each other
        return True

    def _pass(self, request: httpcore.Request, origin: Origin) -> None:
        """Give a request that may have its credentials what else it needs."""


class Hops(HeaderGuard):
    """Guards access tokens and proofs: each request gets the proof it needs; for `httpx.Client`.

    Args:
        request: As the auth flow sends it, with its credentials.
        allowed: To whom credentials may go.
        prove: Makes another proof; None where there are none.
    """

    def __init__(self, request: httpx.Request, allowed: frozenset[Origin], prove: Prove | None) -> None:
        super().__init__(request, allowed)
        self._prove = prove
        self._proven = None if prove is None else (request.method.encode(), request.url.raw_path)

    def _complete(self, ours: set[bytes]) -> bool:
        return b"authorization" in ours  # else httpx took it off

    def _pass(self, request: httpcore.Request, origin: Origin) -> None:
        if self._prove is None:
            return
        url = request.url
        proven = not self.watched and self._proven == (request.method, url.target)
        if not proven:
            proof = self._prove(
                request.method.decode("ascii"), f"{origin}{url.target.decode('ascii')}", origin
            )
            kept = [pair for pair in request.headers if pair[0].lower() != b"dpop"]
            request.headers = [*kept, (b"DPoP", proof.encode())]


class _Awaited(HeaderGuard):
    """As the blocking ones, for `httpx.AsyncClient`."""

    def __call__(self, event: str, info: dict[str, Any]) -> Awaitable[None]:
        """See httpx's request extension `trace`."""
        return self._tell(event, info)

    async def _tell(self, event: str, info: dict[str, Any]) -> None:
        self._see(event, info)
        if self._then is not None:
            await self._then(event, info)


class AsyncHeaderGuard(_Awaited):
    """As `HeaderGuard`, for `httpx.AsyncClient`."""


class AsyncHops(_Awaited, Hops):
    """As `Hops`, for `httpx.AsyncClient`."""
