"""A gRPC server for development and tests: any number of calls on each connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic

from anyio.abc import ByteStream

from spiffe_client._grpc._call import Call, Handler, PeerT
from spiffe_client._grpc._limits import Limits

__all__ = ["Server"]

_LIMITS = Limits()


def _log(call: Call[PeerT], error: Exception) -> None:
    import logging  # only a handler with a bug needs it

    logging.getLogger("spiffe_client.grpc").error("handler of %s failed", call.path, exc_info=error)


class Server(Generic[PeerT]):
    """Answers calls on connections that somebody else accepts.

    Args:
        handlers: By path, `/Service/Method`; each yields the messages of its answer and raises
            `StatusError` to end with a status. Closed when the client gives up.
        limits: Bounds on what clients send.
        crashed: Told of a handler that raised anything else, a bug; its client gets UNKNOWN.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler[PeerT]],
        *,
        limits: Limits = _LIMITS,
        crashed: Callable[[Call[PeerT], Exception], None] = _log,
    ) -> None:
        self.handlers = handlers
        self.limits = limits
        self.crashed = crashed

    async def serve_connection(self, stream: ByteStream, peer: PeerT) -> None:
        """Serve one connection until the client leaves or breaks the protocol; close it.

        Args:
            stream: Accepted, nothing read yet.
            peer: Passed on to handlers as `Call.peer`.
        """
        from spiffe_client._grpc._session import Session  # clients need none of it

        await Session(self, stream, peer).run()
