"""Connections that are already there: trust that is withdrawn ends them with the next byte."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
from typing import Any

import pytest

from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.errors import (
    IdentityUnavailableError,
    PeerUnverifiedError,
    SourceClosedError,
    StaleError,
)
from spiffe_client.ids import TrustDomain
from spiffe_client.tls import _guard, peer_of, verify_still_trusted
from tests.support.pki import bundle_set, new_authority
from tests.support.tls_wire import Events, Source, Wire, context_of, plain_client, plain_server, tls_of

A, B = new_authority("a.test"), new_authority("b.test")
ME, PEER = A.leaf("spiffe://a.test/me"), B.leaf("spiffe://b.test/peer")
BOTH = context_of(ME, A, B)
WITHOUT_B = context_of(ME, A)
B_EMPTY = context_of(ME, BundleSet([A.bundle(), X509Bundle(TrustDomain("b.test"), ())]))
B_REPLACED = context_of(ME, A, new_authority("b.test"))
B_GROWN = context_of(ME, BundleSet([A.bundle(), B.bundle(new_authority("b.test"))]))


def wire_of(source: Source, role: str, **options: Any) -> tuple[Wire, ssl.SSLObject, ssl.SSLObject]:
    """A wire after its handshake, our end of it, and the other."""
    tls = tls_of(source, **options)
    if role == "client":
        wire = Wire(tls.client_context(), plain_server(PEER)).handshake().converse()
        return wire, wire.client, wire.server
    wire = Wire(plain_client(PEER), tls.server_context()).handshake().converse()
    return wire, wire.server, wire.client


@pytest.mark.parametrize("role", ["client", "server"])
class TestWithdrawnAnchors:
    @pytest.mark.parametrize("now", [WITHOUT_B, B_EMPTY, B_REPLACED], ids=["bundle gone", "bundle empty", "replaced"])
    def test_reads_and_writes_end(self, role: str, now: Any) -> None:
        """Nothing is sent to, and nothing taken from, a peer that nobody vouches for any more."""
        for use in (lambda o: o.write(b"secret"), lambda o: o.read(10)):
            source = Source(BOTH)
            _, ours, theirs = wire_of(source, role)
            theirs.write(b"late")
            source.value = now
            for _ in range(2):
                with pytest.raises(PeerUnverifiedError, match="authority that vouched for .*b.test/peer was withdrawn") as e:
                    use(ours)
                assert "anchor_withdrawn" == e.value.why
            with pytest.raises(PeerUnverifiedError):
                peer_of(ours)
            with pytest.raises(PeerUnverifiedError):
                ours.unwrap()
            with pytest.raises(ssl.SSLError):
                theirs.read()

    def test_for_good(self, role: str) -> None:
        """A connection that was ended does not come back when the bundle does."""
        source = Source(BOTH)
        _, ours, _ = wire_of(source, role)
        source.value = WITHOUT_B
        with pytest.raises(PeerUnverifiedError):
            ours.write(b"x")
        source.value = BOTH
        with pytest.raises(PeerUnverifiedError):
            ours.write(b"x")

    def test_rotation_ends_nothing(self, role: str) -> None:
        """A new own SVID, another authority beside the old one: the connection goes on."""
        source = Source(BOTH)
        wire, *_ = wire_of(source, role)
        for now in (context_of(A.leaf("spiffe://a.test/me"), A, B), B_GROWN, BOTH):
            source.value = now
            wire.converse()

    def test_told_and_counted(self, role: str) -> None:
        """Once, with the peer and the reason."""
        source, events = Source(BOTH), Events()
        tls = tls_of(source, on_event=events)
        if role == "client":
            ours = Wire(tls.client_context(), plain_server(PEER)).handshake().client
        else:
            ours = Wire(plain_client(PEER), tls.server_context()).handshake().server
        source.value = WITHOUT_B
        for _ in range(2):
            with pytest.raises(PeerUnverifiedError):
                ours.write(b"x")
        expected = {
            "reason": "anchor_withdrawn",
            "code": "peer_unverified",
            "role": role,
            "peer": "spiffe://b.test/peer",
        }
        assert [expected] == events.named("peer.refused")
        assert (1, 0, 1) == (tls.stats.handshakes, tls.stats.refused, tls.stats.ended)


class TestHotPath:
    def test_judged_once_for_each_snapshot(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Reads and writes compare one reference; only a new snapshot is looked into."""
        judged: list[Any] = []
        monkeypatch.setattr(_guard, "verify_still_trusted", lambda *args: judged.append(args))
        source = Source(BOTH)
        wire, ours, _ = wire_of(source, "client")
        for _ in range(3):
            wire.converse()
        assert [] == judged
        source.value = B_GROWN
        for _ in range(3):
            wire.converse()
        assert 1 == len(judged)


