"""What every context of ours is set to, and how it is kept that way.

A context that users hold is a facade: what is set on it later would reach no handshake, or would
loosen what we promise. Methods that do so are replaced by ones that raise. Properties cannot be
replaced on a plain `SSLContext`, so they are looked at again when a handshake begins.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict

from spiffe_client.errors import TlsConfigurationError

if TYPE_CHECKING:
    from spiffe_client.ids import TrustDomain

    class TlsOptions(TypedDict, total=False):
        """What `Workload.tls` and `Workload.server_tls` take beside `peer`; see `SpiffeTls`."""

        trust_domains: Collection[TrustDomain | str] | None
        minimum_version: ssl.TLSVersion
        alpn: Sequence[str]
        configure: Configure | None


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


def _properties(context: ssl.SSLContext) -> dict[str, Any]:
    """Return what `Original` looks at.

    As `_ssl` has it, without the enum that `ssl` makes of each: this is done in every handshake.
    """
    plain: Any = super(ssl.SSLContext, context)
    return {
        "verify_mode": plain.verify_mode,
        "verify_flags": plain.verify_flags,
        "options": plain.options,
        "minimum_version": plain.minimum_version,
        "keylog_filename": plain.keylog_filename,
        "num_tickets": plain.num_tickets,
        "post_handshake_auth": plain.post_handshake_auth,
    }


class Original:
    """What the properties of the context that users hold were when it was made.

    Args:
        context: Just made.
        server: Its role.
    """

    __slots__ = ("_properties", "_server")

    def __init__(self, context: ssl.SSLContext, *, server: bool) -> None:
        self._properties = _properties(context)
        self._server = server

    def require(self, context: ssl.SSLContext) -> None:
        """Refuse a context of which a property was set that is ignored or loosens verification.

        What takes effect and tightens (a higher minimum version, a host name check on top) is fine.

        Raises:
            TlsConfigurationError: Names the property.
        """
        now = _properties(context)
        if now == self._properties:
            return
        for name, was in self._properties.items():
            if now[name] != was and not self._harmless(name, context, was):
                raise TlsConfigurationError(
                    f"{name} was changed on a SPIFFE TLS context, which would have no effect or loosen "
                    f"verification; leave it, or set what you need in configure="
                )

    def _harmless(self, name: str, context: ssl.SSLContext, was: Any) -> bool:
        if name == "options":
            return context.options & _OPTIONS == _OPTIONS
        if name == "minimum_version":
            return context.minimum_version >= ssl.TLSVersion(was)
        # http.client turns this on; it makes a client show again what it has shown before.
        return name == "post_handshake_auth" and not self._server
