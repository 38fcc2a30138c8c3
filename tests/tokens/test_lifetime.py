"""Phases of a token: fractions of its life, counted from the start of the request."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.tokens._lifetime import Lifetime

SECONDS = st.floats(min_value=0, max_value=100_000)


def phases(expires_in: float | None, draw: float = 0.0, **options: object) -> Lifetime:
    return Lifetime.of(expires_in, started_at=0.0, draw=lambda: draw, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ttl", "soft", "hard"),
    [(30, (19.5, 22.5), 27), (120, (78, 90), 110), (300, (195, 225), 290), (3600, (2340, 2700), 3590)],
)
def test_the_phases_of_common_lifetimes(ttl: int, soft: tuple[float, float], hard: int) -> None:
    """A short token has all the phases that a long one has."""
    assert (pytest.approx(soft[1]), pytest.approx(hard)) == (phases(ttl).soft, phases(ttl).hard)
    assert pytest.approx(soft[0]) == phases(ttl, 1.0).soft


@pytest.mark.parametrize("unknown", [None, 0, 0.0])
def test_a_token_that_does_not_say_how_long_it_lives_does_not_live_for_ever(unknown: float | None) -> None:
    """`expires_in` is only recommended (RFC 6749 §5.1): one minute is assumed."""
    assert 60 == phases(unknown).ttl == phases(unknown).ends


def test_nobody_but_us_decides_how_long_is_too_long() -> None:
    """An absurd `expires_in` is cut to what was configured."""
    assert (600, 590) == (phases(1e12, max_ttl=600).ttl, phases(1e12, max_ttl=600).hard)


def test_counted_from_the_start_of_the_request() -> None:
    """The token broker counts from some moment after that."""
    life = Lifetime.of(100, started_at=1000.0, draw=lambda: 0.0)
    assert (1075, 1090, 1100) == (life.soft, life.hard, life.ends)


def test_the_token_broker_may_say_when_it_wants_to_be_asked() -> None:
    """`refresh_in` takes the place of three quarters, and never lies behind the end."""
    assert 500 == phases(1000, refresh_in=500).soft
    assert phases(1000).hard == phases(1000, refresh_in=5000).soft


@pytest.mark.parametrize(("ttl", "kept"), [(0.5, False), (10, False), (10.1, True), (60, True)])
def test_what_hardly_lives_is_not_kept(ttl: float, kept: bool) -> None:
    """Up to ten seconds: used once."""
    assert kept is phases(ttl).kept


def test_no_time_left_is_no_negative_time() -> None:
    """Bound to a certificate that has expired."""
    life = phases(300, max_ttl=-5)
    assert (0, 0, 0, False) == (life.ttl, life.soft, life.ends, life.kept)


@pytest.mark.parametrize(("ttl", "floor"), [(30, 1), (3600, 72)])
def test_attempts_have_a_distance(ttl: float, floor: float) -> None:
    """A broker that keeps tokens itself is not asked in a loop."""
    assert floor == phases(ttl).floor


@given(SECONDS, st.floats(0, 1), st.floats(-10, 1e6), st.booleans(), st.none() | SECONDS)
def test_phases_come_in_order(ttl: float, draw: float, start: float, spread: bool, refresh_in: float | None) -> None:
    """Whatever the numbers: fresh, due, expired, over; and never due at once."""
    life = Lifetime.of(ttl, started_at=start, refresh_in=refresh_in, spread=spread, draw=lambda: draw)
    assert start <= life.soft <= life.hard <= life.ends
    assert life.soft >= min(start + (1.0 if spread else life.floor), life.hard) - 1e-6


def test_those_who_start_together_do_not_come_back_together() -> None:
    """The first refresh after a start lies anywhere in the interval, evenly, and not in a tenth of it."""
    rng = random.Random(1)
    softs = [Lifetime.of(1000, started_at=0.0, spread=True, draw=rng.random).soft for _ in range(20_000)]
    tenths = [sum(70 * n <= soft < 70 * (n + 1) for soft in softs) / len(softs) for n in range(10)]
    assert all(0.08 < share < 0.12 for share in tenths[:9]), tenths
    assert max(softs) <= 750


def test_overdue() -> None:
    """A successor is late when more than the distance between attempts has passed since it was due."""
    life = phases(60)
    assert (45.0, 1.2) == (life.soft, life.floor)
    assert (False, True) == (life.overdue(46.2), life.overdue(46.3))


def test_the_same_token_once_more() -> None:
    """It ends when it ended, whatever is said of it now, and is asked for again within what is left."""
    former = phases(60)
    again = Lifetime.of(60, started_at=40.0, former=former, draw=lambda: 0.0)
    assert (54, 60, 60) == (again.hard, again.ends, again.ttl)
    assert again.soft == 54.0
    assert 45 < Lifetime.of(60, started_at=40.0, former=former, draw=lambda: 1.0).soft < 54
    less = Lifetime.of(10, started_at=40.0, former=former, draw=lambda: 0.0)
    assert (49, 50) == (less.hard, less.ends)
