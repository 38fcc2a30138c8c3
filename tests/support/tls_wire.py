"""Two ends of a TLS connection in memory, and the other things TLS tests are made of."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable

from spiffe_client.audit import Event
from spiffe_client.authorize import Authorizer, custom
from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.svid import X509Svid
from spiffe_client.tls import SpiffeTls
from spiffe_client.workload_api import X509Context
from tests.support.pki import Authority, Identity, bundle_set

__all__ = ["ANYBODY", "Events", "Source", "Wire", "context_of", "plain_client", "plain_server", "tls_of"]

#: Allows every proven peer, and so has all bundles loaded.
ANYBODY = custom("anybody", lambda _: True)

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def context_of(identity: Identity | X509Svid, trusted: BundleSet[X509Bundle] | Authority, *more: Authority) -> X509Context:
    """One identity, and a bundle set or authorities of one bundle each."""
    svid = identity.svid if isinstance(identity, Identity) else identity
    bundles = bundle_set(trusted, *more) if isinstance(trusted, Authority) else trusted
    return X509Context((svid,), bundles, svid)


class Source:
    """A source whose snapshot, or error, is set by hand."""

    def __init__(self, value: X509Context | Exception) -> None:
        self.value = value

    @property
    def x509_context(self) -> X509Context:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class Events(list[Event]):
    """Events, and what they say."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def named(self, name: str) -> list[dict[str, object]]:
        return [dict(e.attributes) for e in self if e.name == name]


def tls_of(source: X509Context | Source, authorize: Authorizer = ANYBODY, **options: object) -> SpiffeTls:
    """A SpiffeTls that logs nothing."""
    options.setdefault("on_event", lambda _: None)
    return SpiffeTls(source, authorize, **options)


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(identity.key_pem + identity.chain_pem)
        file.flush()
        context.load_cert_chain(file.name)


def plain_server(identity: Identity, *, trusts: Authority | None = None, version: ssl.TLSVersion = TLS13) -> ssl.SSLContext:
    """A server of the standard library; it asks for a client certificate if it trusts somebody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = version
    _load(context, identity)
    if trusts is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=trusts.bundle().to_der())
    return context


def plain_client(identity: Identity | None, *, version: ssl.TLSVersion = TLS13) -> ssl.SSLContext:
    """A client of the standard library that believes every server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = version
    if identity is not None:
        _load(context, identity)
    return context


class Wire:
    """A client and a server over two buffers."""

    def __init__(
        self,
        client: ssl.SSLContext,
        server: ssl.SSLContext,
        *,
        session: ssl.SSLSession | None = None,
        server_hostname: str = "peer.test",
    ) -> None:
        self.to_client, self.to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(
            self.to_client, self.to_server, server_hostname=server_hostname, session=session
        )
        self.server = server.wrap_bio(self.to_server, self.to_client, server_side=True)

    def handshake(self) -> Wire:
        """Handshake to the end; what either side raises comes out."""
        todo: list[Callable[[], None]] = [self.client.do_handshake, self.server.do_handshake]
        for _ in range(10):
            for step in list(todo):
                try:
                    step()
                except ssl.SSLWantReadError:
                    continue
                todo.remove(step)
        assert not todo, "the handshake did not end"
        return self

    def converse(self) -> Wire:
        """One word each way."""
        self.client.write(b"ping")
        assert b"ping" == self.server.read()
        self.server.write(b"pong")
        assert b"pong" == self.client.read()
        return self
