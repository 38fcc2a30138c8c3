"""Who is believed: the 43 cases, judged by real handshakes, by both ends."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import Any

import pytest

from spiffe_client.authorize import member_of
from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.errors import PeerError, PeerUnverifiedError, TlsConfigurationError
from spiffe_client.ids import TrustDomain
from spiffe_client.tls import peer_of
from tests.support.pki import new_authority
from tests.support.tls_cases import A_ID, CASES, Case
from tests.support.tls_wire import ANYBODY, TLS12, TLS13, Wire, context_of, plain_client, plain_server, tls_of

ME = new_authority("a.test").leaf("spiffe://a.test/me")


def test_there_are_43() -> None:
    """None is lost on the way."""
    assert (20, 23) == (sum(c.accepted for c in CASES), sum(not c.accepted for c in CASES))
    assert 43 == len({c.name for c in CASES})


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
@pytest.mark.parametrize("case", CASES, ids=str)
class TestVerdicts:
    def test_client_judges_server(self, case: Case, version: ssl.TLSVersion) -> None:
        """A server is believed or refused, by RFC 5280 §6 and X509-SVID §2-5, all bundles loaded."""
        judged = case.build("server")
        tls = tls_of(context_of(ME, judged.bundles), minimum_version=version)
        wire = Wire(tls.client_context(), plain_server(judged.peer, version=version))
        if case.name == "leaf has no digitalSignature" and version == TLS12:
            with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):  # OpenSSL does not present it
                wire.handshake()
        elif case.accepted:
            wire.handshake().converse()
            assert A_ID == str(peer_of(wire.client).id)
            assert judged.peer.ders[0] == peer_of(wire.client).chain[0]
        else:
            with pytest.raises(PeerUnverifiedError):
                wire.handshake()
            with pytest.raises(PeerUnverifiedError):
                wire.client.write(b"secret")
            assert 1 == tls.stats.refused

    def test_server_judges_client(self, case: Case, version: ssl.TLSVersion) -> None:
        """The mirror image."""
        judged = case.build("client")
        tls = tls_of(context_of(ME, judged.bundles), minimum_version=version)
        wire = Wire(plain_client(judged.peer, version=version), tls.server_context())
        if case.accepted:
            wire.handshake().converse()
            assert A_ID == str(peer_of(wire.server).id)
        else:
            with pytest.raises(PeerUnverifiedError):
                wire.handshake()
            with pytest.raises(PeerUnverifiedError):
                wire.server.read()
            assert 1 == tls.stats.refused


@pytest.mark.parametrize("case", CASES, ids=str)
class TestOnSockets:
    def test_both_directions_with_the_default_of_one_domain(self, case: Case) -> None:
        """Real sockets, and only the bundle that the authorizer names: the same verdicts."""
        for role in ("server", "client"):
            judged = case.build(role)
            tls = tls_of(context_of(ME, judged.bundles), member_of("a.test"))
            ours, theirs = socket.socketpair()
            ours.settimeout(10)
            plain = plain_server(judged.peer) if role == "server" else plain_client(judged.peer)
            thread = threading.Thread(target=echo, args=(plain, theirs, role == "server"))
            thread.start()
            context = tls.client_context() if role == "server" else tls.server_context()
            try:
                with context.wrap_socket(ours, server_side=role == "client") as connection:
                    assert case.accepted
                    connection.sendall(b"ping")
                    assert b"ping" == connection.recv(4)
                    assert A_ID == str(peer_of(connection).id)
            except PeerError:
                assert not case.accepted
            finally:
                thread.join()


def echo(context: ssl.SSLContext, raw: socket.socket, server: bool) -> None:
    with suppress(OSError), raw, context.wrap_socket(raw, server_side=server) as connection:
        connection.sendall(connection.recv(4))
        connection.recv(1)


class TestAnchors:
    @pytest.mark.parametrize("with_root", [False, True])
    def test_a_leaf_in_a_bundle_vouches_for_nobody(self, with_root: bool) -> None:
        """Not even for itself: what authenticates is no authority (X509-SVID §4.1)."""
        b = new_authority("b.test")
        peer = b.leaf(A_ID)
        bundles = [X509Bundle(TrustDomain("a.test"), (peer.leaf,)), *([b.bundle()] if with_root else [])]
        tls = tls_of(context_of(ME, BundleSet(bundles)))
        with pytest.raises(PeerUnverifiedError):
            Wire(tls.client_context(), plain_server(peer)).handshake()
        with pytest.raises(PeerUnverifiedError):
            Wire(plain_client(peer), tls.server_context()).handshake()


class TestAuthorizerDefaults:
    def test_only_domains_the_authorizer_names_are_loaded(self) -> None:
        """A federated domain that is not needed here cannot interfere here."""
        a, b = new_authority("a.test"), new_authority("b.test")
        context = context_of(a.leaf("spiffe://a.test/me"), a, b)
        peer = plain_server(b.leaf("spiffe://b.test/peer"))
        for authorize, why in ((member_of("a.test"), "certificate_invalid"), (ANYBODY, None)):
            wire = Wire(tls_of(context, authorize).client_context(), peer)
            if why is None:
                assert "spiffe://b.test/peer" == str(peer_of(wire.handshake().client).id)
            else:
                with pytest.raises(PeerUnverifiedError) as e:
                    wire.handshake()
                assert why == e.value.why

    def test_trust_domains_may_be_named(self) -> None:
        """An explicit list wins over what the authorizer can name, as names or trust domains."""
        a, b = new_authority("a.test"), new_authority("b.test")
        context = context_of(a.leaf("spiffe://a.test/me"), a, b)
        tls = tls_of(context, ANYBODY, trust_domains={"b.test"})
        Wire(tls.client_context(), plain_server(b.leaf("spiffe://b.test/peer"))).handshake()
        with pytest.raises(PeerUnverifiedError, match="does not verify"):
            Wire(tls.client_context(), plain_server(a.leaf("spiffe://a.test/peer"))).handshake()

    def test_what_it_was_made_of_can_be_read(self) -> None:
        """For pools and middleware above it."""
        a = new_authority("a.test")
        context = context_of(a.leaf("spiffe://a.test/me"), a)
        tls = tls_of(context, member_of("a.test"))
        assert (context, member_of("a.test").trust_domains) == (tls.source, tls.trust_domains)
        assert None is tls_of(context, ANYBODY).trust_domains

    def test_nobody_can_be_verified_without_a_bundle(self) -> None:
        """It is said before a byte is sent, and names the reason rather than OpenSSL's symptom."""
        a = new_authority("a.test")
        tls = tls_of(context_of(a.leaf("spiffe://a.test/me"), a), member_of("b.test"))
        wire = Wire(tls.client_context(), plain_server(a.leaf("spiffe://a.test/peer")))
        with pytest.raises(PeerUnverifiedError, match="no bundle of its trust domain") as e:
            wire.handshake()
        assert "no_bundle" == e.value.why
        assert 0 == wire.to_server.pending
        assert 1 == tls.stats.refused

    @pytest.mark.parametrize("mistake", [set(), "a.test"], ids=["empty", "a string"])
    def test_trust_domains_by_mistake(self, mistake: Any) -> None:
        """Nobody means to allow nobody, or trust domains of one letter each."""
        a = new_authority("a.test")
        with pytest.raises(TlsConfigurationError, match="^trust_domains="):
            tls_of(context_of(a.leaf("spiffe://a.test/me"), a), trust_domains=mistake)

    @pytest.mark.parametrize("nobody", [None, lambda _: True, ["spiffe://a.test/x"]])
    def test_an_authorizer_is_required(self, nobody: object) -> None:
        """There is no default rule, and a bare function is none."""
        a = new_authority("a.test")
        with pytest.raises(TypeError):
            tls_of(context_of(a.leaf("spiffe://a.test/me"), a), nobody)
