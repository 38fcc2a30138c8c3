"""Names of a room that are loaded when they are first used (PEP 562).

Start-up is measured: on the way to the first X509-SVID nothing of JWT, of servers or of documents
is needed, and each module that is not loaded saves about half a millisecond and its memory.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # what type checkers read as typing.TYPE_CHECKING, without loading typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["lazy_names"]


def lazy_names(
    room: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make a room's `__getattr__` and `__dir__`.

    Args:
        room: The room's `__name__`.
        homes: Which module holds each public name, as its full dotted name.
    """

    def load(name: str) -> object:
        from importlib import import_module

        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        value = getattr(import_module(home), name)
        setattr(sys.modules[room], name, value)  # the next use is a plain attribute load
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[room]), *homes})

    return load, names
