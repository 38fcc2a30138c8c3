"""Ways around the handshake's check, and that none of them is one."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spiffe_client.authorize import Authorizer, custom, member_of
from spiffe_client.errors import (
    PeerError,
    PeerNotAllowedError,
    PeerUnverifiedError,
    TlsConfigurationError,
)
from spiffe_client.tls import peer_of
from tests.support.pki import new_authority
from tests.support.tls_wire import ANYBODY, TLS12, Wire, context_of, plain_client, plain_server, tls_of

ROOT, STRANGER = new_authority("a.test"), new_authority("a.test")
ME = context_of(ROOT.leaf("spiffe://a.test/me"), ROOT)
GOOD, FORGED = ROOT.leaf("spiffe://a.test/peer"), STRANGER.leaf("spiffe://a.test/peer")
NOBODY = custom("nobody", lambda _: False)


def client_wire(peer: Any = GOOD, authorize: Authorizer = ANYBODY) -> Wire:
    return Wire(tls_of(ME, authorize).client_context(), plain_server(peer))


class TestSkippedHandshake:
    """OpenSSL would silently handshake inside of a read or a write."""

    @pytest.mark.parametrize("first", [lambda o: o.write(b"secret"), lambda o: o.read(1)], ids=["write", "read"])
    @pytest.mark.parametrize(("peer", "rule"), [(FORGED, ANYBODY), (GOOD, NOBODY)], ids=["forged", "not allowed"])
    def test_reads_and_writes_handshake_and_verify(
        self, first: Callable[[Any], Any], peer: Any, rule: Authorizer
    ) -> None:
        """A bad peer gets nothing and gives nothing."""
        wire = client_wire(peer, rule)
        with pytest.raises(PeerError):
            for _ in range(3):
                with contextlib.suppress(ssl.SSLWantReadError):
                    first(wire.client)
                with contextlib.suppress(ssl.SSLWantReadError):
                    wire.server.do_handshake()
        with pytest.raises(ssl.SSLError):
            wire.server.read()

    def test_a_good_peer_is_served(self) -> None:
        """It works like in the ssl module: http.server and gunicorn rely on it."""
        wire = client_wire()
        with pytest.raises(ssl.SSLWantReadError):
            wire.client.write(b"ping")
        with pytest.raises(ssl.SSLWantReadError):
            wire.server.do_handshake()
        assert 4 == wire.client.write(b"ping")
        assert b"ping" == wire.server.read()

    def test_closing_before_the_handshake(self) -> None:
        """`unwrap()` is no handshake: the ssl module's own error."""
        with pytest.raises(ssl.SSLError):
            client_wire().client.unwrap()


class TestRefusedForEver:
    @pytest.mark.parametrize(("peer", "rule"), [(FORGED, ANYBODY), (GOOD, NOBODY)], ids=["forged", "not allowed"])
    def test_every_operation(self, peer: Any, rule: Authorizer) -> None:
        """The same error again, whatever is tried and in whatever order."""
        wire = client_wire(peer, rule)
        with pytest.raises(PeerError) as first:
            wire.handshake()
        client = wire.client
        tries = [client.do_handshake, lambda: client.write(b"x"), lambda: client.read(1), client.unwrap]
        for again in (*tries, *reversed(tries)):
            with pytest.raises(PeerError) as e:
                again()
            assert type(first.value) is type(e.value)
            assert str(first.value) == str(e.value)
        assert client.spiffe_peer is None

    def test_an_interrupted_check_is_a_refusal(self) -> None:
        """Ctrl-C inside the authorizer must not leave a connection that is half believed."""

        def interrupt(_: object) -> bool:
            raise KeyboardInterrupt

        wire = client_wire(GOOD, custom("interrupted", interrupt))
        with pytest.raises(KeyboardInterrupt):
            wire.handshake()
        with pytest.raises(PeerUnverifiedError, match="broken off"):
            wire.client.write(b"x")

    @pytest.mark.parametrize("verdict", [1, "yes", object()])
    def test_only_true_allows(self, verdict: object) -> None:
        """A coroutine or a match object is no permission."""
        with pytest.raises(PeerNotAllowedError):
            client_wire(GOOD, custom("odd", lambda _: verdict)).handshake()

    def test_an_authorizer_that_fails_refuses(self) -> None:
        """And looks like a refusal to every TLS stack."""
        wire = client_wire(GOOD, custom("broken", lambda _: 1 / 0 == 0))
        with pytest.raises(PeerUnverifiedError, match=r"custom\(broken\) failed .* ZeroDivisionError") as e:
            wire.handshake()
        assert "authorizer_failed" == e.value.why
        assert isinstance(e.value.__cause__, ZeroDivisionError)


