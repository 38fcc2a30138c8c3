"""Attacks that once worked here, each by its name."""

from __future__ import annotations

import socket
import ssl
import threading
from types import SimpleNamespace

import pytest

from spiffe_client.authorize import allow, member_of
from spiffe_client.bundle import BundleSet
from spiffe_client.dev import CertificateAuthority
from spiffe_client.errors import (
    IdentityUnavailableError,
    PeerError,
    PeerNotAllowedError,
    PeerUnverifiedError,
    StaleError,
)
from spiffe_client.svid import X509Svid
from spiffe_client.tls import SpiffeTls, peer_of
from spiffe_client.tls._proof import Proofs
from spiffe_client.workload_api import X509Context
from tests.support.canary import assert_no_secret
from tests.support.pki import Identity, new_authority
from tests.support.tls_wire import Events, Source, Wire, context_of, plain_server, tls_of

HERE = CertificateAuthority("a.test")
ME = HERE.issue_x509_svid("spiffe://a.test/me", ttl=86400)
CONTEXT = X509Context((ME,), BundleSet([HERE.x509_bundle]), ME)
A = new_authority("a.test")


def test_verification_switched_off_while_the_connection_was_made() -> None:
    """CERT_NONE on the shared context for a moment: OpenSSL then believes a forged leaf with the real root appended."""
    root = HERE.x509_bundle.authorities[0]
    forger = new_authority("a.test")
    forged = forger.leaf("spiffe://a.test/server").sending(root)
    facade = SpiffeTls(CONTEXT, allow("spiffe://a.test/server"), on_event=lambda _: None).client_context()
    facade.verify_mode = ssl.CERT_NONE
    wire = Wire(facade, plain_server(forged))
    facade.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(PeerUnverifiedError):
        wire.handshake()
    with pytest.raises(PeerUnverifiedError):
        wire.client.write(b"secret")


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"uri": "spiffe://a.test/workload"}, "SPIFFE ID of a workload"),
        ({"usage": None}, "keyCertSign"),
    ],
)
def test_an_issuer_that_openssl_likes_and_the_standard_forbids(rules: dict[str, object], says: str) -> None:
    """X509-SVID §3.2, §4.3: a workload with a CA flag issues nothing; neither does a CA without keyCertSign."""
    middle = A.intermediate(**rules)
    wire = Wire(tls_of(context_of(A.leaf("spiffe://a.test/me"), A)).client_context(), plain_server(middle.leaf("spiffe://a.test/x")))
    with pytest.raises(PeerUnverifiedError, match=says) as e:
        wire.handshake()
    assert "certificate_invalid" == e.value.why


