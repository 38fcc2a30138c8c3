"""One line of an audit trail: how it is written, chained to the one before it, and read.

    {"seq":7,"at":"…","event":"…","message":"…","level":20,"facts":{…},"prev":"…","hash":"…"}

`hash` is the SHA-256, in hex, of the bytes of the line before `,"hash"`; `prev` is the `hash` of
the line before. So the last hash stands for all that was written.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TypeAlias

import msgspec

from spiffe_client.audit._events import Event
from spiffe_client.errors import AuditError

__all__ = [
    "FIRST_PREV",
    "HASH_BYTES",
    "MAX_LINE_BYTES",
    "Fact",
    "Record",
    "body_of",
    "moment_of",
    "own_body",
    "parse_record",
    "seal",
    "stamp",
]

Fact: TypeAlias = str | int | float | bool | None

#: What the header is chained to.
FIRST_PREV: Final = b"0" * 64
#: How long the end of a line is that its hash is not over: `,"hash":"…"}`.
HASH_BYTES: Final = 75
#: Longest line that is read, in bytes, its line feed included.
MAX_LINE_BYTES: Final = 256 << 10
#: Longest body that is written as it is; the texts of a longer one are cut.
_MAX_BODY_BYTES = 32 << 10
_CUT, _MOST_FACTS = 512, 48


class Record(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What one line says.

    Attributes:
        seq: Its number, counted from 0, which is the header.
        at: When, RFC 3339, in UTC, to the microsecond.
        event: The event's name; those that begin with `trail.` are of the trail itself.
        message: The same for people.
        level: As in `logging`.
        facts: The event's attributes.
        prev: The hash of the line before it.
        hash: Its own.
    """

    seq: int
    at: str
    event: str
    message: str
    level: int
    facts: dict[str, Fact]
    prev: str
    hash: str


class _Body(msgspec.Struct, gc=False):
    event: str
    message: str
    level: int
    facts: dict[str, Fact]


_encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
_decode: Callable[[bytes], Record] = msgspec.json.Decoder(Record).decode
_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z").fullmatch


def stamp(moment: datetime) -> str:
    """Write a moment as records have it.

    Args:
        moment: Aware, in UTC.
    """
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


def moment_of(at: str) -> datetime | None:
    """Read a moment as records have it; None if it is none."""
    try:
        return datetime.fromisoformat(at).astimezone(UTC) if _AT(at) else None
    except (ValueError, OverflowError):
        return None


def body_of(event: Event) -> bytes:
    """Encode what a record says, without its time and its place in the chain.

    Whatever the attributes hold, something is written: what is neither text, number nor truth value
    as its text, what is too long cut, with `facts_cut`. What looks like a credential is still in it.

    Args:
        event: What happened.
    """
    name = event.name if type(event.name) is str else _text(event.name)
    if name[:6] == "trail.":
        name = f"event.{name}"  # the trail's own names are not for others to write
    facts: dict[str, Fact] = {**event.attributes}
    try:
        body = _encode(_Body(name, event.message, event.level, facts))
        texts = type(event.message) is str
        plain = texts and type(event.level) is int and _PLAIN.issuperset(map(type, facts.values()))
    except Exception:  # noqa: BLE001 - border to user code: whatever is in there, the event is written
        plain = False
        body = b""
    if not plain or len(body) > _MAX_BODY_BYTES:
        body = _encode(_Body(_text(name), _text(event.message), _level(event.level), _flat(facts)))
    return body


_PLAIN = frozenset({str, int, float, bool})


def own_body(name: str, message: str, facts: Mapping[str, Fact]) -> bytes:
    """Encode a record of the trail itself; arguments as those of `Event`."""
    return _encode(_Body(name, message, 20, dict(facts)))


def _level(level: object) -> int:
    return int(level) if isinstance(level, int) else 0


def _text(value: object) -> str:
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - border to user code, see above
        text = f"({type(value).__name__})"
    cut = text if len(text) <= _CUT else f"{text[:_CUT]}…"
    return cut.encode("utf-8", "backslashreplace").decode()


def _flat(facts: Mapping[str, object]) -> dict[str, Fact]:
    flat: dict[str, Fact] = {}
    for key, value in list(facts.items())[:_MOST_FACTS]:
        small = isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 63)
        flat[_text(key)] = value if small else _text(value)  # type: ignore[assignment]
    return {**flat, "facts_cut": True}


def seal(at: str, body: bytes, seq: int, prev: bytes) -> tuple[bytes, bytes]:
    """Give a record its time and its place in the chain.

    Args:
        at: When, as `stamp` writes it.
        body: As `body_of` or `own_body` returns it.
        seq: Its number.
        prev: The hash of the line before it, hex.

    Returns:
        The line with its line feed, and its hash, hex.
    """
    hashed = b'{"seq":%d,"at":"%b",%b,"prev":"%b"' % (seq, at.encode(), body[1:-1], prev)
    digest = hashlib.sha256(hashed).hexdigest().encode()
    return b'%b,"hash":"%b"}\n' % (hashed, digest), digest


def parse_record(text: bytes, *, line: int = 0) -> Record:
    """Read a line, which must be spelled as it is written here: each text has one meaning.

    Args:
        text: Without its line feed.
        line: Its number in the file, for the error.

    Raises:
        AuditError: It is no record, or another program's.
    """
    try:
        record = _decode(text)
        same = _encode(record) == text
    except Exception:  # noqa: BLE001 - border: what a parser says about such a line helps nobody
        raise AuditError(f"line {line} is no record of an audit trail", line=line) from None
    if not same:
        raise AuditError(f"line {line} is not spelled as an audit trail spells its records", line=line)
    if not _AT(record.at):
        raise AuditError(f"line {line} has no time in UTC", line=line)
    return record