class TestOwnIdentity:
    def test_an_expired_one_ends_nothing(self) -> None:
        """It stays true for whom it was shown to; new handshakes fail."""
        source = Source(BOTH)
        wire, *_ = wire_of(source, "client")
        source.value = StaleError("too old", reason="expired")
        wire.converse()
        source.value = B_GROWN
        wire.converse()
        source.value = WITHOUT_B
        with pytest.raises(PeerUnverifiedError):
            wire.client.write(b"x")

    @pytest.mark.parametrize(
        ("end", "reason", "level"),
        [
            (StaleError("taken back", reason="withdrawn"), "identity_withdrawn", logging.WARNING),
            (ZeroDivisionError("a bug"), "identity_withdrawn", logging.WARNING),
            (SourceClosedError("closed"), "source_closed", logging.DEBUG),  # by its own user
        ],
        ids=["withdrawn", "broken source", "closed"],
    )
    def test_a_withdrawn_one_ends_everything(self, end: Exception, reason: str, level: int) -> None:
        """Who was told to stop using an identity does, at once and for good."""
        events = Events()
        source = Source(BOTH)
        wire, *_ = wire_of(source, "client", on_event=events)
        source.value = end
        with pytest.raises(IdentityUnavailableError, match=str(end)) as e:
            wire.client.write(b"x")
        assert end is e.value.__cause__
        source.value = BOTH
        with pytest.raises(IdentityUnavailableError):
            wire.client.read()
        assert [{"reason": reason, "role": "client"}] == events.named("connection.retired")
        assert [level] == [event.level for event in events]


class TestSockets:
    def test_a_read_that_was_waiting(self) -> None:
        """What arrives after trust was withdrawn is not handed on, though the read began before."""
        source = Source(BOTH)
        ours, theirs = socket.socketpair()
        waiting = threading.Event()

        def serve() -> None:
            with contextlib.suppress(OSError):
                with plain_server(PEER).wrap_socket(theirs, server_side=True) as connection:
                    connection.sendall(b"x")
                    assert waiting.wait(10)
                    source.value = WITHOUT_B
                    connection.sendall(b"late")

        with ours, theirs:
            ours.settimeout(10)
            thread = threading.Thread(target=serve)
            thread.start()
            with tls_of(source).client_context().wrap_socket(ours) as connection:
                assert b"x" == connection.recv(1)
                waiting.set()
                with pytest.raises(PeerUnverifiedError, match="withdrawn"):
                    connection.recv(10)
            thread.join()


class TestRecheck:
    def test_for_code_that_holds_idle_connections(self) -> None:
        """A pool can ask before it hands one out."""
        _, ours, _ = wire_of(Source(BOTH), "client")
        peer = peer_of(ours)
        verify_still_trusted(peer, BOTH.bundles)
        verify_still_trusted(peer, bundle_set(B))
        for gone in (WITHOUT_B, B_EMPTY, B_REPLACED):
            with pytest.raises(PeerUnverifiedError) as e:
                verify_still_trusted(peer, gone.bundles)
            assert (peer.id, "anchor_withdrawn") == (e.value.peer, e.value.why)
