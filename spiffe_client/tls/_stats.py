"""What became of handshakes and connections: counted, and refusals told.

No TLS stack reports a refused client (asyncio swallows the error), so this is the only place where
an operator sees one.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Literal

from spiffe_client.audit import Event, EventSink, safe_sink
from spiffe_client.errors import IdentityUnavailableError, PeerError, PeerNotAllowedError
from spiffe_client.tls._authorities import LeftOut

__all__ = ["Outcomes", "TlsStats"]


@dataclass(frozen=True, slots=True)
class TlsStats:
    """Counts since the contexts were made.

    Attributes:
        handshakes: Finished, with a peer that was allowed.
        resumed: Those of them that resumed a session (TLS 1.2 servers only).
        refused: Peers that were refused in the handshake.
        unavailable: Handshakes that failed because this end had no identity it may use.
        ended: Connections that were ended because the peer's authority or our own identity was
            withdrawn.
        generations: Contexts built: one for each change of identity or bundles, role and ALPN list.
    """

    handshakes: int = 0
    resumed: int = 0
    refused: int = 0
    unavailable: int = 0
    ended: int = 0
    generations: int = 0


_Counter = Literal["handshakes", "resumed", "refused", "unavailable", "ended", "generations"]


class Outcomes:
    """Counts and tells.

    Args:
        on_event: Told about each refusal; None logs it.
    """

    def __init__(self, on_event: EventSink | None) -> None:
        self._tell = safe_sink(on_event)
        self._lock = threading.Lock()
        self._counts: dict[_Counter, int] = {}
        self._left_out: set[LeftOut] = set()

    @property
    def stats(self) -> TlsStats:
        """The counts by now."""
        with self._lock:
            return TlsStats(**self._counts)

    def count(self, what: _Counter) -> None:
        """Count one more."""
        with self._lock:  # sockets handshake in threads
            self._counts[what] = self._counts.get(what, 0) + 1

    def refused(self, error: PeerError, *, server: bool) -> None:
        """Count and tell that a peer was refused in the handshake."""
        self.count("refused")
        self._tell_refusal(error, server=server)

    def peer_withdrawn(self, error: PeerError, *, server: bool) -> None:
        """Count and tell that a connection was ended because nobody vouches for the peer any more."""
        self.count("ended")
        self._tell_refusal(error, server=server)

    def identity_withdrawn(self, error: IdentityUnavailableError, *, server: bool, closed: bool) -> None:
        """Count and tell that a connection was ended because we must not use our identity any more.

        Args:
            error: What the connection raises.
            server: Our role.
            closed: Whether we ourselves closed the source, which is nothing to worry about.
        """
        self.count("ended")
        attributes = {
            "reason": "source_closed" if closed else "identity_withdrawn",
            "role": _role(server=server),
        }
        level = logging.DEBUG if closed else logging.WARNING
        self._tell(Event("connection.retired", str(error), attributes, level))

    def unavailable(self, error: IdentityUnavailableError, *, server: bool) -> None:
        """Count and tell that a handshake was not made for want of an identity of our own."""
        self.count("unavailable")
        attributes = {"code": error.code, "role": _role(server=server)}
        self._tell(Event("identity.unavailable", str(error), attributes, logging.WARNING))

    def left_out(self, authority: LeftOut) -> None:
        """Tell, once, that an authority was not loaded."""
        with self._lock:
            known = authority in self._left_out
            self._left_out.add(authority)
        if known:
            return
        why = f"it looks like one of {authority.like}" if authority.like else "it cannot be read"
        self._tell(
            Event(
                "bundle.refused",
                f"an authority of {authority.trust_domain} is not used: {why}",
                {"trust_domain": str(authority.trust_domain), "reason": "authority_unusable"},
                logging.WARNING,
            )
        )

    def _tell_refusal(self, error: PeerError, *, server: bool) -> None:
        attributes = {"reason": error.why, "code": error.code, "role": _role(server=server)}
        if error.peer is not None:
            attributes["peer"] = str(error.peer)
        if isinstance(error, PeerNotAllowedError):
            attributes["rule"] = error.rule
        self._tell(Event("peer.refused", str(error), attributes, logging.WARNING))


def _role(*, server: bool) -> str:
    """Which end of the connection we are."""
    return "server" if server else "client"
