"""A token endpoint and a resource on loopback, in a process of their own: as little as can be measured against."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from spiffe_client.tokens import Metadata, NoAuthentication, TokenBroker, TokenRequest, WebPki

__all__ = ["TokenServer", "request_for"]

#: A token is as long as JWT access tokens are.
_FILLER = "x" * 800


def request_for(server: TokenServer, scope: str = "orders:read") -> TokenRequest:
    """A request for a token that the server's own resource takes."""
    return TokenRequest.of(scope, resource=server.url + "/", grant="client_credentials")


class TokenServer:
    """Starts on entry, stops on exit; between, `stop` and `resume` take it away on the same port."""

    def __init__(self, ttl: int = 3600, *, tls: bool = False) -> None:
        self._ttl = ttl
        self._folder = tempfile.TemporaryDirectory()
        self._file = Path(self._folder.name, "server.pem") if tls else None
        #: Its own certificate, to trust it by.
        self.roots = _write_certificate(self._file) if self._file else ""
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> TokenServer:
        self.resume()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        """Its origin."""
        return f"{'https' if self._file else 'http'}://127.0.0.1:{self._port}"

    def broker(self) -> TokenBroker:
        """A client of it."""
        metadata = Metadata(issuer=self.url, token_endpoint=f"{self.url}/token")
        return TokenBroker(
            metadata=metadata, authentication=NoAuthentication(), client_id="bench", binding="none",
            trust=WebPki(self.roots or None), on_event=lambda _: None,
        )  # fmt: skip

    def tls(self) -> ssl.SSLContext:
        """For another server with the same certificate."""
        assert self._file
        return _server_tls(self._file)

    def resume(self) -> None:
        """Serve, and return when it does."""
        argv = [sys.executable, "-m", "tests.bench._token_server", str(self._port), str(self._ttl)]
        argv += [str(self._file)] if self._file else []
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self._port = int(self._process.stdout.readline())

    def stop(self) -> None:
        """Serve nobody: connections are refused."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


class _Served(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, for requests that arrive whole."""

    posts = 0
    ttl = 3600

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, rest = self._data.partition(b"\r\n\r\n")
            length = next((int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")), 0)
            if len(rest) < length:
                return
            self._data = rest[length:]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        if head.startswith(b"POST"):
            _Served.posts += 1
            body = json.dumps(
                {
                    "access_token": f"{_Served.posts}.{_FILLER}",
                    "token_type": "Bearer",
                    "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                    "expires_in": self.ttl,
                }
            ).encode()
        elif head.startswith(b"GET /count"):
            body = b"%d" % _Served.posts
        else:
            body = b'{"ok":true}' if b"\r\nauthorization: bearer " in head.lower() else b'{"ok":false}'
        answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self._transport.write(answer + body)  # type: ignore[attr-defined]


def _write_certificate(file: Path) -> str:
    """Write a key and a certificate for 127.0.0.1 that vouches for itself; return the certificate."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    san = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(san, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate)
    return certificate.decode()


def _server_tls(file: Path) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    return tls


async def _serve(port: int, ttl: int, *pem: str) -> None:
    _Served.ttl = ttl
    tls = _server_tls(Path(*pem)) if pem else None
    server = await asyncio.get_running_loop().create_server(_Served, "127.0.0.1", port, backlog=2048, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
