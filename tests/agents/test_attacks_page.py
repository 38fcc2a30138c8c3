"""The page for auditors says what the tests of attacks say, and these have in the audit what they say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support import attack_kinds, attacks_page
from tests.support.attack_kinds import KINDS, attacks_by_kind
from tests.support.attacks import ADVERSARY, ROOT, attacks_of
from tests.support.attacks_seen import compare_all


def test_the_page_is_current() -> None:
    """It is what the tests say now."""
    current = attacks_page.page() == attacks_page.PAGE.read_text()
    assert current, "write it anew: python -m tests.support.attacks_page"


def test_codes_are_those_of_the_audit(request: pytest.FixtureRequest) -> None:
    """Of all attacks that were made before this test, over all their parameters; each by itself is compared as it ends."""
    compare_all(request.session)


def test_all_attacks_of_the_adversary_are_there() -> None:
    """Each of them, once."""
    files = (str(path.relative_to(ROOT)) for path in (ROOT / ADVERSARY).glob("test_*.py"))
    shown = [it.id for attacks in attacks_by_kind().values() for it in attacks]
    assert len(shown) == len(set(shown))
    assert {it.id for file in files for it in attacks_of(file)} <= set(shown)


@pytest.mark.parametrize(
    ("tests", "why"),
    [("", "is of no kind"), (f"{KINDS[0].tests} test_names.py::test_gone", "there is no test")],
    ids=["left out", "gone"],
)
def test_a_list_of_kinds_that_is_wrong(monkeypatch: pytest.MonkeyPatch, tests: str, why: str) -> None:
    """It is told, and no page is made of it."""
    monkeypatch.setattr(attack_kinds, "KINDS", (replace(KINDS[0], tests=tests), *KINDS[1:]))
    with pytest.raises(ValueError, match=why):
        attacks_page.page()
