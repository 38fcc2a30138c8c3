"""The contexts that handshakes really use: built once for each `X509Context`, never changed after.

Changing a context while it handshakes crashes the interpreter, so a new identity or bundle means
new contexts. Building one takes about a millisecond and more with many authorities, so it is done
before the new identity is published, off the event loop, and never in a handshake if it can be
helped.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from spiffe_client.errors import TlsConfigurationError
from spiffe_client.ids import TrustDomain
from spiffe_client.tls._authorities import LeftOut, select_authorities
from spiffe_client.tls._material import load_svid
from spiffe_client.tls._settings import Settings
from spiffe_client.tls._stats import Outcomes
from spiffe_client.workload_api import X509Context

__all__ = ["Generation", "Inner", "Key", "Recipe"]


class Key(NamedTuple):
    """What contexts of one generation differ in.

    Attributes:
        server: The role.
        alpn: What a server negotiates; a client's list is taken from the context in the user's
            hands when a connection is made.
    """

    server: bool
    alpn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inner:
    """A context that is ready to handshake.

    Attributes:
        context: Holds the SVID and the authorities.
        trusts: How many authorities it holds; with none, no peer can be verified.
        bundles: Whose bundles there are, for messages.
    """

    context: ssl.SSLContext
    trusts: int
    bundles: tuple[TrustDomain, ...]


def _no_connection(*_: object, **__: object) -> NoReturn:
    raise TlsConfigurationError("this context only lends itself to handshakes of its SPIFFE context")


# Should an inner context ever leak, it makes no connections that nobody guards.
_NoObject = type("NoSSLObject", (ssl.SSLObject,), {"__new__": _no_connection})
_NoSocket = type("NoSSLSocket", (ssl.SSLSocket,), {"__new__": _no_connection})


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to build a context, whatever the generation.

    Attributes:
        settings: What every context is set to.
        trust_domains: Whose authorities are loaded; None for all.
        outcomes: Told what was left out.
    """

    settings: Settings
    trust_domains: Collection[TrustDomain] | None
    outcomes: Outcomes

    def build(self, context: X509Context, key: Key) -> Inner:
        """Build one context.

        Raises:
            IdentityUnavailableError: The SVID cannot be loaded.
        """
        inner = self.settings.new_context(server=key.server)
        if key.alpn:
            inner.set_alpn_protocols(list(key.alpn))
        load_svid(inner, context.svid)
        selection = select_authorities(context, self.trust_domains)
        for authority in (*selection.left_out, *_trust(inner, selection.owners)):
            self.outcomes.left_out(authority)
        inner.sslobject_class, inner.sslsocket_class = _NoObject, _NoSocket
        self.outcomes.count("generations")
        return Inner(inner, inner.cert_store_stats()["x509"], tuple(sorted(context.bundles)))


def _trust(context: ssl.SSLContext, owners: Mapping[bytes, TrustDomain]) -> list[LeftOut]:
    """Load authorities, and return those that OpenSSL cannot read: each costs only itself."""
    if not owners:
        return []
    try:
        context.load_verify_locations(cadata=b"".join(owners))
    except ssl.SSLError:
        return [LeftOut(owner, None) for der, owner in owners.items() if not _trust_one(context, der)]
    return []


def _trust_one(context: ssl.SSLContext, der: bytes) -> bool:
    try:
        context.load_verify_locations(cadata=der)
    except ssl.SSLError:
        return False
    return True


class Generation:
    """The contexts of one `X509Context`.

    Args:
        context: Identity and bundles.
        recipe: How to build.
    """

    __slots__ = ("_inners", "_lock", "_recipe", "context", "expires_at")

    def __init__(self, context: X509Context, recipe: Recipe) -> None:
        self.context = context
        self.expires_at = context.svid.not_after
        self._recipe = recipe
        self._inners: dict[Key, Inner] = {}
        self._lock = threading.Lock()

    def inner(self, key: Key) -> Inner:
        """Return the context for a role, building it if that was not done ahead.

        Raises:
            IdentityUnavailableError: The SVID cannot be loaded.
        """
        inner = self._inners.get(key)
        if inner is None:
            with self._lock:  # one thread builds, the others wait for it
                inner = self._inners.get(key)
                if inner is None:
                    inner = self._inners[key] = self._recipe.build(self.context, key)
        return inner