class TestContexts:
    def test_the_context_of_a_connection_is_the_one_in_the_users_hands(self) -> None:
        """The one with key and authorities is not handed out; a new connection is verified too."""
        facade = tls_of(ME).client_context()
        wire = Wire(facade, plain_server(GOOD))
        assert facade is wire.client.context
        wire.handshake()
        assert facade is wire.client.context
        with pytest.raises(PeerUnverifiedError):
            Wire(wire.client.context, plain_server(FORGED)).handshake()

    def test_it_cannot_be_replaced(self) -> None:
        """Neither before nor after the handshake."""
        wire = client_wire()
        for _ in range(2):
            with pytest.raises(TlsConfigurationError, match="cannot be changed"):
                wire.client.context = plain_client(None)
            wire.handshake()

    def test_it_cannot_be_replaced_by_an_sni_callback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The usual way to do that; a server's callback fails and so does the handshake."""
        failures: list[Any] = []
        monkeypatch.setattr("sys.unraisablehook", failures.append)
        facade = tls_of(ME).server_context()
        facade.sni_callback = lambda connection, *_: setattr(connection, "context", plain_server(GOOD))
        with pytest.raises(ssl.SSLError):
            Wire(plain_client(FORGED), facade).handshake()
        assert [TlsConfigurationError] == [f.exc_type for f in failures]

    def test_an_sni_callback_that_only_looks(self) -> None:
        """It works, and changes nothing about who is believed."""
        seen: list[Any] = []
        facade = tls_of(ME).server_context()
        facade.set_servername_callback(lambda _, name, context: seen.append((name, context)))
        Wire(plain_client(GOOD), facade).handshake().converse()
        with pytest.raises(PeerUnverifiedError):
            Wire(plain_client(FORGED), facade).handshake()
        assert [("peer.test", facade)] * 2 == seen

    def test_a_leaked_inner_context_makes_no_connections(self) -> None:
        """There is only a private way to it; it has the key, so it is closed as well."""
        wire = client_wire().handshake()
        inner = wire.client._sslobj.context
        assert inner is not wire.client.context
        with pytest.raises(TlsConfigurationError):
            inner.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
        a, b = socket.socketpair()
        with a, b, pytest.raises(TlsConfigurationError):
            inner.wrap_socket(a)

    @pytest.mark.parametrize("kind", ["sslobject_class", "sslsocket_class"])
    def test_replaced_classes_fail_closed(self, kind: str) -> None:
        """A context without our classes has neither key nor authorities."""
        tls = tls_of(ME)
        for facade, peer in ((tls.client_context(), plain_server(GOOD)), (tls.server_context(), plain_client(GOOD))):
            setattr(facade, kind, {"sslobject_class": ssl.SSLObject, "sslsocket_class": ssl.SSLSocket}[kind])
            if kind == "sslobject_class":
                sides = (facade, peer) if facade.protocol is ssl.PROTOCOL_TLS_CLIENT else (peer, facade)
                with pytest.raises(ssl.SSLError):
                    Wire(*sides).handshake()
            else:
                with connected(peer, server_side=facade.protocol is ssl.PROTOCOL_TLS_CLIENT) as raw:
                    with pytest.raises(ssl.SSLError):
                        facade.wrap_socket(raw, server_side=facade.protocol is ssl.PROTOCOL_TLS_SERVER)

    def test_roles_cannot_be_mixed_up(self) -> None:
        """A context is for one end; the ssl module sees to it."""
        tls = tls_of(ME)
        for facade, server_side in ((tls.client_context(), True), (tls.server_context(), False)):
            with pytest.raises(ssl.SSLError, match="Cannot create a"):
                facade.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=server_side)

    def test_private_wrapping_fails_closed(self) -> None:
        """Below the classes there is nothing to be believed with."""
        facade = tls_of(ME).client_context()
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = facade._wrap_bio(to_client, to_server, server_side=False)
        server = plain_server(GOOD).wrap_bio(to_server, to_client, server_side=True)
        for step in (client, server):
            with pytest.raises(ssl.SSLWantReadError):
                step.do_handshake()
        with pytest.raises(ssl.SSLCertVerificationError):
            client.do_handshake()


