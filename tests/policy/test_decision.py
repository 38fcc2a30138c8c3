"""A decision says one thing."""

from __future__ import annotations

import pytest

from spiffe_client import policy
from spiffe_client.policy import Decision


@pytest.mark.parametrize(("allowed", "reason"), [(True, "rate"), (False, "allowed")])
def test_no_decision_means_two_things(allowed: bool, reason: policy.Reason) -> None:
    """Who looks at one of them and not at the other is not misled."""
    with pytest.raises(ValueError, match="cannot have the reason"):
        Decision(allowed=allowed, reason=reason)


def test_it_is_a_value() -> None:
    """Frozen, comparable, usable as a key."""
    one = Decision(allowed=False, reason="rate", evidence=(("limit", 60),))
    assert 1 == len({one, Decision(allowed=False, reason="rate", evidence=(("limit", 60),))})


def test_the_room_offers_what_it_names() -> None:
    """Also to those who look around."""
    assert set(policy.__all__) <= set(dir(policy))
