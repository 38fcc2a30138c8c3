"""Evidence: the codes that the audit had while a test ran, whoever's agent it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from spiffe_client.audit import Event, _events
from tests.support.attacks import REFUSALS, WITHHELD, attacks_of

__all__ = ["compare", "compare_all", "denials"]

#: Of each test that has passed in this process, by its node id.
_SEEN = pytest.StashKey[dict[str, set[tuple[str, str]]]]()


@contextmanager
def denials() -> Iterator[set[tuple[str, str]]]:
    """Collect why calls, tokens and authority were denied, from all that is handed to any sink."""
    seen: set[tuple[str, str]] = set()
    real = _events._SafeSink.__call__

    def look(sink: _events._SafeSink, event: Event) -> None:
        if event.name == "call.denied":
            seen.add(("denied", str(event.attributes["reason"])))
        elif event.name in REFUSALS:
            seen.add(("refused", str(event.attributes["reason"])))
        elif event.name == WITHHELD:
            seen.add(("withheld", str(event.attributes["reason"])))
        elif event.name == "call.finished" and "ended" in event.attributes:
            seen.add(("ended", str(event.attributes["ended"])))
        elif event.name == "token.denied":
            seen.add(("token", str(event.attributes["error"])))
        real(sink, event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_events._SafeSink, "__call__", look)
        yield seen


def compare(item: pytest.Item, seen: set[tuple[str, str]]) -> None:
    """Fail unless the page says of a test what the audit had; one of several parameters may have a part of it."""
    item.config.stash.setdefault(_SEEN, {})[item.nodeid] = seen
    said = _said(item)
    assert seen <= said, f"the audit has {sorted(seen - said)}, which the test does not assert"
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    if not parameters.keys() - {"anyio_backend"}:
        missing = _missing(said, seen)
        assert not missing, f"the audit has not {sorted(missing)}, of which the test speaks"


def compare_all(session: pytest.Session) -> None:
    """Fail if the audit never had something of a test all of whose parameters have passed in this process."""
    passed = session.config.stash.get(_SEEN, {})
    tests: dict[str, list[pytest.Item]] = {}
    for item in session.items:
        tests.setdefault(_test_of(item), []).append(item)
    for items in tests.values():
        if all(item.nodeid in passed for item in items):
            seen = set().union(*(passed[item.nodeid] for item in items))
            said = _said(items[0])
            assert seen <= said, _test_of(items[0])
            assert not _missing(said, seen), _test_of(items[0])


def _missing(said: set[tuple[str, str]], seen: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What was not seen. In a race one way to end a task comes first, and it may find no call that it cancels."""
    return {code for code in said - seen if code[0] != "ended" or not seen}


def _test_of(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _said(item: pytest.Item) -> set[tuple[str, str]]:
    (attack,) = (it for it in attacks_of(_test_of(item).partition("::")[0]) if it.id == _test_of(item))
    return {code for code in attack.codes if code[0] in ("denied", "refused", "withheld", "token", "ended")}
