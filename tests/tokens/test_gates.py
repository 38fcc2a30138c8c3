"""A `Retry-After` holds for all requests to the endpoint (RFC 9110 §10.2.3)."""

from __future__ import annotations

from spiffe_client.tokens._gates import Gate


def test_open_at_first() -> None:
    """Nobody waits for nothing."""
    assert 0.0 == Gate().wait(5.0, left=10.0)


def test_closed_for_as_long_as_asked() -> None:
    """Until then, and not a moment longer."""
    gate = Gate(draw=lambda: 0.0)
    gate.shut(5.0, now=100.0)
    assert (3.0, 3.0) == (gate.left(102.0), gate.wait(102.0, left=10.0))
    assert (0.0, 0.0) == (gate.left(105.0), gate.wait(105.0, left=10.0))


def test_a_shorter_wish_does_not_open_it() -> None:
    """The longest counts."""
    gate = Gate()
    gate.shut(5.0, now=0.0)
    gate.shut(1.0, now=0.0)
    assert 5.0 == gate.left(0.0)


def test_nobody_makes_us_wait_for_ever() -> None:
    """A minute at most, whatever is asked: `Retry-After: 999999999` is no way to switch a client off."""
    gate = Gate()
    gate.shut(1e9, now=0.0)
    assert 60.0 == gate.left(0.0)


def test_who_has_no_time_hears_it_at_once() -> None:
    """Failing fast beats waiting for what comes too late."""
    gate = Gate()
    gate.shut(30.0, now=0.0)
    assert None is gate.wait(0.0, left=30.0)
    assert None is gate.wait(0.0, left=10.0)


def test_not_all_at_the_moment_it_opens() -> None:
    """Those who waited come one after the other, and each has time left for its request."""
    last = Gate(draw=lambda: 1.0)
    last.shut(5.0, now=0.0)
    assert (6.0, 5.5) == (last.wait(0.0, left=10.0), last.wait(0.0, left=6.0))
    last.shut(60.0, now=0.0)
    assert 66.0 == last.wait(0.0, left=200.0)
