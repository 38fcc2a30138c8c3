"""Nonces that servers want in DPoP proofs, each server its own (RFC 9449 §8, §9)."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Final

from spiffe_client.tokens._origin import Origin, origin_of

__all__ = ["USE_DPOP_NONCE", "Nonces"]

#: The error that asks for one (RFC 9449 §8, §9).
USE_DPOP_NONCE: Final = "use_dpop_nonce"
#: What one may look like (RFC 9449 §8.1), and no longer than anything reasonable.
_NONCE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,1024}\Z")


class Nonces:
    """The newest nonce of each origin.

    Every answer of a server may bring the next one, also a good one, so every answer is shown to
    `seen`. From any thread; reading takes no lock.

    Args:
        capacity: Most origins remembered; who was heard of the longest ago goes first.
    """

    def __init__(self, *, capacity: int = 256) -> None:
        self._capacity = capacity
        self._newest: dict[Origin, str] = {}
        # A signal handler that sends a request may find its own thread in here.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._newest)

    def of(self, url: str | Origin) -> str | None:
        """Return what a proof for this URL has to carry, None where its server asked for nothing."""
        return self._newest.get(origin_of(url) if isinstance(url, str) else url)

    def seen(self, url: str | Origin, headers: Mapping[str, str]) -> str | None:
        """Take in the nonce of an answer, whatever its status, and return it.

        One that is no nonce, or more than one, is left aside: the one held may be good still.

        Args:
            url: Who answered.
            headers: Of the answer; names in any case, or in lower case.
        """
        nonce = headers.get("dpop-nonce")
        if nonce is None or not _NONCE.match(nonce):
            return None
        origin = origin_of(url) if isinstance(url, str) else url
        if self._newest.get(origin) != nonce:
            with self._lock:
                self._newest.pop(origin, None)  # the newest to the end
                self._newest[origin] = nonce
                while len(self._newest) > self._capacity:
                    self._newest.pop(next(iter(self._newest)), None)
        return nonce

    def retry(
        self, url: str | Origin, *, error: str | None, headers: Mapping[str, str], sent: str | None
    ) -> str | None:
        """Decide about a refusal: return the nonce to try once more with, or None to give up.

        Args:
            url: Who refused.
            error: The code: of an authorization server's JSON (status 400), of a resource server's
                `WWW-Authenticate: DPoP` (status 401).
            headers: Of the answer; they are taken in as by `seen`.
            sent: The nonce in the refused proof. A server that asks for that one again, or sends none,
                will not be satisfied: trying on would be a loop.
        """
        offered = self.seen(url, headers)
        return offered if error == USE_DPOP_NONCE and offered != sent else None
