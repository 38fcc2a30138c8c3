"""A fleet does not come in waves, and an outage does not make one (the simulation that the figures use)."""

from __future__ import annotations

import pytest
from tests.bench._fleet_policy import Fleet, Outage
from tests.bench._fleet_plot import svg, text
from tests.bench.fleet import START, busiest, describe, steady_mean

OUTAGE = Outage(3600.0, 3900.0)


@pytest.fixture(scope="module")
def run():
    return Fleet(5000, 1800.0, OUTAGE).play(7200)


def test_no_wave_after_all_restarted_at_once(run) -> None:
    """From the first minute on the load is even: chance alone moves it."""
    mean = steady_mean(run, OUTAGE)
    assert 5000 == run.tries[0]
    assert busiest(run, START, 3600, 300) < 1.2 * mean


def test_no_wave_when_the_token_broker_is_back(run) -> None:
    """Twice the mean is not reached, while it is down and after."""
    assert busiest(run, 3600, 7200, 60) < 2.0 * steady_mean(run, OUTAGE)


def test_nobody_was_without_a_token(run) -> None:
    """An outage shorter than the rest of a token's life costs nothing."""
    assert 0.0 == run.without


def test_patience_is_obeyed() -> None:
    """With `Retry-After` nobody asks more often than it says."""
    told = Fleet(500, 60.0, Outage(120.0, 240.0, retry_after=60.0)).play(300)
    untold = Fleet(500, 60.0, Outage(120.0, 240.0)).play(300)
    assert sum(told.tries[s] for s in range(120, 240)) < 4 * 500 < sum(untold.tries[s] for s in range(120, 240))
    assert told.longest > 0


def test_it_can_be_looked_at(run) -> None:
    """As text and as a picture."""
    mean = steady_mean(run, OUTAGE)
    assert "steady mean" in describe(run, OUTAGE, 7200)
    assert "xx" in text(run.tries, mean, (OUTAGE.start, OUTAGE.end), 7200)
    assert svg(run.tries, mean, (OUTAGE.start, OUTAGE.end), 7200, "a & b").startswith("<svg")
