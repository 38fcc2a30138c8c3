"""SPIFFE TLS as a plain `ssl.SSLContext`, for every client and server that takes one.

The exact type matters: anyio runs the methods of a subclass in worker threads. Such a context has
neither a key nor an authority, so whatever goes around its verifying classes fails closed.
"""

from __future__ import annotations

import ssl
import threading
import weakref
from collections.abc import Collection, Iterable, Sequence

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.audit import EventSink
from spiffe_client.authorize import Authorizer
from spiffe_client.errors import TlsConfigurationError
from spiffe_client.ids import TrustDomain
from spiffe_client.tls._check import PeerCheck
from spiffe_client.tls._generation import Key, Recipe
from spiffe_client.tls._generations import Generations
from spiffe_client.tls._guard import Side
from spiffe_client.tls._settings import Configure, Original, Settings
from spiffe_client.tls._stats import Outcomes, TlsStats
from spiffe_client.tls._verifying import arm
from spiffe_client.workload_api import X509Context, X509ContextSource, any_thread

__all__ = ["SpiffeTls", "client_context", "server_context"]


class SpiffeTls:
    """Makes contexts whose connections are authenticated by SPIFFE, both ways.

    Each handshake uses the source's snapshot of that moment, so identities and bundles change
    without anybody touching a context. When a snapshot withdraws the authority of a connected
    peer, the connection ends with its next read or write.

    Args:
        source: Identity and bundles; a fixed `X509Context` is one too.
        authorize: Who may be on the other end. There is no default.
        trust_domains: Whose bundles are loaded; by default those the authorizer names, or all
            bundles where it cannot name any.
        minimum_version: TLS 1.3, or 1.2 for peers that cannot do better.
        alpn: Protocols to negotiate, best first. Libraries set their own on the context.
        configure: Sets what else is wanted (ciphers, groups, a key log) on each context that is
            made. It cannot loosen verification.
        on_event: Told `peer.refused`, `connection.retired` and `bundle.refused`; None logs them.
        clock: Tells the time.

    Raises:
        TypeError: `authorize` is no rule.
        InvalidIdError: One of `trust_domains` is not a trust domain.
        TlsConfigurationError: `minimum_version` is older than TLS 1.2, `trust_domains` is empty, or
            `alpn` holds what is no protocol name.
    """

    def __init__(
        self,
        source: X509ContextSource,
        authorize: Authorizer,
        *,
        trust_domains: Collection[TrustDomain | str] | None = None,
        minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        alpn: Sequence[str] = (),
        configure: Configure | None = None,
        on_event: EventSink | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        authorize = Authorizer.parse(authorize)
        only = authorize.trust_domains if trust_domains is None else _domains(trust_domains)
        self._source = source
        self._trust_domains = only
        self._alpn = _protocols(alpn)
        self._settings = Settings(minimum_version, configure)
        self._outcomes = Outcomes(on_event)
        tls12 = minimum_version == ssl.TLSVersion.TLSv1_2
        self._check = PeerCheck(source, authorize, clock, tls12=tls12)
        self._generations = Generations(source, Recipe(self._settings, only, self._outcomes), clock)
        self._sides: weakref.WeakSet[Side] = weakref.WeakSet()
        self._lock = threading.Lock()

    @property
    def source(self) -> X509ContextSource:
        """Where identity and bundles come from."""
        return self._source

    @property
    def trust_domains(self) -> frozenset[TrustDomain] | None:
        """The only domains a permitted peer can come from, or None where the rule cannot say."""
        return self._trust_domains

    @property
    def stats(self) -> TlsStats:
        """What became of handshakes and connections so far."""
        return self._outcomes.stats

    def client_context(self) -> ssl.SSLContext:
        """Make a context for connecting.

        Each call makes a new one; they share generations, so one for each peer rule is enough.
        """
        return self._new_facade(server=False)

    def server_context(self) -> ssl.SSLContext:
        """Make a context for accepting connections, from clients with an X509-SVID only."""
        return self._new_facade(server=True)

    def prepare(self, context: X509Context) -> None:
        """Build what handshakes will need once this snapshot is current.

        For `X509Source.before_publish`; runs in any thread.

        Raises:
            IdentityUnavailableError: OpenSSL refuses the SVID: the snapshot must not be published.
        """
        with self._lock:
            keys = {side.key for side in self._sides}
        self._generations.prepare(context, keys)

    @any_thread
    def release(self) -> None:
        """Let go of the keys of former snapshots now, not at the next handshake.

        For `X509Source.after_publish`.
        """
        self._generations.release()

    def _new_facade(self, *, server: bool) -> ssl.SSLContext:
        facade = self._settings.new_facade(server=server)
        if self._alpn:
            facade.set_alpn_protocols(list(self._alpn))
        side = Side(
            self._source,
            self._generations,
            self._check,
            self._outcomes,
            Original(facade, server=server),
            Key(server, self._alpn if server else ()),
        )
        if server:
            _follow_alpn(facade, side)
        arm(facade, side)
        with self._lock:  # an update may be looking at them in its thread
            self._sides.add(side)
        return facade


def _domains(trust_domains: Collection[TrustDomain | str]) -> frozenset[TrustDomain]:
    if isinstance(trust_domains, str) or not trust_domains:
        raise TlsConfigurationError(
            f"trust_domains= must be a collection of at least one trust domain, got {trust_domains!r}"
        )
    return frozenset(map(TrustDomain.parse, trust_domains))


def _protocols(alpn: Sequence[str]) -> tuple[str, ...]:
    protocols = () if isinstance(alpn, str) else tuple(alpn)
    if not all(p.isascii() and 1 <= len(p) <= 255 for p in protocols) or isinstance(alpn, str):
        raise TlsConfigurationError(
            f"alpn= must be a sequence of ASCII names of 1 to 255 characters, got {alpn!r}"
        )
    return protocols


def _follow_alpn(facade: ssl.SSLContext, side: Side) -> None:
    """Have a server's ALPN list reach the contexts that handshake, where OpenSSL looks for it."""
    set_on_facade = facade.set_alpn_protocols

    def set_alpn_protocols(alpn_protocols: Iterable[str]) -> None:
        protocols = tuple(alpn_protocols)
        set_on_facade(list(protocols))  # raises if they are malformed
        side.key = Key(server=True, alpn=protocols)

    setattr(facade, "set_alpn_protocols", set_alpn_protocols)  # noqa: B010 - a method, to type checkers


def client_context(
    source: X509ContextSource,
    authorize: Authorizer,
    *,
    trust_domains: Collection[TrustDomain | str] | None = None,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    alpn: Sequence[str] = (),
    configure: Configure | None = None,
    on_event: EventSink | None = None,
) -> ssl.SSLContext:
    """Make a context for connecting to peers that a rule allows; see `SpiffeTls`."""
    return SpiffeTls(
        source,
        authorize,
        trust_domains=trust_domains,
        minimum_version=minimum_version,
        alpn=alpn,
        configure=configure,
        on_event=on_event,
    ).client_context()


def server_context(
    source: X509ContextSource,
    authorize: Authorizer,
    *,
    trust_domains: Collection[TrustDomain | str] | None = None,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    alpn: Sequence[str] = (),
    configure: Configure | None = None,
    on_event: EventSink | None = None,
) -> ssl.SSLContext:
    """Make a context for accepting connections from peers that a rule allows; see `SpiffeTls`."""
    return SpiffeTls(
        source,
        authorize,
        trust_domains=trust_domains,
        minimum_version=minimum_version,
        alpn=alpn,
        configure=configure,
        on_event=on_event,
    ).server_context()
