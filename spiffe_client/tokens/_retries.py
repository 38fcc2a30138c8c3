"""What is done after a failed try to get a token: decided without I/O and without a clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from spiffe_client._retry import Backoff
from spiffe_client.errors import (
    InvalidClientError,
    InvalidGrantError,
    OAuthError,
    SpiffeError,
    TokenBrokerUnavailableError,
    UnavailableError,
)
from spiffe_client.tokens._lifetime import Lifetime

__all__ = ["Again", "Retries", "Try", "asked_patience", "renew_at"]

#: While somebody waits.
_BACKOFF: Final = Backoff(first=0.2, cap=10.0)
_TRIES: Final = 3
#: Who waits is told that the token broker wants patience, rather than kept longer than this.
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Try:
    """One try to get a token.

    Attributes:
        number: From 1.
        remaining: Seconds left for it.
        refresh: Whether subject and credentials have to be read anew: the last ones were refused.
    """

    number: int
    remaining: float
    refresh: bool


@dataclass(frozen=True, slots=True)
class Again:
    """Try again.

    Attributes:
        pause: After so many seconds.
        refresh: As in `Try`.
    """

    pause: float
    refresh: bool


def asked_patience(error: SpiffeError) -> float:
    """Return the seconds that an answer asks everybody to wait (`Retry-After`), 0 for none.

    A refusal of what one request asks for says nothing to others: a token broker, or whoever can
    have a request refused there, must not stop all of them with it.
    """
    if isinstance(error, OAuthError):
        everybody = error.status == 429 or error.status >= 500 or error.error == "temporarily_unavailable"
        return (error.retry_after or 0.0) if everybody else 0.0
    return (error.retry_after or 0.0) if isinstance(error, TokenBrokerUnavailableError) else 0.0


def renew_at(life: Lifetime, *, now: float, closed: float = 0.0) -> float:
    """Return when a token that is still valid is asked for again, after that did not succeed.

    Full jitter over all that is left of it: there is no hurry, and the tries come closer the less
    there is. A fleet whose token broker is down for a while asks it hardly more often than one whose
    is up. A fixed backoff, however long, would make a crowd that is there when it comes back.

    Args:
        life: Its phases.
        now: In monotonic seconds.
        closed: Seconds that the gate before the endpoint stays closed.
    """
    first = now + closed + life.floor
    left = max(0.0, life.hard - first)
    return min(first + Backoff(first=left, cap=left).delay(1), life.hard)


class Retries:
    """Counts the tries for one token and says after each failure whether there is another.

    Args:
        tries: How many there are at most where trying again helps; reading subject or credentials
            anew is not counted, and happens once for each.
    """

    __slots__ = ("_failures", "_reread", "_tries")

    def __init__(self, tries: int = _TRIES) -> None:
        self._tries = tries
        self._failures = 0
        self._reread: set[str] = set()

    def after(self, error: SpiffeError, *, left: float) -> Again | None:
        """Return when to try again, or None for never.

        Args:
            error: What came of the last try.
            left: Seconds until the deadline.
        """
        if not error.retryable:
            stale = _stale(error)
            if stale is None or stale in self._reread or asked_patience(error) >= min(_PATIENCE, left):
                return None
            self._reread.add(stale)
            return Again(0.0, refresh=True)
        if isinstance(error, UnavailableError):  # who keeps the identity has tried for as long as there was
            return None
        self._failures += 1
        pause = _BACKOFF.delay(self._failures) if self._failures < self._tries else left
        if pause >= left or asked_patience(error) >= min(_PATIENCE, left):
            return None
        return Again(pause, refresh=False)


def _stale(error: SpiffeError) -> str | None:
    """Return which of the things that were sent may be out of date, None if none is.

    RFC 8693 §2.2.2 has `invalid_request` for a subject or actor token that is not acceptable, and
    token brokers use `invalid_grant`.
    """
    if isinstance(error, InvalidClientError):
        return "client"
    if isinstance(error, OAuthError) and error.error == "use_attestation_challenge":
        return "challenge"
    if isinstance(error, InvalidGrantError):
        return "subject"
    if isinstance(error, OAuthError) and error.error == "invalid_request":
        named = error.description.lower()
        return "subject" if "subject" in named or "actor" in named or "assertion" in named else None
    return None
