"""How peers of resumed sessions were verified, since OpenSSL does not verify them again.

Only TLS 1.2 servers have resumed sessions here: session IDs cannot be switched off from Python,
and refusing them would fail clients that use them rightly. TLS 1.3 has no tickets here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

__all__ = ["Sessions"]

#: As many as OpenSSL's session cache holds: whom it resumes, we can still judge.
_OPENSSL_CACHE = 20 * 1024


class Sessions:
    """The verified chain by leaf, of the clients seen last.

    Args:
        most: How many are remembered.
    """

    def __init__(self, most: int = _OPENSSL_CACHE) -> None:
        self._most = most
        self._chains: OrderedDict[bytes, tuple[bytes, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, chain: tuple[bytes, ...]) -> None:
        """Keep a chain that OpenSSL has verified.

        Args:
            chain: DER, leaf first.
        """
        with self._lock:
            self._chains[chain[0]] = chain
            self._chains.move_to_end(chain[0])
            if len(self._chains) > self._most:
                self._chains.popitem(last=False)

    def recall(self, leaf: bytes | None) -> tuple[bytes, ...]:
        """Return the verified chain of a leaf (DER); empty if it is not known."""
        with self._lock:
            return self._chains.get(leaf, ()) if leaf else ()