def test_a_weak_key_let_in_by_configure() -> None:
    """SECLEVEL=0, as answers on the web advise, must not make a key of 1024 bits good enough."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    weak = A.leaf("spiffe://a.test/x", key=rsa.generate_private_key(65537, 1024))

    def careless(context: ssl.SSLContext) -> None:
        context.set_ciphers("DEFAULT@SECLEVEL=0")

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.set_ciphers("DEFAULT@SECLEVEL=0")
    _load(server, weak)
    tls = tls_of(context_of(A.leaf("spiffe://a.test/me"), A), configure=careless)
    with pytest.raises(PeerUnverifiedError, match="1024 bits"):
        Wire(tls.client_context(), server).handshake()


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(identity.key_pem + identity.chain_pem)
        file.flush()
        context.load_cert_chain(file.name)


def test_cleartext_injected_after_a_half_close() -> None:
    """`SSLSocket.shutdown` takes TLS off; whoever is on the path could go on in the clear."""
    tls = SpiffeTls(CONTEXT, member_of("a.test"), on_event=lambda _: None)
    near, far = socket.socketpair()

    def inject() -> None:
        with tls.server_context().wrap_socket(far, server_side=True) as server:
            server.recv(4)
            socket.socket.send(server, b"INJECTED CLEARTEXT")

    thread = threading.Thread(target=inject)
    thread.start()
    with tls.client_context().wrap_socket(near) as client:
        client.send(b"ping")
        client.shutdown(socket.SHUT_WR)
        with pytest.raises(PeerUnverifiedError, match="TLS was taken off"):
            client.recv(100)
        with pytest.raises(PeerUnverifiedError):
            peer_of(client)
        thread.join()


def test_cleartext_after_unwrap() -> None:
    """What comes back from `unwrap()` is the same object, and nobody vouches for its peer any more."""
    tls = SpiffeTls(CONTEXT, member_of("a.test"), on_event=lambda _: None)
    near, far = socket.socketpair()

    def close_politely() -> None:
        with tls.server_context().wrap_socket(far, server_side=True) as server:
            server.recv(4)
            server.unwrap()

    thread = threading.Thread(target=close_politely)
    thread.start()
    with tls.client_context().wrap_socket(near) as client:
        client.send(b"ping")
        plain = client.unwrap()
        for use in (plain, client):
            with pytest.raises(PeerUnverifiedError, match="TLS was taken off"):
                use.send(b"secret")
        thread.join()


def test_a_source_that_returns_none() -> None:
    """None where a snapshot belongs must not look like a snapshot that was checked."""
    source = Source(CONTEXT)
    client = tls_of(source, allow("spiffe://a.test/other")).client_context()
    server = tls_of(CONTEXT).server_context()
    wire = Wire(client, server)
    with pytest.raises(PeerNotAllowedError):
        wire.handshake()
    source.value = None  # type: ignore[assignment]
    with pytest.raises(PeerNotAllowedError):
        wire.client.write(b"secret")


def test_a_leaf_of_a_version_that_cannot_be_read() -> None:
    """OpenSSL verifies what `cryptography` refuses to read: the peer is refused, not our own identity blamed."""
    peer = SimpleNamespace(id="spiffe://a.test/x", chain=(b"not a certificate", b"neither"))
    from spiffe_client._clock import SYSTEM_CLOCK

    with pytest.raises(PeerUnverifiedError, match="does not verify"):
        Proofs(SYSTEM_CLOCK).require(peer, HERE.x509_bundle)  # type: ignore[arg-type]


def test_many_peers_do_not_fill_the_memory() -> None:
    """What was proven is remembered for so many chains and no more."""
    from spiffe_client._clock import SYSTEM_CLOCK

    proofs = Proofs(SYSTEM_CLOCK, most=2)
    for n in range(4):
        svid = HERE.issue_x509_svid(f"spiffe://a.test/{n}", ttl=60)
        peer = SimpleNamespace(id=svid.id, chain=svid.ders)
        proofs.require(peer, HERE.x509_bundle)  # type: ignore[arg-type]
    assert 2 == len(proofs._windows)


def test_the_key_in_the_frames_of_an_exception() -> None:
    """Crash reporters print local variables: where OpenSSL refuses an SVID, no frame may hold its key."""

    def strict(context: ssl.SSLContext) -> None:
        context.set_ciphers("DEFAULT@SECLEVEL=5")

    facade = SpiffeTls(CONTEXT, member_of("a.test"), configure=strict, on_event=lambda _: None).client_context()
    with pytest.raises(IdentityUnavailableError) as e:
        facade.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO()).do_handshake()
    key = ME.key_pem().reveal()
    assert_no_secret(e.value, key.splitlines()[1], key.splitlines()[1].decode())


def test_a_server_without_an_identity_is_not_silent() -> None:
    """No stack reports it, so we do."""
    events = Events()
    source = Source(StaleError("gone", reason="withdrawn"))
    server = tls_of(source, on_event=events).server_context()
    with pytest.raises(IdentityUnavailableError):
        Wire(tls_of(CONTEXT).client_context(), server).handshake()
    assert [{"code": "identity_unavailable", "role": "server"}] == events.named("identity.unavailable")


def test_no_bundle_for_whom_is_allowed_says_whose_there_are() -> None:
    """Pasting another trust domain's peer is the commonest mistake of all."""
    client = SpiffeTls(CONTEXT, allow("spiffe://prod.example/orders"), on_event=lambda _: None).client_context()
    with pytest.raises(PeerError, match=r"allow\(spiffe://prod\.example/orders\).*held: a\.test"):
        client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO()).do_handshake()
