"""What is written of an event, whatever the event holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.audit import Event
from spiffe_client.audit._file import hash_fits
from spiffe_client.audit._record import FIRST_PREV, MAX_LINE_BYTES, body_of, moment_of, parse_record, seal, stamp
from spiffe_client.audit._scrub import scrubbed
from spiffe_client.errors import AuditError
from tests.support.work import growth

AT = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)


def written(event: Event) -> dict:
    line, digest = seal(stamp(AT), body_of(event), 3, FIRST_PREV)
    assert hash_fits(line[:-1])
    record = parse_record(line[:-1])
    assert (3, digest.decode()) == (record.seq, record.hash)
    return json.loads(line)


class TestBody:
    def test_a_usual_one(self) -> None:
        """The keys, in their order, that the documentation promises."""
        record = written(Event("call.denied", "no", {"task": "t", "depth": 1, "late": True, "took": 0.5}, 30))
        assert ["seq", "at", "event", "message", "level", "facts", "prev", "hash"] == list(record)
        assert "2026-03-01T12:00:00.000005Z" == record["at"]
        assert {"task": "t", "depth": 1, "late": True, "took": 0.5} == record["facts"]

    def test_odd_attributes(self) -> None:
        """What is neither text, number nor truth value is written as text, and that is said."""

        class Mute:
            def __str__(self) -> str:
                raise RuntimeError("no")

        facts = {"b": b"x", "n": None, "o": Mute(), "l": [1], "f": 1.5, "s": "\ud800", 7: "seven", "big": 1 << 80, "huge": 1 << 20_000}
        record = written(Event("a.b", "half \ud800 a character", facts))  # type: ignore[arg-type]
        assert {
            "b": "b'x'", "n": "None", "o": "(Mute)", "l": "[1]", "f": 1.5, "s": "\\ud800", "7": "seven", "big": str(1 << 80), "huge": "(int)",
            "facts_cut": True,
        } == record["facts"]  # fmt: skip
        assert "half \\ud800 a character" == record["message"]

    def test_an_odd_level(self) -> None:
        """Is none; and a name that is no text is written as one."""
        assert 0 == written(Event("a.b", "m", {}, "loud"))["level"]  # type: ignore[arg-type]
        assert 1 == written(Event("a.b", "m", {}, True))["level"]
        assert "None" == written(Event(None, "m"))["event"]  # type: ignore[arg-type]

    def test_a_huge_number(self) -> None:
        """It would not be read again."""
        assert "(int)" == written(Event("a.b", "m", {"x": 1 << 20_000}))["facts"]["x"]

    def test_numbers_that_are_none(self) -> None:
        """JSON has no infinity."""
        assert {"x": None} == written(Event("a.b", "m", {"x": float("inf")}))["facts"]

    def test_too_long(self) -> None:
        """Texts are cut, and facts left out, so that a line stays one that is read."""
        facts = {f"key {n}": "y" * 10_000 for n in range(1000)}
        record = written(Event("a.b", "x" * 1_000_000, facts))
        assert len(json.dumps(record)) < MAX_LINE_BYTES
        assert record["facts"]["facts_cut"] is True
        assert record["message"].endswith("x…")

    @given(st.text(), st.dictionaries(st.text(max_size=9), st.text() | st.integers() | st.floats() | st.booleans()))
    def test_whatever_it_is(self, text: str, facts: dict) -> None:
        """It is written, and read again."""
        written(Event(text, text, facts))

    def test_names_of_the_trail(self) -> None:
        """Are not for others."""
        assert "event.trail.checkpoint" == written(Event("trail.checkpoint", "m"))["event"]


class TestParse:
    @pytest.mark.parametrize("at", ["2026-03-01T12:00:00Z", "2026-03-01T12:00:00.000005+00:00", ""])
    def test_a_time_of_another_form(self, at: str) -> None:
        """One form, so that text sorts as time does."""
        line, _ = seal(stamp(AT), body_of(Event("a", "b")), 0, FIRST_PREV)
        with pytest.raises(AuditError, match="line 4 has no time"):
            parse_record(line[:-1].replace(stamp(AT).encode(), at.encode()), line=4)

    def test_moments(self) -> None:
        """There and back; what has the form and is none is none."""
        assert AT == moment_of(stamp(AT))
        assert None is moment_of("2026-13-01T12:00:00.000005Z")
        assert None is moment_of("yesterday")


class TestScrub:
    @pytest.mark.parametrize(
        ("text", "clean"),
        [
            (b'{"a":"eyJhbGciOiJub25lIn0.e30.x y"}', b'{"a":"(a token) y"}'),
            (b'{"a":"Bearer abcdefghijklmnop1234=","b":"DPoP short"}', b'{"a":"Bearer (a credential)","b":"DPoP short"}'),
            (b'{"a":"-----BEGIN PRIVATE KEY-----\\nMII\\n-----END PRIVATE KEY-----\\n"}', b'{"a":"(a private key)\\n"}'),
            (b'{"a":"-----BEGIN EC PRIVATE KEY-----\\nM\\"I","b":1}', b'{"a":"(a private key)","b":1}'),
            (b'{"a":"eyJ is how tokens begin"}', b'{"a":"eyJ is how tokens begin"}'),
        ],
        ids=["token", "header", "key", "half_a_key", "harmless"],
    )
    def test_what_looks_like_a_credential(self, text: bytes, clean: bytes) -> None:
        """Is taken out, and it stays JSON."""
        assert clean == scrubbed(text)
        json.loads(clean)

    @pytest.mark.parametrize("piece", [b"eyJ", b"-----BEGIN ", b"-----BEGIN PRIVATE KEY-----", b"Bearer ", b"Bearer", b"eyJa."])
    def test_no_text_takes_long(self, piece: bytes) -> None:
        """Whoever chooses a text does not choose how long the writer is at it."""
        assert growth(lambda size: scrubbed(b'{"a":"' + piece * (size // len(piece)) + b'"}'), 32_768) < 24
