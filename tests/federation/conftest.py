"""Bundle endpoints: uvicorn on 127.0.0.1 with a certificate and an answer that tests choose."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import anyio
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from spiffe_client._latest import Latest
from spiffe_client.audit import Event
from spiffe_client.bundle import SpiffeBundle
from spiffe_client.dev import CertificateAuthority
from spiffe_client.http.federation import SpiffeEndpoint, WebEndpoint
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.svid import X509Svid
from tests.support.manual_clock import ManualClock
from tests.support.pki import Identity
from tests.support.web_servers import serve_uvicorn

B = TrustDomain("b.test")
SERVER = SpiffeId.parse("spiffe://b.test/bundle-server")


class BundleServer:
    """Serves a document, or whatever a test wants instead.

    Attributes:
        document: What to answer with, as bytes or as what gives them.
        chunks: Sent instead, one after the other, without a length.
        paths: What was asked for.
        requests: Headers of what was asked for.
    """

    def __init__(self) -> None:
        self.document: bytes | Callable[[], bytes] = b"{}"
        self.status = 200
        self.headers: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.silent_at: set[str] = set()
        self.paths: list[str] = []
        self.requests: list[dict[str, str]] = []
        self.port = 0
        self.context: ssl.SSLContext | None = None

    def url(self, path: str = "/bundle") -> str:
        return f"https://localhost:{self.port}{path}"

    async def __call__(self, scope, receive, send) -> None:
        path = scope["path"]
        self.paths.append(path)
        self.requests.append({k.decode(): v.decode() for k, v in scope["headers"]})
        if path in self.silent_at:
            assert "http.disconnect" == (await self._next(receive, "http.disconnect"))
            return
        if path in self.redirects:
            await self._answer(send, 307, {"location": self.redirects[path]}, b"")
        elif self.chunks:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for chunk in self.chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            body = self.document if isinstance(self.document, bytes) else self.document()
            await self._answer(send, self.status, self.headers, body)

    @staticmethod
    async def _next(receive, kind: str) -> str:
        while (message := await receive())["type"] != kind:
            pass
        return message["type"]

    @staticmethod
    async def _answer(send, status: int, headers: dict[str, str], body: bytes) -> None:
        pairs = [(k.encode(), v.encode()) for k, v in headers.items()]
        pairs.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})


class World:
    """Trust domain b.test, its bundle server, and a stranger."""

    def __init__(self, tmp_path) -> None:
        self.ca = CertificateAuthority("b.test", refresh_hint=60)
        self.stranger = CertificateAuthority("stranger.test", refresh_hint=60)
        self._tmp_path = tmp_path
        self._serial = 0
        self.server = BundleServer()
        self.server.document = lambda: self.ca.spiffe_bundle.to_json()

    def present(self, svid: X509Svid | Identity) -> ssl.SSLContext:
        """A plain server context with this certificate; asks clients for nothing."""
        self._serial += 1
        path = self._tmp_path / f"{self._serial}.pem"
        if isinstance(svid, Identity):
            path.write_bytes(svid.key_pem + svid.chain_pem)
        else:
            path.write_bytes(svid.key_pem().reveal() + svid.chain_pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def serve_as(self, svid) -> None:
        """Present this from the next handshake on."""
        self.server.context = self.present(svid)

    @contextlib.contextmanager
    def serving(self, svid=None) -> Iterator[BundleServer]:
        svid = svid or self.ca.issue_x509_svid(SERVER, dns_names=["localhost"])
        self.serve_as(svid)
        front = self.present(svid)

        def swap(connection, name, context) -> None:
            connection.context = self.server.context

        front.sni_callback = swap
        with serve_uvicorn(self.server, front) as self.server.port:
            yield self.server

    def spiffe(self, path: str = "/bundle", *, server_id: SpiffeId = SERVER, **changes) -> SpiffeEndpoint:
        bundle = changes.pop("bundle", None) or self.ca.spiffe_bundle
        return SpiffeEndpoint(B, self.server.url(path), server_id, bundle)

    def web(self, path: str = "/bundle") -> WebEndpoint:
        return WebEndpoint(B, self.server.url(path))

    @property
    def web_pki(self) -> ssl.SSLContext:
        """Trusts the server's root as a private web PKI, by host name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        roots = self.ca.x509_bundle.authorities
        context.load_verify_locations(cadata=b"".join(r.public_bytes(Encoding.DER) for r in roots))
        return context


class PollClock(ManualClock):
    """Knows how often somebody went to sleep: each poll ends with that."""

    def __init__(self) -> None:
        super().__init__(datetime.now(UTC))
        self.naps: Latest[float] = Latest(0.0)

    async def sleep(self, seconds: float) -> None:
        self.naps.set(seconds)
        await super().sleep(seconds)

    async def wait_naps(self, count: int) -> None:
        with anyio.fail_after(20):
            while self.naps.version < count:
                await self.naps.wait_newer(self.naps.version)

    async def pass_interval(self, seconds: float = 60) -> None:
        """Let time pass and wait until whoever was due has polled."""
        due = self.sleepers
        target = self.naps.version + due
        await self.advance(seconds)
        await self.wait_naps(target)


class Ear:
    """Hears events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [e.name for e in self.events]


def document(ca: CertificateAuthority, **members) -> bytes:
    """A bundle document with other members."""
    return json.dumps({**json.loads(ca.spiffe_bundle.to_json()), **members}).encode()


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


@pytest.fixture
def clock() -> PollClock:
    return PollClock()


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture(name="document")
def _document():
    return document


@pytest.fixture
def older(world) -> SpiffeBundle:
    """What was published before the latest rotation."""
    before = world.ca.spiffe_bundle
    world.ca.prepare_x509_authority()
    return before
