"""A service in a process of its own: `python service.py ENDPOINT HINT PEER_TRUST_DOMAIN`.

Prints its port, then answers every request with the serial number of the SVID it has now.
"""

from __future__ import annotations

import sys

import anyio
import uvicorn

from spiffe_client import Workload, member_of


async def serve(endpoint: str, hint: str, callers: str) -> None:
    async with Workload(endpoint, hint=hint) as me:

        async def app(scope, receive, send):
            body = str(me.x509_svid.serial_number).encode()
            headers = [(b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        tls = me.server_tls(peer=member_of(callers))
        config = uvicorn.Config(
            app, port=0, lifespan="off", log_level="error", ssl_context_factory=lambda *_: tls
        )
        server = uvicorn.Server(config)
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve)
            while not server.started:
                await anyio.sleep(0.01)
            print(server.servers[0].sockets[0].getsockname()[1], flush=True)


if __name__ == "__main__":
    anyio.run(serve, *sys.argv[1:])
