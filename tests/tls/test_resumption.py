"""Resumed sessions: OpenSSL verifies nothing on them, so we do (TLS 1.2), or there are none (1.3)."""

from __future__ import annotations

import ssl
from datetime import datetime
from typing import Any

import pytest

from spiffe_client.authorize import custom
from spiffe_client.errors import PeerNotAllowedError, PeerUnverifiedError
from spiffe_client.tls import SpiffeTls, peer_of
from spiffe_client.tls._check import PeerCheck
from spiffe_client.tls._sessions import Sessions
from tests.support.pki import days, new_authority
from tests.support.tls_wire import ANYBODY, TLS12, TLS13, Source, Wire, context_of, plain_client, tls_of

A, B = new_authority("a.test"), new_authority("b.test")
ME = A.leaf("spiffe://a.test/me", not_after=days(8))
PEER = B.leaf("spiffe://b.test/peer")
BOTH = context_of(ME, A, B)


class Returning:
    """A client that comes back with the session of its first visit."""

    def __init__(self, tls: SpiffeTls, version: ssl.TLSVersion = TLS12) -> None:
        self.server = tls.server_context()
        self.client = plain_client(PEER, version=version)
        self.session: ssl.SSLSession | None = None
        self.wires: list[Wire] = []

    def visit(self) -> Wire:
        wire = Wire(self.client, self.server, session=self.session)
        self.wires.append(wire)  # OpenSSL forgets the session of a connection that just vanishes
        try:
            wire.handshake().converse()
        finally:
            self.session = wire.client.session or self.session
        return wire


class TestTls12:
    def test_a_session_is_resumed_while_everything_holds(self) -> None:
        """Clients that cannot do without keep working, and are known by name."""
        tls = tls_of(Source(BOTH), minimum_version=TLS12)
        client = Returning(tls)
        assert not client.visit().server.session_reused
        wire = client.visit()
        assert wire.server.session_reused
        assert "spiffe://b.test/peer" == str(peer_of(wire.server).id)
        assert (2, 1) == (tls.stats.handshakes, tls.stats.resumed)

    def test_not_after_the_root_was_removed(self) -> None:
        """The hole that a check of the certificate alone leaves open."""
        source = Source(BOTH)
        client = Returning(tls_of(source, minimum_version=TLS12))
        client.visit()
        source.value = context_of(ME, A)
        with pytest.raises(PeerUnverifiedError, match="no authority of b.test to verify it by"):
            client.visit()

    def test_not_after_the_rule_changed_its_mind(self) -> None:
        """The authorizer is asked again."""
        allowed = True
        client = Returning(tls_of(BOTH, custom("moody", lambda _: allowed), minimum_version=TLS12))
        client.visit()
        allowed = False
        with pytest.raises(PeerNotAllowedError):
            client.visit()

    def test_not_after_a_certificate_expired(self) -> None:
        """A session may live longer than the certificate it began with."""

        class Clock:
            time = days(0)

            def now(self) -> datetime:
                return self.time

        clock = Clock()
        client = Returning(tls_of(BOTH, minimum_version=TLS12, clock=clock))
        client.visit()
        client.visit()
        clock.time = days(2)
        with pytest.raises(PeerUnverifiedError, match="which is not now") as e:
            client.visit()
        assert "certificate_invalid" == e.value.why

    def test_not_of_a_client_that_was_refused(self) -> None:
        """OpenSSL keeps the session of a handshake that it found nothing wrong with."""
        allowed = False
        client = Returning(tls_of(BOTH, custom("moody", lambda _: allowed), minimum_version=TLS12))
        with pytest.raises(PeerNotAllowedError):
            client.visit()
        allowed = True
        assert client.session is not None
        with pytest.raises(PeerUnverifiedError, match="not known any more"):
            client.visit()

    def test_not_of_a_client_that_was_forgotten(self) -> None:
        """What cannot be judged is refused."""
        tls = tls_of(BOTH, minimum_version=TLS12)
        tls._check._sessions = Sessions(most=0)
        client = Returning(tls)
        client.visit()
        with pytest.raises(PeerUnverifiedError, match="not known any more"):
            client.visit()

    def test_not_with_a_ticket(self) -> None:
        """Tickets would carry the session past the server's memory."""
        client = Returning(tls_of(BOTH, minimum_version=TLS12))
        client.visit()
        assert not client.session.has_ticket


class TestTls13:
    def test_there_are_no_sessions(self) -> None:
        """Each connection is verified from scratch."""
        client = Returning(tls_of(BOTH), TLS13)
        for _ in range(3):
            wire = client.visit()
            assert not wire.server.session_reused
            assert not wire.client.session_reused

    @pytest.mark.parametrize(("server_side", "version"), [(True, "TLSv1.3"), (False, "TLSv1.2"), (False, "TLSv1.3")])
    def test_should_there_be_one_nevertheless(self, server_side: bool, version: str) -> None:
        """An OpenSSL that resumes where it was told not to is not believed."""

        class Resumed:
            def version(self) -> str:
                return version

        connection: Any = Resumed()
        with pytest.raises(PeerUnverifiedError, match="where none may be"):
            PeerCheck(BOTH, ANYBODY, None, tls12=True).check(connection, server=server_side, resumed=True)


class TestSessions:
    def test_the_least_recently_seen_is_forgotten(self) -> None:
        """Bounded, whoever connects."""
        sessions = Sessions(most=2)
        for leaf in (b"a", b"b", b"a", b"c"):
            sessions.remember((leaf, b"root"))
        assert [(b"a", b"root"), (), (b"c", b"root")] == [sessions.recall(leaf) for leaf in (b"a", b"b", b"c")]

    def test_no_certificate_no_memory(self) -> None:
        """A session without a peer certificate is nobody's."""
        assert () == Sessions().recall(None)
