"""What the token broker client tells about itself; never a token, only what tells one from another."""

from __future__ import annotations

import logging
from datetime import datetime

from spiffe_client._clock import Clock
from spiffe_client.audit import Event, EventSink
from spiffe_client.errors import OAuthError, SpiffeError, TokenBrokerUnavailableError, TokenError
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._tokens import AccessToken, SecurityToken

__all__ = ["Reports"]


def _asked(request: TokenRequest) -> str:
    scope = " ".join(sorted(request.scope)) or "no scope"
    whom = ", ".join(sorted(request.audience | request.resource))
    return f"{scope} for {whom}" if whom else scope


def _facts(request: TokenRequest) -> dict[str, str | int | float | bool]:
    return {
        "scope": " ".join(sorted(request.scope)),
        "audience": " ".join(sorted(request.audience | request.resource)),
        "purpose": request.purpose,
    }


class Reports:
    """Makes events for one token broker.

    Args:
        issuer: Its issuer identifier.
        sink: Takes the events.
        clock: Tells since when it cannot be reached.

    Attributes:
        trouble: The last reason why no token could be had: the token broker's, or the identity's that there
            was nothing to show to it; None if all is well.
        since: From when on that is so.
    """

    def __init__(self, issuer: str, sink: EventSink, clock: Clock) -> None:
        self._issuer = issuer
        self._sink = sink
        self._clock = clock
        self.trouble: SpiffeError | None = None
        self.since: datetime = clock.now()
        self._down = False  # the token broker, as was told

    def late(self, seconds: float) -> TokenBrokerUnavailableError:
        """Make the error for a request that has had its time."""
        return TokenBrokerUnavailableError(
            f"the token broker at {self._issuer} did not answer within {max(0.1, round(seconds, 1)):g} s"
        )

    def issued(self, token: AccessToken | SecurityToken, *, refreshed: bool) -> None:
        """A token came: the token broker can be reached."""
        if self.trouble is not None:
            self.trouble, self.since = None, self._clock.now()
        if self._down:
            self._down = False
            self._tell("broker.recovered", f"the token broker {self._issuer} issues tokens again")
        name = "token.refreshed" if refreshed else "token.issued"
        text = f"{_asked(token.request)}, until {token.expires_at:%Y-%m-%dT%H:%M:%SZ}"
        ends = token.expires_at.isoformat()
        facts = {**_facts(token.request), "fingerprint": token.fingerprint, "expires_at": ends}
        self._tell(
            name,
            f"{name.replace('.', ' ')}: {text}",
            facts,
            level=logging.DEBUG if refreshed else logging.INFO,
        )

    def failed(self, request: TokenRequest, error: SpiffeError, *, ahead: bool) -> None:
        """A token did not come: nothing is lost yet if that was `ahead` of need."""
        if error.retryable:
            if self.trouble is None:
                self.since = self._clock.now()
            # An identity that is away has said so itself, and is not the token broker's fault.
            if not self._down and isinstance(error, TokenError):
                self._down = True
                text = f"the token broker {self._issuer} cannot be used: {error}"
                self._tell("broker.unavailable", text, {"error": error.code}, level=logging.WARNING)
            self.trouble = error
        if ahead:
            text = f"could not refresh {_asked(request)}, which is still valid: {error}"
            level = logging.DEBUG if error.retryable else logging.WARNING
        elif not error.retryable:
            text, level = f"no token: {_asked(request)}: {error}", logging.WARNING
        else:
            return
        facts = {**_facts(request), "error": error.error if isinstance(error, OAuthError) else error.code}
        self._tell("token.refresh_failed" if ahead else "token.denied", text, facts, level=level)

    def purged(self, count: int) -> None:
        """Tokens were dropped before their time."""
        self._tell("token.purged", f"{count} token(s) dropped before their time", {"tokens": count})

    def crashed(self, text: str) -> None:
        """Something failed that cannot."""
        self._tell("broker.crashed", text, level=logging.CRITICAL)

    def stopped(self, reason: str, count: int) -> None:
        """This workload was stopped."""
        text = f"stopped: {reason}; {count} token(s) dropped, none is handed out any more"
        self._tell("workload.stopped", text, {"reason": reason, "tokens": count}, level=logging.WARNING)

    def _tell(
        self,
        name: str,
        message: str,
        facts: dict[str, str | int | float | bool] | None = None,
        *,
        level: int = logging.INFO,
    ) -> None:
        self._sink(Event(name, message, {"issuer": self._issuer, **(facts or {})}, level))