class TestSessions:
    def test_clients_resume_nothing(self) -> None:
        """A resumed session's server is verified by nobody, so a session cannot be passed in."""
        tls = tls_of(ME, minimum_version=TLS12)
        facade, server = tls.client_context(), plain_server(GOOD, version=TLS12)
        first = Wire(facade, server).handshake()
        assert first.client.session is not None
        with pytest.raises(ValueError, match="different SSLContext"):
            Wire(facade, server, session=first.client.session)
        with pytest.raises(TlsConfigurationError, match="resumes no session"):
            Wire(facade, server).client.session = first.client.session

    def test_clients_of_tls_13_ignore_tickets(self) -> None:
        """Whatever a server sends."""
        wire = client_wire().handshake().converse()
        assert not wire.client.session_reused


class TestPostHandshakeAuthentication:
    def test_is_refused(self) -> None:
        """The peer could become somebody else after it was verified."""
        wire = Wire(plain_client(GOOD), tls_of(ME).server_context()).handshake()
        with pytest.raises(TlsConfigurationError, match="post-handshake"):
            wire.server.verify_client_post_handshake()


@contextlib.contextmanager
def connected(context: ssl.SSLContext | None, *, server_side: bool = True) -> Iterator[socket.socket]:
    """A raw socket to an end that handshakes in a thread, or that merely listens."""
    near, far = socket.socketpair()
    near.settimeout(10)
    far.settimeout(10)
    heard = io.BytesIO()

    def run() -> None:
        with contextlib.suppress(OSError, ValueError):
            if context is None:
                heard.write(far.recv(1024))
                return
            with context.wrap_socket(far, server_side=server_side) as connection:
                connection.sendall(connection.recv(100))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        with near:
            yield near
    finally:
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)
        thread.join()
        far.close()


IN_THE_CLEAR: dict[str, Callable[[ssl.SSLSocket], Any]] = {
    "send": lambda s: s.send(b"secret"),
    "sendall": lambda s: s.sendall(b"secret"),
    "sendto": lambda s: s.sendto(b"secret", 0),
    "sendfile": lambda s: s.sendfile(io.BytesIO(b"secret")),
    "recv": lambda s: s.recv(1),
    "recv_into": lambda s: s.recv_into(bytearray(1)),
    "recvfrom": lambda s: s.recvfrom(1),
    "recvfrom_into": lambda s: s.recvfrom_into(bytearray(1)),
}


def sent_file(connection: ssl.SSLSocket) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"ping")
        file.seek(0)
        connection.sendfile(file)


#: What a program may begin with where nobody called do_handshake().
FIRST_USE: dict[str, Callable[[ssl.SSLSocket], Any]] = {
    "send": lambda s: s.send(b"ping"),
    "sendall": lambda s: s.sendall(b"ping"),
    "sendfile": sent_file,
    "write": lambda s: s.write(b"ping"),
    "recv": lambda s: s.recv(1),
    "recv_into": lambda s: s.recv_into(bytearray(1)),
    "read": lambda s: s.read(1),
    "makefile.read": lambda s: s.makefile("rb").read(1),
    "makefile.write": lambda s: s.makefile("wb", buffering=0).write(b"ping"),
}


