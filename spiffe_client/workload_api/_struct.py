"""`google.protobuf.Struct`: a JSON object as protobuf says it (the claims of ValidateJWTSVID).

A `Value` seen twice merges with itself as protobuf demands: an object takes the new keys in, a
list grows, anything else is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from spiffe_client.errors import ProtocolError
from spiffe_client.workload_api import _wire

__all__ = ["MAX_DEPTH", "STRUCT", "JsonObject", "JsonValue", "merge_struct", "write_struct"]

JsonValue: TypeAlias = (
    "bool | int | float | str | list[JsonValue] | tuple[JsonValue, ...] | Mapping[str, JsonValue] | None"
)
JsonObject: TypeAlias = Mapping[str, JsonValue]

#: Most objects and lists within each other; protobuf itself stops at about this depth.
MAX_DEPTH = 32
#: Whole numbers up to here are the same number as a double.
_EXACT = 2**53


def merge_struct(held: dict[str, JsonValue], data: bytes, *, depth: int = 0) -> None:
    """Read a `Struct` into `held`.

    Args:
        held: What an earlier occurrence of the same field said; a key seen again is replaced.
        data: The message.
        depth: How many objects and lists are around this one.

    Raises:
        ProtocolError: It is malformed, or deeper than `MAX_DEPTH`.
    """
    _check_depth(depth)
    for field in _wire.read_fields(data):
        match field:
            case (1, bytes(entry)):
                key, value = _read_entry(entry, depth)
                held[key] = value
            case _:
                pass


def _read_entry(data: bytes, depth: int) -> tuple[str, JsonValue]:
    key = ""
    value: JsonValue = None
    for field in _wire.read_fields(data):
        match field:
            case (1, bytes(text)):
                key = _wire.read_text(text)
            case (2, bytes(message)):
                value = _merge_value(value, message, depth)
            case _:
                pass
    return key, value


def _merge_value(held: JsonValue, data: bytes, depth: int) -> JsonValue:
    for field in _wire.read_fields(data):
        match field:
            case (1, int()):
                held = None
            case (2, float(number)):
                held = _plain(number)
            case (3, bytes(text)):
                held = _wire.read_text(text)
            case (4, int(truth)):
                held = truth != 0
            case (5, bytes(message)):
                held = held if isinstance(held, dict) else {}
                merge_struct(held, message, depth=depth + 1)
            case (6, bytes(message)):
                held = held if isinstance(held, list) else []
                _merge_list(held, message, depth + 1)
            case _:
                pass
    return held


def _merge_list(held: list[JsonValue], data: bytes, depth: int) -> None:
    _check_depth(depth)
    for field in _wire.read_fields(data):
        match field:
            case (1, bytes(message)):
                held.append(_merge_value(None, message, depth))
            case _:
                pass


def _plain(number: float) -> int | float:
    """Return a whole number as the int that JSON would have made of it: `exp`, `iat`."""
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ProtocolError(f"more than {MAX_DEPTH} objects or lists are nested in a Struct")


def write_struct(value: JsonObject, *, depth: int = 0) -> bytes:
    """Return a JSON object as a `Struct`.

    Raises:
        ProtocolError: It holds something that JSON or a double cannot say, or is too deep.
    """
    _check_depth(depth)
    out = bytearray()
    for key, item in value.items():
        if not isinstance(key, str):
            raise ProtocolError(f"a key of a Struct is text, not {type(key).__name__}")
        entry = _wire.write_bytes(1, _wire.write_text(key)) + _wire.write_bytes(2, _write_value(item, depth))
        out += _wire.write_bytes(1, entry)
    return bytes(out)


def _write_value(value: JsonValue, depth: int) -> bytes:
    match value:
        case None:
            return _wire.write_varint(1, 0)
        case bool():
            return _wire.write_varint(4, value)
        case int() | float():
            return _wire.write_double(2, _double(value))
        case str():
            return _wire.write_bytes(3, _wire.write_text(value))
        case Mapping():
            return _wire.write_bytes(5, write_struct(value, depth=depth + 1))
        case list() | tuple():
            _check_depth(depth + 1)
            items = (_wire.write_bytes(1, _write_value(item, depth + 1)) for item in value)
            return _wire.write_bytes(6, b"".join(items))
        case _:
            raise ProtocolError(f"a Struct cannot hold a {type(value).__name__}")


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        raise ProtocolError("a number of a Struct is larger than a double can say") from None


class _Struct:
    """A message's field that is a JSON object; of several occurrences each adds its keys."""

    def merge(self, held: dict[str, JsonValue] | None, payload: bytes) -> dict[str, JsonValue]:
        items = {} if held is None else held
        merge_struct(items, payload)
        return items

    def payloads(self, value: JsonObject) -> Iterator[bytes]:
        if value:
            yield write_struct(value)


STRUCT = _Struct()
