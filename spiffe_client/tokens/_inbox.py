"""Security events as they are delivered: verified, remembered, and answered (RFC 8936 §2.4)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from spiffe_client.errors import SecurityEventError
from spiffe_client.tokens._security_events import SecurityEvent, verify_security_event

if TYPE_CHECKING:
    from spiffe_client._clock import Clock
    from spiffe_client.bundle import JwtAuthority
    from spiffe_client.tokens._poll import PollStream

__all__ = ["Delivery", "Inbox", "Replies"]

#: Most events that are recognised when they are delivered again.
_REMEMBERED: Final = 4096
#: Longest name of an event in a poll's answer that is answered.
_MAX_NAME: Final = 1024


@dataclass(slots=True)
class Delivery:
    """What came of the events of one poll.

    Attributes:
        events: Verified, and new.
        refused: What was wrong with others.
        trouble: What kept the rest from being looked at; they will come again.
    """

    events: list[SecurityEvent] = field(default_factory=list)
    refused: list[SecurityEventError] = field(default_factory=list)
    trouble: Exception | None = None


@dataclass(frozen=True, slots=True)
class Replies:
    """What the transmitter is told with the next poll.

    Attributes:
        acks: Names (`jti`) of events that need not be delivered again.
        errors: What was wrong with others.
    """

    acks: Sequence[str]
    errors: Mapping[str, Mapping[str, str]]


class Inbox:
    """What one stream delivered.

    Args:
        issuer: Who may say something.
        audience: Returns to whom: us. May raise a `SourceError`.
        clock: Where the time comes from.
    """

    def __init__(self, issuer: str, audience: Callable[[], str], clock: Clock) -> None:
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._acks: list[str] = []
        self._errors: dict[str, Mapping[str, str]] = {}
        self._settled: OrderedDict[str, None] = OrderedDict()

    @property
    def replies(self) -> Replies:
        """What to tell the transmitter."""
        return Replies(tuple(self._acks), dict(self._errors))

    def heard(self, replies: Replies) -> None:
        """Note that the transmitter was told."""
        self._acks = self._acks[len(replies.acks) :]
        for name in replies.errors:
            self._errors.pop(name, None)

    async def take(self, stream: PollStream, sets: Iterable[tuple[str, object]]) -> Delivery:
        """Verify events.

        Args:
            stream: Where they come from; has the keys.
            sets: Name and token of each.
        """
        delivery = Delivery()
        for name, token in sets:
            if name in self._settled:
                self._acks.append(name)
                continue
            try:
                event = await self._verified(stream, name, token)
            except SecurityEventError as error:
                self._refuse(name, error)
                delivery.refused.append(error)
            except Exception as error:  # noqa: BLE001 - the border of one poll: those before it must still count
                delivery.trouble = error
                break
            else:
                delivery.events += [] if event is None else [event]
        return delivery

    def done(self, event: SecurityEvent) -> None:
        """Note that an event was acted on: it is acknowledged, and not looked at again."""
        self._acks.append(event.token_id)
        self._settled[event.token_id] = None
        if len(self._settled) > _REMEMBERED:
            self._settled.popitem(last=False)

    def _refuse(self, name: str, error: SecurityEventError) -> None:
        if len(name) <= _MAX_NAME:
            self._errors[name] = {"err": error.err, "description": str(error)}

    async def _verified(self, stream: PollStream, name: str, token: object) -> SecurityEvent | None:
        """Return the event; None if it is not known yet whether it is one, and it has to come again."""
        try:
            return self._verify(name, token, await stream.keys())
        except SecurityEventError as error:
            if error.err != "invalid_key":
                raise
        if not stream.keys_stale:
            return None  # by a key that is too new, or by none: to refuse it could lose a revocation
        return self._verify(name, token, await stream.keys(anew=True))

    def _verify(self, name: str, token: object, keys: Sequence[JwtAuthority]) -> SecurityEvent:
        audience, at = self._audience(), self._clock.now()
        event = verify_security_event(token, keys, issuer=self._issuer, audience=audience, at=at)
        if event.token_id != name:
            raise SecurityEventError("the event is delivered under a name that is not its `jti`")
        return event
