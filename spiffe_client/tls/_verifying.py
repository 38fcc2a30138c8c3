"""The ssl objects and sockets that SPIFFE contexts make: the standard ones behind a gate.

`SSLContext.sslobject_class` and `.sslsocket_class` are the documented way to have one's own. When
the handshake begins they take the context of the current identity and bundles (what servers do in
an SNI callback), when OpenSSL is done they judge the peer, all within `do_handshake()`. OpenSSL
would also handshake inside of a read or write; the gate sees to it that this is no way around.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from spiffe_client.errors import PeerUnverifiedError, TlsConfigurationError
from spiffe_client.tls._guard import Guard, Side
from spiffe_client.tls._peer import Peer

if TYPE_CHECKING:
    from typing_extensions import Buffer

    _Base = ssl.SSLObject
else:
    _Base = object

__all__ = ["arm"]


# Not by super(): these are called several times for each request, and it makes an object each time.
_object_read, _object_write = ssl.SSLObject.read, ssl.SSLObject.write
_socket_read, _socket_write = ssl.SSLSocket.read, ssl.SSLSocket.write


class _Verifying(_Base):
    _side: ClassVar[Side]
    _guard: Guard

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls, *args, **kwargs)
        self._guard = Guard(cls._side)
        return self

    @property
    def spiffe_peer(self) -> Peer | None:
        """Who is on the other end; None unless verified, allowed and still trusted."""
        return self._guard.peer

    @property
    def context(self) -> ssl.SSLContext:
        """The context this was made from; the one that handshakes is nobody else's business."""
        return self._guard.facade or super().context

    @context.setter
    def context(self, _: ssl.SSLContext) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # a property
        raise TlsConfigurationError("the context of a SPIFFE TLS connection cannot be changed")

    @property
    def session(self) -> ssl.SSLSession | None:
        """As in the `ssl` module."""
        return super().session

    @session.setter
    def session(self, _: ssl.SSLSession | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # as above
        raise TlsConfigurationError(
            "a SPIFFE TLS client resumes no session: its server would not be verified"
        )

    def do_handshake(self, *args: Any) -> None:
        """Handshake, and return if the peer is verified and allowed.

        Raises:
            PeerError: The peer is refused.
            IdentityUnavailableError: This end has no identity it may use.
            TlsConfigurationError: Somebody changed the context.
            ssl.SSLError: The handshake failed otherwise, or has to go on.
        """
        guard = self._guard
        guard.require_not_refused()
        if guard.facade is None and _has_tls(self):
            facade = super().context
            _set_context(self, guard.inner_context(facade))
            guard.facade = facade
        try:
            super().do_handshake(*args)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            guard.handshake_failed(error)
            raise
        guard.handshake_done(self)

    def unwrap(self) -> Any:
        """As in the `ssl` module, unless the peer was refused."""
        self._guard.require_not_refused()
        return super().unwrap()

    def verify_client_post_handshake(self) -> NoReturn:
        """Refused: the peer could become somebody else after it was verified."""
        raise TlsConfigurationError("post-handshake authentication is refused on SPIFFE TLS connections")


def _has_tls(connection: object) -> bool:
    """Whether there is a TLS layer: not on a socket that listens, or is not connected yet."""
    return getattr(connection, "_sslobj", None) is not None


def _set_context(connection: ssl.SSLObject, context: ssl.SSLContext) -> None:
    base = ssl.SSLSocket if isinstance(connection, ssl.SSLSocket) else ssl.SSLObject
    vars(base)["context"].fset(connection, context)


class _VerifyingObject(_Verifying, ssl.SSLObject):  # pyright: ignore[reportIncompatibleVariableOverride]  # as above
    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the ssl module's name
        """As in the `ssl` module, from a verified peer only."""
        self._guard.before_io(self)
        return _object_read(self, len, buffer)

    def write(self, data: Buffer) -> int:
        """As in the `ssl` module, to a verified peer only."""
        self._guard.before_io(self)
        return _object_write(self, data)


class _VerifyingSocket(_Verifying, ssl.SSLSocket):  # type: ignore[override]  # plain attributes of a socket
    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the ssl module's name
        """As in the `ssl` module, from a verified peer only."""
        self._guard.before_io(self)
        received = _socket_read(self, len, buffer)
        # It may have waited for long: what came after trust was withdrawn is not handed on.
        self._guard.before_io(self)
        return received

    def write(self, data: Buffer) -> int:
        """As in the `ssl` module, to a verified peer only."""
        self._guard.before_io(self)
        return _socket_write(self, data)

    def send(self, data: Buffer, flags: int = 0) -> int:
        """As in the `ssl` module, to a verified peer only."""
        self._gate()
        return super().send(data, flags)

    def sendfile(self, *args: Any, **kwargs: Any) -> int:
        """As in the `ssl` module, to a verified peer only."""
        self._gate()  # some Python will leave this to OpenSSL and the kernel
        return super().sendfile(*args, **kwargs)

    def _gate(self) -> None:
        if _has_tls(self):
            self._guard.before_io(self)
        else:
            self._gate_plain()

    def shutdown(self, how: int) -> None:
        """As in the `ssl` module, which takes TLS off here: nothing is sent or read afterwards."""
        super().shutdown(how)
        self._guard.tls_removed()

    def unwrap(self) -> Any:
        """As in the `ssl` module; nothing is sent or read on this socket afterwards."""
        plain = super().unwrap()
        self._guard.tls_removed()
        return plain

    # Where there is a TLS layer, these come down to read() and send(). Where it was taken off by
    # shutdown() or unwrap(), they would go on in the clear.

    def _gate_plain(self) -> None:
        if _has_tls(self):
            return
        self._guard.require_not_refused()
        try:
            self.getpeername()
        except OSError:
            return  # not connected: nobody hears it
        raise PeerUnverifiedError("nothing is sent or read in the clear before the peer is verified")

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """As in the `ssl` module, to a verified peer only."""
        self._gate_plain()
        super().sendall(data, flags)

    def sendto(self, data: Buffer, flags_or_addr: Any, addr: Any = None) -> int:
        """As in the `ssl` module, to a verified peer only."""
        self._gate_plain()
        return super().sendto(data, flags_or_addr, addr)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """As in the `ssl` module, from a verified peer only."""
        self._gate_plain()
        return super().recv(buflen, flags)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """As in the `ssl` module, from a verified peer only."""
        self._gate_plain()
        return super().recv_into(buffer, nbytes, flags)

    def recvfrom(self, buflen: int = 1024, flags: int = 0) -> tuple[bytes, Any]:
        """As in the `ssl` module, from a verified peer only."""
        self._gate_plain()
        return super().recvfrom(buflen, flags)

    def recvfrom_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> tuple[int, Any]:
        """As in the `ssl` module, from a verified peer only."""
        self._gate_plain()
        return super().recvfrom_into(buffer, nbytes, flags)


def arm(facade: ssl.SSLContext, side: Side) -> None:
    """Have a context make verifying objects and sockets only.

    Args:
        facade: The context that users hold.
        side: What its connections share.
    """
    attributes = {"_side": side, "__module__": __name__}
    facade.sslobject_class = type("SpiffeSSLObject", (_VerifyingObject,), attributes)
    facade.sslsocket_class = type("SpiffeSSLSocket", (_VerifyingSocket,), attributes)
