"""The retry matrix: what is tried again, how often, and after which pause."""

from __future__ import annotations

import pytest
from tests.support.token_world import denied, down

from spiffe_client.errors import (
    InvalidClientError,
    InvalidGrantError,
    InvalidScopeError,
    OAuthError,
    SpiffeError,
    StaleError,
    TokenProtocolError,
    UnacceptableTokenError,
)
from spiffe_client.tokens._lifetime import Lifetime
from spiffe_client.tokens._retries import Again, Retries, asked_patience, renew_at


def status(code: int, error: str = "server_error", retry_after: float | None = None) -> OAuthError:
    return OAuthError("no", error=error, status=code, retry_after=retry_after)


TRANSIENT = [down(), *(status(code) for code in (408, 429, 500, 502, 503, 504)), status(400, "temporarily_unavailable")]


@pytest.mark.parametrize("error", TRANSIENT, ids=str)
def test_transient_failures_have_three_tries(error: SpiffeError) -> None:
    """With full jitter, the pauses doubling from 0.2 s."""
    for _ in range(50):
        retries = Retries()
        first, second = retries.after(error, left=10), retries.after(error, left=10)
        assert first is not None and second is not None
        assert 0 <= first.pause <= 0.2 and 0 <= second.pause <= 0.4
        assert not first.refresh and not second.refresh
        assert None is retries.after(error, left=10)


@pytest.mark.parametrize(
    "error",
    [
        denied("invalid_scope", kind=InvalidScopeError),
        denied("invalid_target"),
        denied("access_denied"),
        denied("unauthorized_client"),
        denied("scope_escalation"),
        denied("made_up_by_somebody"),
        denied("invalid_request", description="scope must not be given twice"),
        TokenProtocolError("an HTML page", status=400),
        UnacceptableTokenError("wider", why="wider_scope"),
    ],
    ids=str,
)
def test_refusals_are_not_argued_with(error: SpiffeError) -> None:
    """Asking again gets the same answer, and codes are an open set."""
    assert None is Retries().after(error, left=10)


@pytest.mark.parametrize(
    "error",
    [
        denied("invalid_client", kind=InvalidClientError),
        denied("invalid_grant", kind=InvalidGrantError),
        denied("invalid_request", description="the Subject token has expired"),
        denied("invalid_request", description="actor_token: unknown issuer"),
        denied("use_attestation_challenge"),
    ],
    ids=str,
)
def test_what_may_be_out_of_date_is_read_anew_once(error: SpiffeError) -> None:
    """RFC 8693 §2.2.2: a subject that is not acceptable; RFC 6749 §5.2: a client that is not."""
    retries = Retries()
    assert Again(0.0, refresh=True) == retries.after(error, left=10)
    assert None is retries.after(error, left=10)


def test_client_and_subject_are_read_anew_once_each() -> None:
    """And neither counts as a try."""
    retries = Retries()
    retries.after(denied("invalid_client", kind=InvalidClientError), left=10)
    assert Again(0.0, refresh=True) == retries.after(denied("invalid_grant", kind=InvalidGrantError), left=10)
    assert [True, True, False] == [retries.after(down(), left=10) is not None for _ in range(3)]


def test_a_renewal_ahead_of_need_asks_once() -> None:
    """It has its next appointment; a fleet of them must not triple the load of a broker in trouble."""
    assert None is Retries(1).after(down(), left=10)
    assert None is not Retries(1).after(denied("invalid_client", kind=InvalidClientError), left=10)


@pytest.mark.parametrize(("asked", "left", "again"), [(5, 10, True), (10, 10, False), (61, 100, False), (59, 100, True)])
def test_patience_has_limits(asked: float, left: float, again: bool) -> None:
    """`Retry-After` is honoured up to the deadline and a minute; beyond, the caller hears it at once."""
    assert again is (Retries().after(down(asked), left=left) is not None)


def test_no_try_after_the_deadline() -> None:
    """A pause that outlasts the deadline is none."""
    assert None is Retries().after(down(), left=0.0)


def test_no_identity_is_worth_another_try() -> None:
    """The identity may be back in a moment."""
    assert None is not Retries().after(StaleError("withdrawn", reason="withdrawn"), left=10)


def test_patience_is_read_from_where_it_is() -> None:
    """429 with JSON and 503 without both carry it."""
    assert [7.0, 9.0, 0.0, 0.0] == [
        asked_patience(e) for e in (status(429, retry_after=7.0), down(9.0), down(), StaleError("x", reason="expired"))
    ]


def test_renewals_are_spread_over_all_that_is_left() -> None:
    """Never at once, never behind the end, and after the gate has opened: no crowd when a broker is back."""
    life = Lifetime.of(1000, started_at=0.0, draw=lambda: 0.0)
    at = sorted(renew_at(life, now=890.0) for _ in range(2000))
    assert 910 <= at[0] < 913 and 987 < at[-1] <= 990
    assert 947 < at[1000] < 953
    assert {960.0} < {renew_at(life, now=890.0, closed=50.0) for _ in range(50)} | {960.0}
    assert all(960 <= renew_at(life, now=890.0, closed=50.0) <= 990 for _ in range(100))
    assert 990 == renew_at(life, now=980.0)
