"""A refusal is remembered for a second, and there is no end of requests that may be refused."""

from __future__ import annotations

from tests.support.token_world import denied

from spiffe_client.tokens._refusals import Refusals


def test_for_a_second() -> None:
    """And then forgotten."""
    refusals, error = Refusals(), denied()
    refusals.note(b"a", error, now=10.0)
    assert (error, None) == (refusals.of(b"a", now=10.9), refusals.of(b"b", now=10.9))
    assert (None, 0) == (refusals.of(b"a", now=11.0), len(refusals))


def test_a_flood_is_bounded() -> None:
    """Old ones go first; in a flood all go: remembering is a courtesy."""
    refusals, error = Refusals(), denied()
    for n in range(1024):
        refusals.note(b"%d" % n, error, now=0.0)
    refusals.note(b"x", error, now=0.5)
    assert 1 == len(refusals)
    for n in range(1023):
        refusals.note(b"%d" % n, error, now=1.2)
    refusals.note(b"y", error, now=1.6)
    assert (1024, error) == (len(refusals), refusals.of(b"y", now=1.7))
