"""The demo's server process: a web service on `asyncio`, behind SPIFFE TLS."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections import Counter
from collections.abc import Sequence

from spiffe_client import Workload, allow, any_of, member_of, peer_of
from spiffe_client.cli._demo._child import be_child, orders, speak, speak_event

__all__ = ["Service", "serve"]


class Service:
    """Answers every request with what it knows of the caller, and counts.

    Attributes:
        requests: How many came from whom.
        certificates: Fingerprints of the callers' certificates.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.certificates: set[str] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; the handshake is done, so the caller is proven and allowed."""
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(writer))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass  # the caller is gone; an SSLError is an OSError
        finally:
            writer.close()

    def _answer(self, writer: asyncio.StreamWriter) -> bytes:
        caller = peer_of(writer)
        self.requests[str(caller.id)] += 1
        self.certificates.add(hashlib.sha256(caller.chain[0]).hexdigest())
        connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
        body = json.dumps({"caller": str(caller.id), "tls": connection.version()}).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
            len(body),
            body,
        )


async def serve(arguments: Sequence[str]) -> None:
    """Serve one caller and the workloads of one federated trust domain.

    Args:
        arguments: The Workload API's address, the caller's ID, the trust domain's name.
    """
    endpoint, caller, partner = arguments
    service = Service()
    async with Workload(endpoint, on_event=speak_event) as me:
        tls = me.server_tls(peer=any_of(allow(caller), member_of(partner)))
        server = await asyncio.start_server(service.connected, "127.0.0.1", 0, ssl=tls)
        speak("reply", id=str(me.id), port=server.sockets[0].getsockname()[1])
        async for _ in orders():  # there is only one: count
            speak("reply", requests=dict(service.requests), certificates=len(service.certificates))
        server.close()


if __name__ == "__main__":
    be_child(serve)
