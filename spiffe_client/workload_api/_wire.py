"""Protobuf's wire format, as much of it as the Workload API's messages need.

Bytes in, numbered fields out, and back. What a field means is the business of `_messages`; all
that is known here is how long it is. Every malformed byte string is a `ProtocolError` that says at
which byte, and none of them is quoted: what is malformed may still hold a key.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, TypeAlias

from spiffe_client.errors import ProtocolError

__all__ = [
    "Field",
    "WireType",
    "read_fields",
    "read_text",
    "write_bytes",
    "write_double",
    "write_text",
    "write_varint",
]

#: Most groups within groups that are skipped; nothing of the Workload API uses even one.
MAX_GROUPS = 100

_UINT32 = (1 << 32) - 1
_UINT64 = (1 << 64) - 1
_INT32 = (1 << 31) - 1


class WireType:
    """How a field's value is laid out; the lower three bits of its tag."""

    VARINT: Final = 0
    FIXED64: Final = 1
    BYTES: Final = 2
    GROUP: Final = 3
    END_GROUP: Final = 4
    FIXED32: Final = 5


#: A field's number and value: the type of the value tells its wire type (int: a varint, float: 64
#: fixed bits as a double, bytes: length-delimited, None: one that no message here uses).
Field: TypeAlias = tuple[int, int | float | bytes | None]


def _read_varint(data: bytes, at: int, *, most: int, limit: int) -> tuple[int, int]:
    """Return the varint at `at` and where it ends: at most `most` bytes, at most `limit`."""
    value = 0
    for size, byte in enumerate(data[at : at + most]):
        value |= (byte & 0x7F) << (7 * size)
        if byte < 0x80:
            if value > limit:
                raise ProtocolError(f"a number is too large at byte {at}")
            return value, at + size + 1
    if len(data) - at < most:
        raise ProtocolError(f"a number is cut short at byte {at}")
    raise ProtocolError(f"a number has more than {most} bytes at byte {at}")


def _read_tag(data: bytes, at: int) -> tuple[int, int, int]:
    tag, after = _read_varint(data, at, most=5, limit=_UINT32)
    if tag < 1 << 3:
        raise ProtocolError(f"a field has number 0 at byte {at}")
    return tag >> 3, tag & 7, after


def _take(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if size > len(data) - at:
        raise ProtocolError(f"a field of {size} bytes is cut short at byte {at}")
    return data[at : at + size], at + size


def _read_value(data: bytes, at: int, wire_type: int) -> tuple[int | float | bytes | None, int]:
    match wire_type:
        case WireType.BYTES:
            size, at = _read_varint(data, at, most=5, limit=_INT32)
            return _take(data, at, size)
        case WireType.VARINT:
            # Ten bytes carry 70 bits; the ones above 64 are dropped, as everywhere in protobuf.
            value, at = _read_varint(data, at, most=10, limit=(1 << 70) - 1)
            return value & _UINT64, at
        case WireType.FIXED64:
            raw, at = _take(data, at, 8)
            return struct.unpack("<d", raw)[0], at
        case WireType.FIXED32:
            return None, _take(data, at, 4)[1]
        case _:
            raise ProtocolError(f"wire type {wire_type} has no place at byte {at}")


def _skip_group(data: bytes, at: int, number: int) -> int:
    """Return where the group ends whose content starts at `at`."""
    open_groups = [number]
    while open_groups:
        inner, wire_type, at = _read_tag(data, at)
        if wire_type == WireType.GROUP:
            open_groups.append(inner)
            if len(open_groups) > MAX_GROUPS:
                raise ProtocolError(f"more than {MAX_GROUPS} groups are nested at byte {at}")
        elif wire_type == WireType.END_GROUP:
            if open_groups.pop() != inner:
                raise ProtocolError(f"a group ends that did not begin at byte {at}")
        else:
            _, at = _read_value(data, at, wire_type)
    return at


def read_fields(data: bytes) -> Iterator[Field]:
    """Yield the fields of one message in their order, groups left out.

    Args:
        data: The whole message.

    Raises:
        ProtocolError: It is not a message; raised where reading comes to it.
    """
    at = 0
    while at < len(data):
        number, wire_type, at = _read_tag(data, at)
        if wire_type == WireType.GROUP:
            at = _skip_group(data, at, number)
        else:
            value, at = _read_value(data, at, wire_type)
            yield number, value


def read_text(payload: bytes) -> str:
    """Return a `string` field's text.

    Raises:
        ProtocolError: It is not UTF-8.
    """
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        at = error.start
    # Outside the handler: a UnicodeDecodeError carries the bytes, which may be a key.
    raise ProtocolError(f"a text is not UTF-8 at its byte {at}")


def write_varint(number: int, value: int) -> bytes:
    """Return a varint field, its value within 64 bits."""
    return _varint(number << 3 | WireType.VARINT) + _varint(value)


def write_double(number: int, value: float) -> bytes:
    """Return a `double` field."""
    return _varint(number << 3 | WireType.FIXED64) + struct.pack("<d", value)


def write_bytes(number: int, payload: bytes) -> bytes:
    """Return a length-delimited field: bytes, text or a message."""
    return _varint(number << 3 | WireType.BYTES) + _varint(len(payload)) + payload


def write_text(text: str) -> bytes:
    """Return the payload of a `string` field.

    Raises:
        ProtocolError: It holds half of a surrogate pair, which UTF-8 cannot say.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        at = error.start
    raise ProtocolError(f"a text has half of a surrogate pair at character {at}")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
