"""A TLS server of the standard library that keeps what it was sent."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

from tests.support.pki import Authority, Identity
from tests.support.tls_wire import TLS13, plain_server

__all__ = ["REPLY", "REQUEST", "Server", "server"]

REQUEST = b"GET / HTTP/1.1\r\nHost: peer.test\r\n\r\n"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Server:
    """HTTP, one connection after the other; asks for a client certificate of an authority."""

    def __init__(self, identity: Identity, trusts: Authority, version: ssl.TLSVersion) -> None:
        self.heard: list[bytes] = []
        self._context = plain_server(identity, trusts=trusts, version=version)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                with contextlib.suppress(OSError), raw:
                    raw.settimeout(10)
                    with self._context.wrap_socket(raw, server_side=True) as connection:
                        while request := connection.recv(1000):
                            self.heard.append(request)
                            connection.sendall(REPLY)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@contextlib.contextmanager
def server(identity: Identity, trusts: Authority, version: ssl.TLSVersion = TLS13) -> Iterator[Server]:
    with contextlib.closing(Server(identity, trusts, version)) as running:
        yield running
