"""What was issued: signed, remembered until it expires, revoked with all that was made from it."""

from __future__ import annotations

import heapq
import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from spiffe_client._clock import Clock
from spiffe_client.dev._jws import JwsAuthority
from spiffe_client.dev._keyring import Keyring
from spiffe_client.dev.token_broker._jwt import Jwt, Key, NotAcceptableError, verify
from spiffe_client.dev.token_broker._names import ACCESS_TOKEN

__all__ = ["Record", "TokenStore"]


@dataclass(slots=True, eq=False)
class Record:
    """One token that was issued.

    Attributes:
        kind: What it is, as a URN (RFC 8693 §3).
        client_id: To whom it was issued.
        claims: What it says.
        issued_at: When it was issued, in seconds since the epoch.
        expires_at: When it expires.
        children: What was made from it, by name.
        revoked: Whether it is good no more.
        used: Whether it was redeemed, where that can be done once.
        parent: What it was made from.
    """

    kind: str
    client_id: str
    claims: Mapping[str, object] = field(repr=False)
    issued_at: float
    expires_at: float
    children: dict[str, Record] = field(default_factory=dict, repr=False)
    revoked: bool = False
    used: bool = False
    parent: Record | None = field(default=None, repr=False)

    @property
    def jti(self) -> str:
        """Its name."""
        return str(self.claims["jti"])

    def family(self) -> Iterator[Record]:
        """Itself, and all that was made from it."""
        found: list[Record] = [self]
        while found:  # a chain can be longer than Python's stack
            record = found.pop()
            yield record
            found.extend(record.children.values())

    def leave(self) -> None:
        """Let its children be those of its own parent, so that revoking that one still reaches them."""
        if self.parent is None:
            return
        del self.parent.children[self.jti]
        for child in self.children.values():
            child.parent = self.parent
            self.parent.children[child.jti] = child


class TokenStore:
    """Issues tokens, all of them signed (RFC 9068, RFC 7519), and remembers them.

    Args:
        issuer: Its `iss`.
        clock: What says now.
    """

    def __init__(self, issuer: str, clock: Clock) -> None:
        self._issuer = issuer
        self._clock = clock
        self._keys = Keyring(JwsAuthority)
        self._records: dict[str, Record] = {}
        self._ends: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._records)

    @property
    def keys(self) -> tuple[Key, ...]:
        """What verifies the tokens, the key that signs first."""
        return tuple(Key.of(authority.public) for authority in self._keys.published)

    def jwks(self) -> dict[str, object]:
        """Return the keys as a JSON Web Key Set (RFC 7517 §5)."""
        return {"keys": [{**a.public.to_jwk(), "use": "sig"} for a in self._keys.published]}

    def rotate_key(self) -> None:
        """Sign with a new key from now on; what the old ones signed stays good."""
        self._keys.activate()

    def sign(self, claims: Mapping[str, object], *, typ: str) -> str:
        """Sign something that is not remembered, such as a security event."""
        return self._keys.active.sign(claims, typ=typ)

    def issue(
        self,
        kind: str,
        claims: Mapping[str, object],
        *,
        typ: str,
        ttl: float,
        client_id: str,
        parent: Record | None = None,
    ) -> tuple[str, Record]:
        """Issue a token; `iss`, `iat`, `exp` and `jti` are added.

        Args:
            kind: What it is, as a URN.
            claims: What it says.
            typ: Its media type.
            ttl: Seconds it lasts; it does not outlive the access token that it is made from.
            client_id: To whom it is issued.
            parent: What it is made from.
        """
        now = self._clock.now().timestamp()
        self._forget(now)
        expires_at = math.ceil(now + ttl)
        if (limit := _limit(parent)) is not None:
            expires_at = min(expires_at, limit)
        full = {
            "iss": self._issuer,
            "iat": int(now),
            "exp": expires_at,
            "jti": secrets.token_urlsafe(16),
            **claims,
        }
        record = Record(kind, client_id, full, now, expires_at)
        self._records[record.jti] = record
        heapq.heappush(self._ends, (expires_at, record.jti))
        if parent is not None:
            record.parent = parent
            parent.children[record.jti] = record
        return self._keys.active.sign(full, typ=typ), record

    def find(self, token: str) -> Record:
        """Return what is known of a token that is ours and good.

        Raises:
            NotAcceptableError: It is not ours, has expired, or was revoked.
        """
        jwt = Jwt.parse(token)
        verify(jwt, self.keys)
        record = self._records.get(jwt.text("jti"))
        if record is None:
            raise NotAcceptableError("it was not issued here")
        if record.expires_at <= self._clock.now().timestamp():  # by our own clock: to the moment
            raise NotAcceptableError("it has expired")
        if record.revoked:
            raise NotAcceptableError("it was revoked")
        return record

    def revoke(self, record: Record) -> int:
        """Revoke a token and all that was made from it.

        Returns:
            How many were good until now.
        """
        good = [r for r in record.family() if not r.revoked]
        for one in good:
            one.revoked = True
        return len(good)

    def revoke_subject(self, subject: str) -> int:
        """Revoke all tokens that are about somebody, or issued to somebody, and all made from these.

        Returns:
            How many were good until now.
        """
        theirs = [r for r in self._records.values() if subject in (r.claims.get("sub"), r.client_id)]
        return sum(map(self.revoke, theirs))

    def _forget(self, now: float) -> None:
        # A little later than they expire: until then they can be found, and found expired.
        while self._ends and self._ends[0][0] + 60 < now:
            self._records.pop(heapq.heappop(self._ends)[1]).leave()


def _limit(parent: Record | None) -> int | None:
    """When the access token expires that a token descends from: a ticket lasts a minute only."""
    while parent is not None and parent.kind != ACCESS_TOKEN:
        parent = parent.parent
    return None if parent is None else int(parent.expires_at)
