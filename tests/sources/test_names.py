"""The room's names load at their first use."""

import pytest

from spiffe_client import sources


def test_names() -> None:
    """All are there, listed, and a typo is an AttributeError."""
    assert set(sources.__all__) <= set(dir(sources))
    for name in sources.__all__:
        assert getattr(sources, name) is getattr(sources, name)
    with pytest.raises(AttributeError, match="no attribute 'X509Sauce'"):
        sources.X509Sauce
