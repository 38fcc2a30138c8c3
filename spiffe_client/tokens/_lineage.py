"""Which token was made from which, so that what descends from a token can be revoked with it.

Revoking a token leaves those that were exchanged for it alive at many token brokers; only their
client knows them all.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeAlias

from spiffe_client.errors import TokenRequestError
from spiffe_client.tokens._lock import Lock
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._tokens import AccessToken, SecurityToken

__all__ = ["MAX_DEPTH", "Issued", "Lineage", "depth_of"]

#: Tokens made from tokens made from tokens: more than this is a loop or a mistake.
MAX_DEPTH: Final = 4
#: Entries of tokens that are gone before the heap is rebuilt without them.
_SLACK: Final = 64

Issued: TypeAlias = AccessToken | SecurityToken


def _digest(token: Issued) -> bytes:
    return hashlib.sha256(token.token.reveal().encode(errors="surrogatepass")).digest()


def _parents(request: TokenRequest) -> list[Issued]:
    return [one for one in (request.subject, request.actor) if isinstance(one, AccessToken | SecurityToken)]


def depth_of(request: TokenRequest) -> int:
    """Return how many tokens the one asked for descends from, one after the other.

    Raises:
        TokenRequestError: They are more than `MAX_DEPTH`.
    """
    depth, parents = 0, _parents(request)
    while parents:
        depth += 1
        if depth > MAX_DEPTH:
            raise TokenRequestError(
                f"a token made from more than {MAX_DEPTH} others, one after the other, is not asked for"
            )
        parents = [above for parent in parents for above in _parents(parent.request)]
    return depth


class Lineage:
    """The descendants of tokens, for as long as they live; safe in any thread.

    Only tokens that were made from another one issued here take part.

    Args:
        capacity: Most tokens remembered; the oldest go first.

    Attributes:
        added: Called when one was added, to see that it is forgotten in time.
    """

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._lock = Lock()
        # Children by their own digest, with the digests of those they were made from.
        self._children: OrderedDict[bytes, tuple[Issued, frozenset[bytes]]] = OrderedDict()
        self._expiries: list[tuple[datetime, bytes]] = []
        self.added: Callable[[], object] = lambda: None

    def __len__(self) -> int:
        return len(self._children)

    def add(self, token: Issued, *, now: datetime) -> None:
        """Remember from which tokens this one was made; forget those that have expired."""
        self.prune(now)
        parents = frozenset(map(_digest, _parents(token.request)))
        if not parents:
            return
        with self._lock:
            key = _digest(token)
            if key not in self._children:
                heapq.heappush(self._expiries, (token.expires_at, key))
            self._children[key] = (token, parents)
            if len(self._children) > self._capacity:
                self._children.popitem(last=False)
            if len(self._expiries) > 2 * len(self._children) + _SLACK:
                self._expiries = [item for item in self._expiries if item[1] in self._children]
                heapq.heapify(self._expiries)
        self.added()

    @property
    def next_expiry(self) -> datetime | None:
        """When the next one is to be forgotten; None if there is none."""
        return self._expiries[0][0] if self._expiries else None

    def prune(self, now: datetime) -> None:
        """Forget the tokens that have expired."""
        with self._lock:
            while self._expiries and self._expiries[0][0] <= now:
                _, key = heapq.heappop(self._expiries)
                self._children.pop(key, None)

    def generations(self, token: Issued) -> list[list[Issued]]:
        """Return what descends from a token: its children, their children, and so on."""
        with self._lock:
            known = list(self._children.items())
        found: list[list[Issued]] = []
        above, seen = {_digest(token)}, {_digest(token)}
        while below := {key: one for key, (one, up) in known if key not in seen and not above.isdisjoint(up)}:
            found.append(list(below.values()))
            above = set(below)
            seen |= above
        return found

    def forget(self, token: Issued) -> None:
        """Forget one token; what was made from it stays."""
        with self._lock:
            self._children.pop(_digest(token), None)

    def clear(self) -> None:
        """Forget everything; from any thread, also in a signal handler."""
        self._lock.soon(self._clear)

    def _clear(self) -> None:
        self._children.clear()
        self._expiries.clear()
