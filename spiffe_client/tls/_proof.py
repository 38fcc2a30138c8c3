"""The peer's chain verified once more by the rules of the standard, apart from OpenSSL.

Two verifiers must agree. OpenSSL knows nothing of SPIFFE's rules for authorities (X509-SVID §3.2,
§4), can be set to accept weak keys, and copies its settings when a connection is made, so that
what somebody sets on a shared context just then would count. Here nothing can be set. A chain
costs about as much as its signatures, once: what was proven by the same bundle is remembered.
"""

from __future__ import annotations

import threading
from datetime import datetime
from typing import TypeAlias

from spiffe_client._clock import Clock
from spiffe_client.bundle import BundleSet, X509Bundle, parse_certificate
from spiffe_client.errors import PeerUnverifiedError
from spiffe_client.svid import verify_x509_svid
from spiffe_client.tls._peer import Peer

__all__ = ["Proofs"]

#: When all certificates of a chain are valid.
_Window: TypeAlias = tuple[datetime, datetime]


class Proofs:
    """Chains that were proven, and until when.

    Args:
        clock: Says what has expired.
        most: How many are remembered.
    """

    def __init__(self, clock: Clock, most: int = 1024) -> None:
        self._clock = clock
        self._most = most
        self._windows: dict[tuple[tuple[bytes, ...], frozenset[bytes]], _Window] = {}
        self._lock = threading.Lock()

    def require(self, peer: Peer, bundle: X509Bundle) -> None:
        """Return if the peer's chain proves its ID by this bundle, now.

        Args:
            peer: With the chain as OpenSSL built it.
            bundle: Of the peer's own trust domain.

        Raises:
            PeerUnverifiedError: It does not.
        """
        key, now = (peer.chain, bundle.ders), self._clock.now()
        window = self._windows.get(key)
        if window is None:
            window = _prove(peer, bundle, now)
            self._remember(key, window)
        if not window[0] <= now <= window[1]:
            raise PeerUnverifiedError(
                f"a certificate in the chain of {peer.id} is valid from {window[0]:%Y-%m-%dT%H:%M:%SZ} "
                f"until {window[1]:%Y-%m-%dT%H:%M:%SZ}, which is not now",
                peer=peer.id,
                why="certificate_invalid",
            )

    def _remember(self, key: tuple[tuple[bytes, ...], frozenset[bytes]], window: _Window) -> None:
        with self._lock:
            if len(self._windows) >= self._most:
                del self._windows[next(iter(self._windows))]
            self._windows[key] = window


def _prove(peer: Peer, bundle: X509Bundle, now: datetime) -> _Window:
    try:
        chain = [parse_certificate(der) for der in peer.chain]
        verify_x509_svid(chain, BundleSet([bundle]), at=now)
        return max(c.not_before for c in chain), min(c.not_after for c in chain)
    except Exception as error:  # border: besides rules that are broken, the parser's many errors
        raise PeerUnverifiedError(
            f"the peer's certificate does not verify: {error}", peer=peer.id, why="certificate_invalid"
        ) from error
