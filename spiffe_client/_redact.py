"""A value that never shows itself by accident."""

from __future__ import annotations

import hashlib
import hmac
from typing import Generic, NoReturn, TypeVar

__all__ = ["Secret", "fingerprint"]

_T = TypeVar("_T", str, bytes)


class Secret(Generic[_T]):
    """A key or token: not in repr, str, format, pickles or copies; compared in constant time.

    Args:
        value: What to keep; `reveal()` is the only way to it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: _T) -> None:
        self._value: _T = value

    def reveal(self) -> _T:
        """Return the value; the caller answers for where it goes."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_as_bytes(self._value), _as_bytes(other._value))

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def fingerprint(value: str | bytes) -> str:
    """Return 12 hex digits of SHA-256, to tell secrets apart in a log without showing them."""
    return hashlib.sha256(_as_bytes(value)).hexdigest()[:12]
