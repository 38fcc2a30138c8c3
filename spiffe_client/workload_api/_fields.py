"""How a message's fields become its attributes and back, by a table that each message holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, ClassVar, Generic, Protocol, Self, TypeAlias, TypeVar

from spiffe_client.errors import ProtocolError
from spiffe_client.workload_api import _wire

__all__ = ["BLOB", "MAX_ITEMS", "TEXT", "Layout", "MapOf", "Message", "Repeated", "Single"]

#: Most entries of one list or map of a message: far above any real one, and a bound on the work.
MAX_ITEMS = 4096

_T = TypeVar("_T")


class _Kind(Protocol):
    """What a field's occurrences add up to. Every field of this API is length-delimited."""

    def merge(self, held: Any, payload: bytes) -> Any:
        """Return what the field is after one more occurrence; `held` is None at the first."""
        ...

    def payloads(self, value: Any) -> Iterator[bytes]:
        """Yield what to write for a value: nothing for a default."""
        ...


class Single(Generic[_T]):
    """A field that is there at most once; of several occurrences the last counts."""

    def __init__(self, read: Callable[[bytes], _T], write: Callable[[_T], bytes]) -> None:
        self.read = read
        self.write = write

    def merge(self, held: _T | None, payload: bytes) -> _T:  # noqa: ARG002 - replaced
        """See `_Kind.merge`."""
        return self.read(payload)

    def payloads(self, value: _T) -> Iterator[bytes]:
        """See `_Kind.payloads`."""
        if payload := self.write(value):
            yield payload


class Repeated(Generic[_T]):
    """A list; a tuple in the message."""

    def __init__(self, item: Single[_T]) -> None:
        self._item = item

    def merge(self, held: list[_T] | None, payload: bytes) -> list[_T]:
        """See `_Kind.merge`."""
        items = [] if held is None else held
        items.append(self._item.read(payload))
        _check_count(items)
        return items

    def payloads(self, value: tuple[_T, ...]) -> Iterator[bytes]:
        """See `_Kind.payloads`."""
        return map(self._item.write, value)


class MapOf(Generic[_T]):
    """A map from text; of several entries with one key the last counts."""

    def __init__(self, item: Single[_T]) -> None:
        self._item = item

    def merge(self, held: dict[str, _T] | None, payload: bytes) -> dict[str, _T]:
        """See `_Kind.merge`."""
        items = {} if held is None else held
        key, value = "", self._item.read(b"")
        for field in _wire.read_fields(payload):
            match field:
                case (1, bytes(text)):
                    key = _wire.read_text(text)
                case (2, bytes(raw)):
                    value = self._item.read(raw)
                case _:
                    pass
        items[key] = value
        _check_count(items)
        return items

    def payloads(self, value: Mapping[str, _T]) -> Iterator[bytes]:
        """See `_Kind.payloads`."""
        for key, item in value.items():
            yield _wire.write_bytes(1, _wire.write_text(key)) + _wire.write_bytes(2, self._item.write(item))


TEXT = Single(_wire.read_text, _wire.write_text)
BLOB: Single[bytes] = Single(bytes, bytes)

#: Of each field number: the attribute, and what its occurrences add up to.
Layout: TypeAlias = Mapping[int, tuple[str, _Kind]]


def _check_count(items: Collection[object]) -> None:
    if len(items) > MAX_ITEMS:
        raise ProtocolError(f"more than {MAX_ITEMS} entries")


class Message:
    """A message of the Workload API: a frozen dataclass with a `LAYOUT` and all fields defaulted."""

    __slots__ = ()

    #: The message's name in the standard, for errors.
    NAME: ClassVar[str]
    LAYOUT: ClassVar[Layout]

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a message; fields that are unknown, or known with another wire type, are skipped.

        Raises:
            ProtocolError: It is malformed or has more than `MAX_ITEMS` entries somewhere; says where.
        """
        held: dict[str, Any] = {}
        try:
            for number, payload in _wire.read_fields(data):
                if number in cls.LAYOUT and isinstance(payload, bytes):
                    name, kind = cls.LAYOUT[number]
                    held[name] = _merge(name, kind, held.get(name), payload)
        except ProtocolError as error:
            raise ProtocolError(f"{cls.NAME}: {error}") from None
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in held.items()})

    def encode(self) -> bytes:
        """Write the message; defaults are left out.

        Raises:
            ProtocolError: A text or a JSON value cannot be written; says where.
        """
        out = bytearray()
        for number, (name, kind) in self.LAYOUT.items():
            try:
                for payload in kind.payloads(getattr(self, name)):
                    out += _wire.write_bytes(number, payload)
            except ProtocolError as error:
                raise ProtocolError(f"{self.NAME}.{name}: {error}") from None
        return bytes(out)


def _merge(name: str, kind: _Kind, held: object, payload: bytes) -> object:
    try:
        return kind.merge(held, payload)
    except ProtocolError as error:
        raise ProtocolError(f"in {name}: {error}") from None
