"""The ports of a token broker: plain loopback, TLS as on the web, TLS between SPIFFE identities."""

from __future__ import annotations

import threading
from datetime import datetime

from spiffe_client._clock import Clock
from spiffe_client.authorize import custom
from spiffe_client.bundle import BundleSet
from spiffe_client.dev._domain import DevTrustDomain
from spiffe_client.dev.token_broker._server_certificates import WebCertificate, WebServer
from spiffe_client.dev.token_broker._server_thread import Listener
from spiffe_client.ids import SpiffeId
from spiffe_client.tls import server_context
from spiffe_client.workload_api import X509Context

__all__ = ["OwnIdentity", "Ports"]

_SVID_TTL = 3600.0


class OwnIdentity:
    """The X509-SVID of a server that lives beside the authority, and the bundles to verify clients.

    A new one is made at half of its life, or when the bundles have changed.

    Args:
        domain: Who issues it.
        spiffe_id: Whose it is.
        clock: What says now.
    """

    def __init__(self, domain: DevTrustDomain, spiffe_id: SpiffeId, clock: Clock) -> None:
        self._domain = domain
        self._id = spiffe_id
        self._clock = clock
        self._lock = threading.Lock()
        self._held: tuple[X509Context, datetime] | None = None

    @property
    def x509_context(self) -> X509Context:
        """The snapshot to use now."""
        bundles = BundleSet(b.x509_bundle for b in self._domain.bundles)
        now = self._clock.now()
        with self._lock:
            if self._held is None or now >= self._held[1] or self._held[0].bundles != bundles:
                svid = self._domain.ca.issue_x509_svid(self._id, ttl=_SVID_TTL, dns_names=("localhost",))
                context = X509Context((svid,), bundles, svid)
                self._held = context, now + (svid.not_after - now) / 2
            return self._held[0]


class Ports:
    """Three ports, one application behind them.

    Args:
        domain: Whose clients come.
        spiffe_id: Who this server is.
        clock: What says now.
    """

    def __init__(self, domain: DevTrustDomain, spiffe_id: SpiffeId, clock: Clock) -> None:
        certificate = WebCertificate()
        self.web_roots: str = certificate.roots
        anybody = custom("any workload that is verified", lambda _: True)
        between_ids = server_context(OwnIdentity(domain, spiffe_id, clock), anybody)
        self.loopback = Listener("loopback")
        self.web = Listener("web", WebServer(certificate, domain.ca).context)
        self.spiffe = Listener("spiffe", lambda: between_ids)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """All of them."""
        return self.loopback, self.web, self.spiffe

    def named(self, name: str) -> Listener:
        """Return one of them by name."""
        return next(listener for listener in self.listeners if listener.name == name)
