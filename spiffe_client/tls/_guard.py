"""What a connection may do, by whether its peer was verified and is still trusted.

    new ──handshake──▶ verified ──trust or own identity withdrawn──▶ refused
     └──────────────── peer refused ───────────────────────────────────┘

One comparison for each read and write: is the source's snapshot the one this peer was last judged
by? A new connection was judged by none and a refused one never is again, so it covers all three.
Sources that can say so at once are asked just that (`holds`); where they say no, and of all other
sources, the snapshot is looked at.
"""

from __future__ import annotations

import copy
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from spiffe_client.errors import (
    IdentityUnavailableError,
    PeerError,
    PeerUnverifiedError,
    SourceClosedError,
    StaleError,
)
from spiffe_client.tls._check import Connection, PeerCheck
from spiffe_client.tls._generation import Key
from spiffe_client.tls._generations import Generations
from spiffe_client.tls._peer import Peer, verify_still_trusted
from spiffe_client.tls._settings import Original
from spiffe_client.tls._stats import Outcomes
from spiffe_client.workload_api import X509Context, X509ContextSource

__all__ = ["Guard", "Side"]

_Refusal: TypeAlias = PeerError | IdentityUnavailableError

#: Never raised itself, only its copies.
_INTERRUPTED = PeerUnverifiedError("verifying the peer was broken off", why="interrupted")


@dataclass(slots=True, weakref_slot=True, eq=False)
class Side:
    """What the connections of one context in the user's hands share.

    Attributes:
        source: Identity and bundles.
        generations: The contexts that handshakes use.
        check: Judges peers.
        outcomes: Is told of them.
        original: What that context was set to when it was made.
        key: Role and ALPN list; the list of a server changes when its user sets one.
        holds: The source's `holds`, if it has one.
    """

    source: X509ContextSource
    generations: Generations
    check: PeerCheck
    outcomes: Outcomes
    original: Original
    key: Key
    holds: Callable[[object], bool] = field(init=False)

    def __post_init__(self) -> None:
        self.holds = getattr(self.source, "holds", _unsaid)


def _unsaid(_: object) -> bool:
    return False


_NOT_CHECKED = object()


