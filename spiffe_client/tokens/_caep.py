"""Hearing of revoked sessions and changed credentials by polling (CAEP 1.0 over RFC 8936).

An event is acknowledged only once what it is about is gone from here; until then its transmitter
delivers it again.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import anyio

from spiffe_client._frames import without_frames
from spiffe_client._retry import Backoff
from spiffe_client.audit import Event, EventSink
from spiffe_client.errors import DiscoveryError, SourceError, SpiffeError, TokenError, TokenProtocolError
from spiffe_client.tokens._affected import Affected, Ours, affected_by, identities_of
from spiffe_client.tokens._inbox import Delivery, Inbox
from spiffe_client.tokens._security_events import VERIFICATION

if TYPE_CHECKING:
    from spiffe_client._clock import Clock
    from spiffe_client.tokens._channel import Channel
    from spiffe_client.tokens._dpop import DpopKey
    from spiffe_client.tokens._nonces import Nonces
    from spiffe_client.tokens._poll import PollStream
    from spiffe_client.tokens._request import TokenRequest
    from spiffe_client.tokens._secret_source import SecretSource
    from spiffe_client.tokens._tokens import AccessToken

__all__ = ["CaepPoll", "Receiver", "Receiving"]

#: Between attempts to reach the transmitter; drawn from 0 on, so that a fleet does not come at once.
_BACKOFF: Final = Backoff(first=1.0, cap=60.0)
#: Seconds between polls that are of no use.
_PACE: Final = 5.0
#: Most events asked for at once: their tokens have to fit into one answer.
_MOST: Final = 16
#: Tokens that are looked at between two chances for everything else on the event loop.
_SLICE: Final = 64


@dataclass(frozen=True, slots=True)
class CaepPoll:
    """A transmitter of security events that is polled, as an option of `TokenBroker`.

    Attributes:
        issuer: The transmitter's issuer identifier; often the token broker's own.
        audience: Who we are to it (`aud`); None for the OAuth client.
        endpoint: Where the stream is polled; None asks the transmitter.
        stream_id: Which of our streams; None for the only one that is polled, which is created if
            there is none.
        authorization: What the transmitter wants to see: True for an access token of the token broker
            for it, with the scope `ssf.read`; another such; a bearer token that is read anew for
            each request; or False for nothing, where it knows us by our certificate.
        allowed_origins: Origins beside the issuer's that its endpoints may have.
        wait: Seconds that one poll is held open at most; the transmitter should answer before.
    """

    issuer: str
    audience: str | None = None
    endpoint: str | None = None
    stream_id: str | None = None
    authorization: TokenRequest | SecretSource | bool = True
    allowed_origins: Collection[str] = ()
    wait: float = 120.0


@dataclass(frozen=True, slots=True)
class Receiving:
    """What a receiver needs of the token broker client that it works for.

    Attributes:
        channel: How to reach the transmitter.
        fetch: Returns an access token that is valid now.
        dpop: The key that it is bound to; None where it is bound to none.
        nonces: What servers want in proofs.
        issuer: The token broker that issued the tokens.
        client_id: Says which OAuth client we are. May raise a `SourceError`.
        own_id: Says our SPIFFE ID; None if there is none. May raise a `SourceError`.
        held: Returns the tokens held.
        purge: Forgets a token, or all that fit, also those on their way; returns how many.
        withdrawn: Told which tokens are forgotten, before that and after.
        clock: Where the time comes from.
        sink: Takes events.
    """

    channel: Channel
    fetch: Callable[[TokenRequest], Awaitable[AccessToken]]
    dpop: DpopKey | None
    nonces: Nonces
    issuer: str
    client_id: Callable[[], str]
    own_id: Callable[[], str | None]
    held: Callable[[], Collection[AccessToken]]
    purge: Callable[[AccessToken | Affected], int]
    withdrawn: Callable[[Affected], object]
    clock: Clock
    sink: EventSink


class Receiver:
    """Polls one stream for as long as it runs; no answer, however bad, and no bug of ours ends it.

    Args:
        poll: Which stream.
        receiving: For whom.
        backoff: Between attempts to reach the transmitter.

    Attributes:
        trouble: What is wrong now; None if the last poll was answered.
    """

    def __init__(self, poll: CaepPoll, receiving: Receiving, *, backoff: Backoff = _BACKOFF) -> None:
        self._poll = poll
        self._for = receiving
        self._backoff = backoff
        self._scope = anyio.CancelScope()
        self._ended: anyio.Event | None = None
        self._names: frozenset[str] = frozenset()
        self._inbox = Inbox(poll.issuer, lambda: poll.audience or receiving.client_id(), receiving.clock)
        self._most = _MOST
        self._garbage = 0
        self.trouble: SpiffeError | None = None

    def end(self) -> None:
        """Stop polling; on the event loop."""
        self._scope.cancel()

    async def aclose(self) -> None:
        """Stop polling, and wait until nothing is on its way."""
        self.end()
        if self._ended is not None:
            await self._ended.wait()

    async def run(self) -> None:
        """Poll until cancelled or ended."""
        self._ended = anyio.Event()
        try:
            with self._scope:
                await self._follow()
        finally:
            self._ended.set()

    async def _follow(self) -> None:
        failures = 0
        stream: PollStream | None = None
        clock = self._for.clock
        while True:
            began = clock.monotonic()
            try:
                if stream is None:
                    stream = await self._find_stream()
                useful = await self._once(stream)
            except Exception as error:  # noqa: BLE001 - the border of one turn: tokens live on, and so do we
                failures += 1
                trouble = error if isinstance(error, SpiffeError) else _bug(error)
                pause = self._failed(trouble, failures)
                # What it says of itself may have changed.
                stream = None if isinstance(error, DiscoveryError) or failures > 2 else stream
            else:
                failures = 0
                self._well()
                pause = 0.0 if useful else self._pace(clock.monotonic() - began)
            await clock.sleep(pause)

    def _pace(self, took: float) -> float:
        """Say how long one is left alone that answers at once and says nothing, repeats itself, or makes no sense."""
        pace = _PACE * random.uniform(0.5, 1.0) if took < _PACE else 0.0  # noqa: S311 - spreads load, protects nothing
        return max(pace, self._backoff.delay(self._garbage)) if self._garbage else pace

    async def _find_stream(self) -> PollStream:
        # Imported here: it speaks HTTP, which not every token broker client does.
        from spiffe_client.tokens._poll import PollStream

        return await PollStream.find(self._poll, self._for)

    async def _once(self, stream: PollStream) -> bool:
        """Poll once; return whether there was a verified event that is new."""
        replies, most = self._inbox.replies, self._most
        try:
            sets = await stream.poll(replies.acks, replies.errors, most=most)
        except TokenProtocolError:
            # More than an answer may hold, perhaps: ask for less at a time.
            self._most = max(1, most // 2)
            raise
        self._inbox.heard(replies)
        delivery = await self._inbox.take(stream, islice(sets.items(), most))
        await self._act(delivery)
        if delivery.trouble is not None:
            raise delivery.trouble
        self._garbage = self._garbage + 1 if delivery.refused and not delivery.events else 0
        if len(sets) > most:
            # Those beyond it are not looked at: what a poll costs us is ours to say.
            text = f"the poll's answer has {len(sets)} events, {most} were asked for"
            raise TokenProtocolError(text, status=200, content_type="application/json")
        self._most = min(_MOST, most * 2)
        return bool(delivery.events)

    async def _act(self, delivery: Delivery) -> None:
        """Drop what the events of one poll are about, all at once; then they count as received."""
        if delivery.refused:
            self._tell_refused(delivery)
        if not delivery.events:
            return
        ours = self._ours()
        several = [one for event in delivery.events if (one := affected_by(event, ours)) is not None]
        affected = Affected()
        for one in several:
            affected |= one
        count = 0
        if affected.all or affected.identities:
            await self._look_at(affected)
            count = self._take_back(affected)
        for event in delivery.events:
            self._inbox.done(event)
        self._tell_received(delivery, count, everything=affected.all)

    def _take_back(self, affected: Affected) -> int:
        """Drop tokens, and tell who works with them: before, while they can be seen, and who got one meanwhile."""
        if affected.all:  # that needs no look at tokens, and is told as an event
            return self._for.purge(affected)
        try:
            self._for.withdrawn(affected)
        finally:
            count = self._for.purge(affected)
        self._for.withdrawn(affected)
        return count

    async def _look_at(self, affected: Affected) -> None:
        """Find out what the tokens held are about, a few at a time: purging holds up everything else."""
        for number, token in enumerate(() if affected.all else self._for.held(), start=1):
            identities_of(token)
            if number % _SLICE == 0:
                await anyio.lowlevel.checkpoint()

    def _tell_refused(self, delivery: Delivery) -> None:
        count, codes = len(delivery.refused), " ".join(sorted({error.err for error in delivery.refused}))
        text = f"{count} security event(s) of {self._poll.issuer} refused, the first because {delivery.refused[0]}"
        self._tell("security_event.refused", text, {"error": codes, "count": count}, level=logging.WARNING)

    def _tell_received(self, delivery: Delivery, count: int, *, everything: bool) -> None:
        issuer = self._poll.issuer
        kinds = sorted({kind for event in delivery.events for kind in event.events})
        if VERIFICATION in kinds:
            self._tell("security_event.verified", f"the stream of {issuer} works", level=logging.DEBUG)
        shown = " ".join(kind.rpartition("/")[2][:80] for kind in kinds)
        facts: dict[str, str | int] = {"events": shown, "count": len(delivery.events), "tokens": count}
        facts["all"] = everything  # whether this workload as such is meant
        level = logging.WARNING if count else logging.INFO
        self._tell(
            "security_event.received",
            f"{issuer} reports {shown}: {count} token(s) dropped",
            facts,
            level=level,
        )

    def _ours(self) -> Ours:
        # Without an identity by the names it had: a token may have outlived the SVID.
        with suppress(SourceError):
            self._names |= {name for name in (self._for.client_id(), self._for.own_id()) if name}
        return Ours(self._for.issuer, self._names)

    def _failed(self, error: SpiffeError, failures: int) -> float:
        if self.trouble is None or self.trouble.code != error.code:
            text = f"no security events of {self._poll.issuer}: {error}"
            self._tell("security_event.unavailable", text, {"error": error.code}, level=logging.WARNING)
        self.trouble = error
        return max(self._backoff.delay(failures), getattr(error, "retry_after", None) or 0.0)

    def _well(self) -> None:
        if self.trouble is not None:
            self.trouble = None
            self._tell("security_event.recovered", f"security events of {self._poll.issuer} come again")

    def _tell(
        self,
        name: str,
        message: str,
        facts: Mapping[str, str | int] | None = None,
        *,
        level: int = logging.INFO,
    ) -> None:
        self._for.sink(Event(name, message, {"transmitter": self._poll.issuer, **(facts or {})}, level))


def _bug(error: Exception) -> TokenError:
    trouble = TokenError(f"receiving security events failed with {type(error).__name__}, which is a bug")
    trouble.__cause__ = without_frames(error)
    return trouble
