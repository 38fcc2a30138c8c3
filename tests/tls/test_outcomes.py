"""Refusals are told and counted by us: asyncio swallows the errors of a server."""

from __future__ import annotations

import logging
import ssl
from typing import Any

import pytest

from spiffe_client.authorize import allow
from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.errors import PeerError
from spiffe_client.ids import TrustDomain
from spiffe_client.tls import TlsStats
from tests.support.pki import days, new_authority
from tests.support.tls_wire import ANYBODY, Events, Wire, context_of, plain_client, plain_server, tls_of

A, B = new_authority("a.test"), new_authority("b.test")
REVOKED = X509Bundle(TrustDomain("revoked.test"), ())  # everything of it was taken back
ME = context_of(A.leaf("spiffe://a.test/me"), BundleSet([A.bundle(), B.bundle(), REVOKED]))

REFUSALS: dict[str, tuple[Any, dict[str, object]]] = {
    "not allowed": (
        A.leaf("spiffe://a.test/other"),
        {
            "reason": "not_allowed",
            "code": "peer_not_allowed",
            "peer": "spiffe://a.test/other",
            "rule": "allow(spiffe://a.test/peer)",
        },
    ),
    "expired": (
        A.leaf("spiffe://a.test/peer", not_before=days(-3), not_after=days(-2)),
        {"reason": "certificate_invalid", "code": "peer_unverified"},
    ),
    "foreign": (
        B.leaf("spiffe://a.test/peer"),
        {"reason": "foreign_authority", "code": "peer_unverified", "peer": "spiffe://a.test/peer"},
    ),
    "unknown domain": (
        A.leaf("spiffe://c.test/peer"),
        {"reason": "no_bundle", "code": "peer_unverified", "peer": "spiffe://c.test/peer"},
    ),
    "revoked domain": (
        A.leaf("spiffe://revoked.test/peer"),
        {"reason": "no_bundle", "code": "peer_unverified", "peer": "spiffe://revoked.test/peer"},
    ),
    "no SVID": (A.leaf(dns=("a.test",)), {"reason": "not_an_svid", "code": "peer_unverified"}),
    "no certificate": (None, {"reason": "no_certificate", "code": "peer_unverified"}),
}


class TestEvents:
    @pytest.mark.parametrize("name", REFUSALS)
    def test_each_refusal_is_told_once(self, name: str) -> None:
        """With who it claims to be, as far as that is known, and why."""
        peer, expected = REFUSALS[name]
        for role in ("client", "server") if peer is not None else ("server",):
            events = Events()
            tls = tls_of(ME, allow("spiffe://a.test/peer"), trust_domains={"a.test", "b.test"}, on_event=events)
            if role == "client":
                wire = Wire(tls.client_context(), plain_server(peer))
                ours = wire.client
            else:
                wire = Wire(plain_client(peer), tls.server_context())
                ours = wire.server
            with pytest.raises(PeerError) as e:
                wire.handshake()
            for again in (ours.do_handshake, lambda ours=ours: ours.write(b"x")):
                with pytest.raises(PeerError):
                    again()
            assert [{**expected, "role": role}] == events.named("peer.refused")
            assert (str(e.value), logging.WARNING) == (events[0].message, events[0].level)
            assert TlsStats(refused=1, generations=1) == tls.stats

    def test_good_peers_are_counted_only(self) -> None:
        """No event for each connection."""
        events = Events()
        tls = tls_of(ME, on_event=events)
        for _ in range(3):
            Wire(tls.client_context(), tls.server_context()).handshake()
        assert [] == events
        assert TlsStats(handshakes=6, generations=2) == tls.stats

    def test_failures_that_are_no_refusals(self) -> None:
        """A port scan is not a peer that was refused."""
        events = Events()
        tls = tls_of(ME, on_event=events)
        wire = Wire(plain_client(None), tls.server_context())
        wire.to_server.write(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            wire.server.do_handshake()
        assert ([], TlsStats(generations=1)) == (events, tls.stats)

    def test_logged_where_nobody_asked(self, caplog: pytest.LogCaptureFixture) -> None:
        """The logger is the sink of last resort."""
        tls = tls_of(ME, allow("spiffe://a.test/peer"), on_event=None)
        with pytest.raises(PeerError):
            Wire(plain_client(A.leaf("spiffe://a.test/other")), tls.server_context()).handshake()
        assert ["peer.refused: peer spiffe://a.test/other is not allowed by allow(spiffe://a.test/peer)"] == caplog.messages

    def test_a_broken_sink_changes_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        """The refusal stands."""

        def broken(_: object) -> None:
            raise ZeroDivisionError

        tls = tls_of(ME, allow("spiffe://a.test/peer"), on_event=broken)
        with pytest.raises(PeerError):
            Wire(plain_client(A.leaf("spiffe://a.test/other")), tls.server_context()).handshake()
        assert 1 == tls.stats.refused
        assert ["the event sink failed on peer.refused"] == caplog.messages


class TestErrors:
    def test_openssl_codes_are_kept(self) -> None:
        """For code that looks at what `ssl.SSLCertVerificationError` has; the original is the cause."""
        peer, _ = REFUSALS["expired"]
        with pytest.raises(ssl.SSLCertVerificationError) as e:
            Wire(tls_of(ME, ANYBODY).client_context(), plain_server(peer)).handshake()
        cause = e.value.__cause__
        assert isinstance(cause, ssl.SSLCertVerificationError)
        assert 10 == e.value.verify_code == cause.verify_code  # X509_V_ERR_CERT_HAS_EXPIRED
        assert "certificate has expired" in str(e.value)
