"""A small world for HTTP tests: a shop, its customers, a federated domain, and a forger."""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Callable
from weakref import WeakMethod

import anyio.to_thread
from cryptography.hazmat.primitives.serialization import Encoding

from spiffe_client.bundle import BundleSet
from spiffe_client.dev import CertificateAuthority
from spiffe_client.errors import SourceError
from spiffe_client.svid import X509Svid
from spiffe_client.workload_api import X509Context

__all__ = ["SHOP", "WEB", "Hold", "MovingSource", "Shop", "shop_app", "static_client_context"]

SHOP = "spiffe://shop.test/orders"
WEB = "spiffe://shop.test/web"


class MovingSource:
    """A rotating source that the test moves: what X509Source does, without an agent behind it."""

    def __init__(self, context: X509Context) -> None:
        self._context: X509Context | SourceError = context
        self._before: list[WeakMethod] = []
        self._after: list[WeakMethod] = []

    @property
    def x509_context(self) -> X509Context:
        if isinstance(self._context, SourceError):
            raise self._context
        return self._context

    def before_publish(self, prepare: Callable[[X509Context], None]) -> None:
        self._before.append(WeakMethod(prepare))

    def after_publish(self, notify: Callable[[], None]) -> None:
        self._after.append(WeakMethod(notify))

    @property
    def listeners(self) -> int:
        return sum(ref() is not None for ref in [*self._before, *self._after])

    def publish(self, context: X509Context | SourceError) -> None:
        for ref in self._before:
            if (prepare := ref()) is not None and isinstance(context, X509Context):
                prepare(context)
        self._context = context
        for ref in self._after:
            if (notify := ref()) is not None:
                notify()


class Shop:
    """Two trust domains; each side holds its SVID and the bundles of both."""

    def __init__(self) -> None:
        self.ca = CertificateAuthority("shop.test", intermediate=False)
        self.other = CertificateAuthority("other.test", intermediate=False)

    def issue(self, spiffe_id: str) -> X509Svid:
        ca = self.ca if spiffe_id.startswith("spiffe://shop.test/") else self.other
        return ca.issue_x509_svid(spiffe_id, dns_names=["localhost"])

    def context(self, svid: X509Svid | str, *, bundles: BundleSet | None = None) -> X509Context:
        """A snapshot, by default with what both authorities publish now."""
        if isinstance(svid, str):
            svid = self.issue(svid)
        if bundles is None:
            bundles = BundleSet([self.ca.x509_bundle, self.other.x509_bundle])
        return X509Context(svids=(svid,), bundles=bundles, svid=svid)

    def source(self, svid: X509Svid | str, **options) -> MovingSource:
        return MovingSource(self.context(svid, **options))


def _static(context: ssl.SSLContext, shop: Shop, svid: X509Svid, tmp_path) -> ssl.SSLContext:
    path = tmp_path / "static.pem"
    path.write_bytes(svid.key_pem().reveal() + svid.chain_pem())
    context.load_cert_chain(path)
    authorities = shop.ca.x509_bundle.authorities
    context.load_verify_locations(cadata=b"".join(a.public_bytes(Encoding.DER) for a in authorities))
    return context


def static_client_context(shop: Shop, svid: X509Svid, tmp_path) -> ssl.SSLContext:
    """What one writes without SPIFFE: fixed files, host name checked."""
    return _static(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), shop, svid, tmp_path)


class Hold:
    """Lets a test keep a response open: the app sends the rest when the test says so."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()


def shop_app(hold: Hold | None = None, seen: list | None = None):
    """An ASGI app with a path for everything a client can be asked to cope with."""

    async def body_of(receive) -> bytes:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                return body

    async def app(scope, receive, send) -> None:
        path = scope["path"]
        query = scope["query_string"].decode()
        if seen is not None:
            seen.append(path)

        async def respond(status: int, body: bytes = b"", *headers: tuple[bytes, bytes]) -> None:
            length = (b"content-length", str(len(body)).encode())
            await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
            await send({"type": "http.response.body", "body": body})

        if path.startswith("/status/"):
            await respond(int(path.removeprefix("/status/")))
        elif path == "/redirect":
            await body_of(receive)
            await respond(302, b"moved", (b"location", query.encode()))
        elif path == "/loop":
            await respond(302, b"", (b"location", b"/loop"))
        elif path == "/login":
            await respond(200, b"in", (b"set-cookie", b"session=abc; Path=/"), (b"set-cookie", b"theme=dark"))
        elif path == "/latin":
            await respond(200, "é".encode("latin-1"), (b"content-type", b"text/plain"))
        elif path == "/challenge":
            given = dict(scope["headers"]).get(b"authorization")
            await respond(200 if given else 401, given or b"")
        elif path == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for i in range(5):
                await send({"type": "http.response.body", "body": b"%d" % i * 1000, "more_body": True})
            await send({"type": "http.response.body", "body": b"end"})
        elif path == "/never":
            if hold is not None:
                hold.reached.set()
            while (await receive())["type"] != "http.disconnect":
                pass
        elif path == "/hold":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first ", "more_body": True})
            hold.reached.set()
            await anyio.to_thread.run_sync(hold.go_on.wait, 20)
            await send({"type": "http.response.body", "body": b"last"})
        else:
            body = await body_of(receive)
            told = {
                "method": scope["method"],
                "path": path,
                "query": query,
                "http": scope["http_version"],
                "headers": sorted(
                    (k.decode(), v.decode())
                    for k, v in scope["headers"]
                    if k not in (b"host", b"x-forwarded-for")
                ),
                "body": [len(body), hashlib.sha256(body).hexdigest()[:8]],
            }
            await respond(200, json.dumps(told).encode(), (b"content-type", b"application/json"))

    return app
