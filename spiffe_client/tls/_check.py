"""The peer check: what is asked of a peer beyond OpenSSL's verification, before any byte of it counts."""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import TypeAlias

from spiffe_client._clock import Clock
from spiffe_client.authorize import Authorizer
from spiffe_client.bundle import parse_certificate
from spiffe_client.errors import PeerError, PeerUnverifiedError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid import Role, check_leaf
from spiffe_client.tls._peer import Peer, verify_anchor
from spiffe_client.tls._proof import Proofs
from spiffe_client.tls._sessions import Sessions
from spiffe_client.workload_api import X509Context, X509ContextSource

__all__ = ["Connection", "PeerCheck", "verified_chain"]

#: What a TLS connection is to Python: over buffers or over a socket.
Connection: TypeAlias = ssl.SSLObject | ssl.SSLSocket

_DER = 2  # _ssl.ENCODING_DER


def verified_chain(connection: Connection) -> tuple[bytes, ...]:
    """Return the chain that OpenSSL has verified, DER, leaf first, anchor last.

    Not the chain that was sent: a forged leaf sent along with an authority's certificate would
    look anchored. Public since Python 3.13; 3.11 and 3.12 have the same call in a private place.

    Returns:
        Empty where OpenSSL has verified nothing, or where this Python does not tell.
    """
    public = getattr(connection, "get_verified_chain", None)
    if public is not None:
        return tuple(public())
    private = getattr(getattr(connection, "_sslobj", None), "get_verified_chain", None)
    if private is None:
        return ()
    return tuple(certificate.public_bytes(_DER) for certificate in private() or ())


@lru_cache(maxsize=1024)
def _read_peer(chain: tuple[bytes, ...], role: Role) -> Peer:
    """Apply the leaf rules; the same for the same bytes."""
    try:
        leaf = parse_certificate(chain[0])
        return Peer(check_leaf(leaf, role=role), leaf.not_after, chain)
    except Exception as error:  # border: whatever reading a stranger's bytes comes to
        raise PeerUnverifiedError(
            f"the peer's certificate is no X509-SVID: {error}", why="not_an_svid"
        ) from error


class PeerCheck:
    """Decides about peers of one rule.

    Args:
        source: Whose current bundles count: an authority that was withdrawn while a handshake
            went on vouches for nobody.
        authorize: Asked last, about a proven identity.
        clock: To judge by our own rules what is valid now.
        tls12: Whether servers speak TLS 1.2 too, and so may meet resumed sessions.
    """

    def __init__(
        self, source: X509ContextSource, authorize: Authorizer, clock: Clock, *, tls12: bool
    ) -> None:
        self._source = source
        self._authorize = authorize
        self._proofs = Proofs(clock)
        self._tls12 = tls12
        self._sessions = Sessions()

    def check(self, connection: Connection, *, server: bool, resumed: bool) -> tuple[Peer, X509Context]:
        """Judge the peer of a connection whose handshake OpenSSL has just finished.

        Args:
            connection: It.
            server: Whether this end is the server.
            resumed: Whether OpenSSL went on with a former session and has verified nothing.

        Returns:
            The peer, and the snapshot by whose bundles it was verified.

        Raises:
            PeerError: It must not be talked to.
            SourceError: There are no bundles to verify it by.
        """
        chain = self._resumed(connection, server=server) if resumed else verified_chain(connection)
        if len(chain) < 2:
            raise PeerUnverifiedError("the TLS library reports no verified chain for the peer")
        peer = _read_peer(chain, "client" if server else "server")
        live = self._source.x509_context
        verify_anchor(peer, live.bundles)
        self._proofs.require(peer, live.bundles[peer.trust_domain])
        self._ask(peer.id)
        if self._tls12 and server and connection.version() == "TLSv1.2":
            self._sessions.remember(chain)
        return peer, live

    @property
    def rule(self) -> str:
        """The authorizer in words."""
        return self._authorize.rule

    def _ask(self, peer: SpiffeId) -> None:
        try:
            self._authorize(peer)
        except PeerError:
            raise
        except Exception as error:  # border: a rule that blows up must be a refusal, and look like one
            raise PeerUnverifiedError(
                f"the authorizer {self._authorize.rule} failed on {peer}: {type(error).__name__}",
                peer=peer,
                why="authorizer_failed",
            ) from error

    def _resumed(self, connection: Connection, *, server: bool) -> tuple[bytes, ...]:
        """Return how the peer was verified when its session began, if that still holds."""
        if not server or connection.version() != "TLSv1.2":
            raise PeerUnverifiedError("a session was resumed where none may be", why="session")
        chain = self._sessions.recall(connection.getpeercert(binary_form=True))
        if not chain:
            raise PeerUnverifiedError("the peer of a resumed session is not known any more", why="session")
        return chain