class Guard:
    """The state of one connection.

    Args:
        side: Which end it is, and what it needs to judge the other.

    Attributes:
        peer: Who is on the other end; None until verified, and when it is trusted no more.
        facade: The context it was made from, once that was replaced.
    """

    __slots__ = ("_checked", "_holds", "_refusal", "_side", "_source", "facade", "peer")

    def __init__(self, side: Side) -> None:
        self.peer: Peer | None = None
        self.facade: ssl.SSLContext | None = None
        self._side = side
        self._source, self._holds = side.source, side.holds
        # Not None: a source that wrongly returns None must not look like one that was checked.
        self._checked: object = _NOT_CHECKED
        self._refusal: _Refusal | None = None

    def before_io(self, connection: Connection) -> None:
        """Return if bytes may flow, handshaking first if that has not been done.

        Raises:
            PeerError: The peer was refused, now or before.
            IdentityUnavailableError: This end must not use its identity any more.
        """
        if self._holds(self._checked):
            return
        try:
            live = self._source.x509_context
        except Exception as error:  # noqa: BLE001 - border: whatever a source raises, no byte flows for it
            self._without_source(connection, error)
            return
        if live is not self._checked:
            self._admit(connection, live)

    def inner_context(self, facade: ssl.SSLContext) -> ssl.SSLContext:
        """Return the context that a handshake which begins now must use.

        Args:
            facade: The one that the connection was made from.

        Raises:
            TlsConfigurationError: Somebody changed that one.
            IdentityUnavailableError: This end has no identity it may use.
            PeerUnverifiedError: There is no authority to verify any peer by.
        """
        self._side.original.require(facade)
        try:
            inner = self._side.generations.current(self._side.key)
        except Exception as error:  # border: as above
            raise self._unavailable(error) from error
        if not inner.trusts:
            held = ", ".join(map(str, inner.bundles)) or "none"
            raise self._counted(
                PeerUnverifiedError(
                    f"no peer that {self._side.check.rule} allows can be verified: there is no bundle of its trust "
                    f"domain (held: {held}); correct peer=, or have the agent federate with it",
                    why="no_bundle",
                )
            )
        return inner.context

    def require_not_refused(self) -> None:
        """Raise what was raised when the peer was refused, for ever."""
        if self._refusal is not None:
            raise copy.copy(self._refusal)

    def tls_removed(self) -> None:
        """Note that there is no TLS on the connection any more: nothing proves who is there."""
        if self.facade is not None and self._refusal is None:
            self._end(PeerUnverifiedError("TLS was taken off this connection: nothing goes on in the clear"))

    def handshake_failed(self, error: ssl.SSLError) -> None:
        """Say why, if it was OpenSSL that did not like the peer.

        Raises:
            PeerUnverifiedError: It is the peer; nothing is raised for any other failure.
        """
        if isinstance(error, ssl.SSLCertVerificationError):
            raise self._refused(_not_verified(error)) from error
        if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            raise self._refused(
                PeerUnverifiedError("the peer sent no certificate", why="no_certificate")
            ) from error

    def handshake_done(self, connection: Connection) -> None:
        """Judge the peer, the first time that OpenSSL is content.

        Raises:
            PeerError: It must not be talked to.
            IdentityUnavailableError: There is nothing left to verify it by.
        """
        if self.peer is not None:
            return
        # Whatever happens from here on, even an interrupt, leaves it refused.
        self._refusal = _INTERRUPTED
        side = self._side
        resumed = bool(connection.session_reused)
        try:
            peer, checked = side.check.check(connection, server=side.key.server, resumed=resumed)
        except PeerError as error:
            self._refused(error)
            raise
        except Exception as error:  # border: as above
            self._refusal = self._unavailable(error)
            raise copy.copy(self._refusal) from error
        side.outcomes.count("handshakes")
        if resumed:
            side.outcomes.count("resumed")
        self.peer, self._checked, self._refusal = peer, checked, None

    def _admit(self, connection: Connection, live: X509Context) -> None:
        peer = self.peer  # once: another thread may end the connection meanwhile
        self.require_not_refused()
        if peer is None:
            connection.do_handshake()
            return
        try:
            verify_still_trusted(peer, live.bundles)
        except PeerUnverifiedError as error:
            self._end(error)
            self._side.outcomes.peer_withdrawn(error, server=self._side.key.server)
            raise
        self._checked = live

    def _without_source(self, connection: Connection, error: Exception) -> None:
        self.require_not_refused()
        if self.peer is None:
            connection.do_handshake()
        elif not (isinstance(error, StaleError) and error.reason == "expired"):
            # An identity that merely expired stays true for whom it was shown to.
            raise self._withdrawn(error) from error

    # These return what is to be raised: an error that is a local variable of the frame it is raised
    # in keeps that frame, and so the connection, alive until the garbage collector comes. For the
    # same reason what is kept of a refusal is a copy, which has no traceback.

    def _refused(self, error: PeerError) -> PeerError:
        self._refusal = copy.copy(error)
        return self._counted(error)

    def _counted(self, error: PeerError) -> PeerError:
        self._side.outcomes.refused(error, server=self._side.key.server)
        return error

    def _withdrawn(self, cause: Exception) -> IdentityUnavailableError:
        error = IdentityUnavailableError(f"this end must not use its identity any more: {cause}")
        self._end(error)
        self._side.outcomes.identity_withdrawn(
            error, server=self._side.key.server, closed=isinstance(cause, SourceClosedError)
        )
        return error

    def _end(self, error: _Refusal) -> None:
        self._refusal = copy.copy(error)
        self.peer, self._checked = None, _NOT_CHECKED

    def _unavailable(self, error: Exception) -> IdentityUnavailableError:
        unavailable = IdentityUnavailableError(f"this end has no identity to handshake with: {error}")
        self._side.outcomes.unavailable(unavailable, server=self._side.key.server)
        return unavailable


def _not_verified(error: ssl.SSLCertVerificationError) -> PeerUnverifiedError:
    """Say what OpenSSL found wrong, in our words and with its code."""
    refusal = PeerUnverifiedError(
        f"the peer's certificate does not verify: {error.verify_message}", why="certificate_invalid"
    )
    refusal.verify_code = error.verify_code
    return refusal
