"""What every context of ours is set to, and how it is kept that way.

A context that users hold is a facade: what is set on it later would reach no handshake, or would
loosen what we promise. Methods that do so are replaced by ones that raise. Properties cannot be
replaced on a plain `SSLContext`, so they are looked at again when a handshake begins.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from spiffe_client.errors import TlsConfigurationError

__all__ = ["Configure", "Original", "Settings"]

#: Takes a context and sets ciphers, groups, a key log … on it.
Configure = Callable[[ssl.SSLContext], None]

#: No tickets and no renegotiation: both let a connection go on without the peer being verified.
_OPTIONS = ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
#: An intermediate in a bundle is an anchor. No VERIFY_X509_STRICT: it wants of certificates what
#: the X509-SVID standard does not.
_FLAGS = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN

#: What would bring in trust or identity from elsewhere; refused everywhere.
_FOREIGN = (
    "load_cert_chain",
    "load_default_certs",
    "load_verify_locations",
    "set_default_verify_paths",
    "set_psk_client_callback",  # 3.13: a shared key proves no SPIFFE ID
    "set_psk_server_callback",
)
#: What does nothing on the context that users hold; belongs into `configure=`.
_IDLE = ("load_dh_params", "set_ciphers", "set_npn_protocols")


def _refusing(name: str, why: str) -> Callable[..., NoReturn]:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise TlsConfigurationError(f"{name}() is refused on a SPIFFE TLS context: {why}")

    return refuse


def _refuse(context: ssl.SSLContext, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if hasattr(context, name):
            setattr(context, name, _refusing(name, why))


@dataclass(frozen=True, slots=True)
class Settings:
    """How contexts are set up.

    Attributes:
        minimum_version: TLS 1.2 or 1.3.
        configure: Applied to each context after our settings, which are then made sure of again.
    """

    minimum_version: ssl.TLSVersion
    configure: Configure | None

    def __post_init__(self) -> None:
        if self.minimum_version not in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            raise TlsConfigurationError(
                f"minimum_version must be TLS 1.2 or 1.3, got {self.minimum_version!r}"
            )

    def new_context(self, *, server: bool) -> ssl.SSLContext:
        """Make a context that verifies peers and has neither a key nor an authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # an ID instead of a name; may be asked for on top of it
        self._harden(context, server=server)
        if self.configure is not None:
            foreign = "identity and trust come from SPIFFE alone"
            _refuse(context, _FOREIGN, foreign)
            self.configure(context)
            for name in _FOREIGN:
                context.__dict__.pop(name, None)
            self._harden(context, server=server)
        return context

    def new_facade(self, *, server: bool) -> ssl.SSLContext:
        """Make the context that users hold."""
        context = self.new_context(server=server)
        _refuse(context, _FOREIGN, "identity and trust come from SPIFFE alone")
        _refuse(context, _IDLE, "it would have no effect; pass configure= and set it there")
        return context

    def _harden(self, context: ssl.SSLContext, *, server: bool) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags = (context.verify_flags | _FLAGS) & ~ssl.VERIFY_ALLOW_PROXY_CERTS
        context.options |= _OPTIONS
        context.minimum_version = max(self.minimum_version, context.minimum_version)
        if server:
            context.num_tickets = 0
            context.post_handshake_auth = False


@dataclass(frozen=True, slots=True)
class Original:
    """What the properties of the context that users hold were when it was made."""

    server: bool
    verify_flags: ssl.VerifyFlags
    minimum_version: ssl.TLSVersion
    keylog_filename: str | None

    @classmethod
    def of(cls, context: ssl.SSLContext, *, server: bool) -> Original:
        """Take note of a context that was just made."""
        return cls(server, context.verify_flags, context.minimum_version, context.keylog_filename)

    def require(self, context: ssl.SSLContext) -> None:
        """Refuse a context of which a property was set that is ignored or loosens verification.

        What takes effect and tightens (a higher minimum version, a host name check on top) is fine.

        Raises:
            TlsConfigurationError: Names the property.
        """
        wrong = (
            ("verify_mode", context.verify_mode is not ssl.CERT_REQUIRED),
            ("verify_flags", context.verify_flags != self.verify_flags),
            ("options", context.options & _OPTIONS != _OPTIONS),
            ("minimum_version", context.minimum_version < self.minimum_version),
            ("keylog_filename", context.keylog_filename != self.keylog_filename),
            ("num_tickets", self.server and context.num_tickets != 0),
            ("post_handshake_auth", self.server and context.post_handshake_auth),
        )
        for name, changed in wrong:
            if changed:
                raise TlsConfigurationError(
                    f"{name} was changed on a SPIFFE TLS context, which would have no effect or loosen "
                    f"verification; leave it, or set what you need in configure="
                )