class TestSockets:
    def test_without_a_handshake_on_connect(self) -> None:
        """The first read or write handshakes and verifies."""
        for peer, good in ((GOOD, True), (FORGED, False)):
            for name, use in FIRST_USE.items():
                with connected(plain_server(peer)) as raw:
                    facade = tls_of(ME).client_context()
                    with facade.wrap_socket(raw, do_handshake_on_connect=False) as connection:
                        assert connection.spiffe_peer is None
                        if not good:
                            with pytest.raises(PeerUnverifiedError):
                                use(connection)
                        elif "recv" not in name and "read" not in name:
                            use(connection)
                            assert b"ping" == connection.recv(4)
                            assert "spiffe://a.test/peer" == str(peer_of(connection).id)

    def test_each_method_was_thought_about(self) -> None:
        """A new Python with a new way to send or read fails this test, and is looked at."""
        gated = set(FIRST_USE) | set(IN_THE_CLEAR) | {"unwrap", "write", "read", "do_handshake"}
        refused = {"verify_client_post_handshake"}
        through_gated = {"makefile", "accept", "connect", "connect_ex"}
        never_over_tls = {"sendmsg", "recvmsg", "recvmsg_into", "sendmsg_afalg", "dup", "share"}
        harmless = {
            "bind", "cipher", "close", "compression", "context", "detach", "do_handshake_on_connect", "family",
            "fileno", "get_channel_binding", "get_inheritable", "get_unverified_chain", "get_verified_chain",
            "getblocking", "getpeercert", "getpeername", "getsockname", "getsockopt", "gettimeout", "ioctl",
            "listen", "pending", "proto", "selected_alpn_protocol", "selected_npn_protocol", "server_hostname",
            "server_side", "session", "session_reused", "set_inheritable", "setblocking", "setsockopt",
            "settimeout", "shared_ciphers", "shutdown", "spiffe_peer", "suppress_ragged_eofs", "timeout", "type",
            "version",
        }  # fmt: skip
        facade = tls_of(ME).client_context()
        for kind in (facade.sslobject_class, facade.sslsocket_class):
            public = {name for name in dir(kind) if not name.startswith("_")}
            assert set() == public - gated - refused - through_gated - never_over_tls - harmless

    @pytest.mark.parametrize("use", sorted(IN_THE_CLEAR))
    def test_no_falling_back_to_the_bare_socket(self, use: str) -> None:
        """After `shutdown()` the ssl module would go on in the clear."""
        with connected(None) as raw:
            facade = tls_of(ME).client_context()
            with facade.wrap_socket(raw, do_handshake_on_connect=False) as connection:
                connection.shutdown(socket.SHUT_RD)
                with pytest.raises(PeerUnverifiedError, match="in the clear"):
                    IN_THE_CLEAR[use](connection)
                with pytest.raises((AttributeError, ValueError)):  # the ssl module's own
                    connection.do_handshake()

    @pytest.mark.parametrize("use", sorted(IN_THE_CLEAR))
    def test_not_connected_yet(self, use: str) -> None:
        """Nobody can hear it: the operating system's own error."""
        with tls_of(ME).client_context().wrap_socket(socket.socket()) as connection:
            with pytest.raises((OSError, TypeError)) as e:  # TypeError: sendto(…, 0, None) of the ssl module
                IN_THE_CLEAR[use](connection)
            assert not isinstance(e.value, ssl.SSLError)

    def test_connecting_later(self) -> None:
        """A socket that is wrapped first and connected afterwards."""
        for method, peer in (("connect", GOOD), ("connect_ex", GOOD), ("connect", FORGED)):
            with serving(plain_server(peer)) as address:
                facade = tls_of(ME).client_context()
                with facade.wrap_socket(socket.socket()) as connection:
                    for early in (lambda: connection.send(b"x"), connection.do_handshake):
                        with pytest.raises(OSError) as e:
                            early()
                        assert not isinstance(e.value, ssl.SSLError)  # merely not connected
                    if peer is FORGED:
                        with pytest.raises(PeerUnverifiedError):
                            connection.connect(address)
                    else:
                        getattr(connection, method)(address)
                        connection.sendall(b"ping")
                        assert b"ping" == connection.recv(4)

    def test_a_changed_context_is_noticed_when_connecting_later(self) -> None:
        """The connection is made from the context as it is then."""
        with serving(plain_server(GOOD)) as address:
            facade = tls_of(ME).client_context()
            with facade.wrap_socket(socket.socket()) as connection:
                facade.verify_mode = ssl.CERT_NONE
                with pytest.raises(TlsConfigurationError):
                    connection.connect(address)

    def test_accepting_from_a_wrapped_listener(self) -> None:
        """The accepted socket is made from the context in the user's hands."""
        facade = tls_of(ME, member_of("a.test")).server_context()
        for peer in (GOOD, FORGED):
            with facade.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True) as listener:
                client = threading.Thread(target=call, args=(plain_client(peer), listener.getsockname()))
                client.start()
                if peer is GOOD:
                    with listener.accept()[0] as connection:
                        assert "spiffe://a.test/peer" == str(peer_of(connection).id)
                else:
                    with pytest.raises(PeerUnverifiedError):
                        listener.accept()
                client.join()


def call(context: ssl.SSLContext, address: tuple[str, int]) -> None:
    with (
        contextlib.suppress(OSError),
        context.wrap_socket(socket.create_connection(address, timeout=10)) as connection,
    ):
        connection.recv(1)


@contextlib.contextmanager
def serving(context: ssl.SSLContext) -> Iterator[tuple[str, int]]:
    """An echo of one connection."""

    def run() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as raw:
            with context.wrap_socket(raw, server_side=True) as connection:
                connection.sendall(connection.recv(100))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()
        thread.join()
