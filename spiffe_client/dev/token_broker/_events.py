"""Security events, and the streams that hold them for who polls (RFC 8417, RFC 8936, Shared Signals)."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from spiffe_client.ids import SpiffeId

__all__ = ["CREDENTIAL_CHANGE", "SESSION_REVOKED", "VERIFICATION", "EventStreams", "Stream"]

_CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
SESSION_REVOKED: Final = f"{_CAEP}session-revoked"
CREDENTIAL_CHANGE: Final = f"{_CAEP}credential-change"
VERIFICATION: Final = "https://schemas.openid.net/secevent/ssf/event-type/verification"

#: Events a stream holds at most; the oldest goes first.
_MAX_HELD = 10_000


@dataclass(slots=True)
class Stream:
    """What one receiver has not acknowledged yet.

    Attributes:
        receiver: Who polls it: a client.
        id: Its name.
        waiting: Security event tokens by their `jti`, the oldest first.
        acknowledged: How many were.
        errors: What the receiver could not make sense of, by `jti` (RFC 8936 §2.6).
    """

    receiver: str
    id: str = field(default_factory=lambda: secrets.token_urlsafe(9))
    waiting: OrderedDict[str, str] = field(default_factory=OrderedDict, repr=False)
    acknowledged: int = 0
    errors: dict[str, Mapping[str, object]] = field(default_factory=dict)

    def settle(self, acks: Sequence[str], errors: Mapping[str, Mapping[str, object]]) -> None:
        """Forget what the receiver has dealt with, in one way or the other."""
        for jti in acks:
            if self.waiting.pop(jti, None) is not None:
                self.acknowledged += 1
        for jti, error in errors.items():
            if self.waiting.pop(jti, None) is not None:
                self.errors[jti] = error


class EventStreams:
    """All streams, and what makes the tokens in them.

    Args:
        issuer: Who says it.
        sign: Signs the claims of a token.
        now: Gives the time, in seconds since the epoch.
    """

    def __init__(
        self, issuer: str, sign: Callable[[Mapping[str, object]], str], now: Callable[[], float]
    ) -> None:
        self._issuer = issuer
        self._sign = sign
        self._now = now
        self._streams: dict[str, Stream] = {}
        #: Called after something was put into a stream.
        self.woken: Callable[[], object] = lambda: None

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def of(self, receiver: str) -> Stream | None:
        """Return a receiver's stream, None if it has none."""
        return self._streams.get(receiver)

    def open(self, receiver: str) -> Stream:
        """Return a receiver's stream, a new one if it has none."""
        return self._streams.setdefault(receiver, Stream(receiver))

    def close(self, receiver: str) -> None:
        """Drop a receiver's stream and all in it."""
        self._streams.pop(receiver, None)

    def emit(
        self,
        kind: str,
        event: Mapping[str, object],
        subject: SpiffeId | str | Mapping[str, object],
        *,
        only: Stream | None = None,
    ) -> int:
        """Put an event into all streams.

        Args:
            kind: Its type.
            event: Its own members.
            subject: Whom it is about: a SPIFFE ID, another `sub` of ours, or a whole subject
                identifier (RFC 9493).
            only: The one stream it is for.

        Returns:
            How many streams there are.
        """
        streams = list(self._streams.values()) if only is None else [only]
        transaction = secrets.token_urlsafe(12)
        for stream in streams:
            jti = secrets.token_urlsafe(16)
            stream.waiting[jti] = self._sign(
                {
                    "iss": self._issuer,
                    "aud": stream.receiver,
                    "iat": int(self._now()),
                    "jti": jti,
                    "txn": transaction,
                    "sub_id": self._identifier(subject),
                    "events": {kind: dict(event)},
                }
            )
            while len(stream.waiting) > _MAX_HELD:
                stream.waiting.popitem(last=False)
        self.woken()
        return len(streams)

    def _identifier(self, subject: SpiffeId | str | Mapping[str, object]) -> Mapping[str, object]:
        if isinstance(subject, Mapping):
            return subject
        if str(subject).startswith("spiffe://"):
            return {"format": "uri", "uri": str(subject)}
        return {"format": "iss_sub", "iss": self._issuer, "sub": str(subject)}
