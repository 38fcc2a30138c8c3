"""How many calls there may be in any minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.agents._budget import Rate


@given(st.integers(1, 5), st.lists(st.floats(0, 40, allow_nan=False), max_size=60))
def test_any_minute(per_minute: int, waits: list[float]) -> None:
    """Whatever the times are, no minute has more calls than it may, and none is refused without a full minute."""
    rate, now, taken = Rate(per_minute), 1000.0, list[float]()
    for wait in waits:
        now += wait
        recent = sum(now - at < 60 for at in taken)
        assert rate.take(now) is (recent < per_minute)
        taken += [now] * (recent < per_minute)


def test_a_minute_later() -> None:
    """What is a minute old does not count any more."""
    rate = Rate(2)
    assert [True, True, False, False, True, True] == [rate.take(at) for at in (0.0, 1.0, 2.0, 59.9, 60.0, 61.0)]


@pytest.mark.parametrize("every", [0.01, 1.0, 30.0])
def test_memory_is_bounded(every: float) -> None:
    """Only the times of a minute are kept, about twice at most, however many there may be."""
    rate, most = Rate(10_000), 0
    for number in range(20_000):
        rate.take(number * every)
        most = max(most, len(rate._times))
    assert most <= 2 * (60 / every + 1)
