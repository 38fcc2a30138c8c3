"""The page about token brokers names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.peers

HERE = Path(__file__).parent


def test_every_test_the_page_names_exists() -> None:
    """No row of docs/token-brokers.md promises a test that is not there."""
    page = (HERE.parents[1] / "docs" / "token-brokers.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    there = {n for f in HERE.glob("test_*.py") for n in re.findall(r"def (test_\w+)", f.read_text())}
    assert set() == named - there
    assert 30 < len(named)
