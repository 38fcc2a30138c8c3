"""Names of a room that are loaded when they are first used (PEP 562).

Start-up is measured: on the way to the first X509-SVID nothing of JWT, of servers or of documents
is needed, and each module that is not loaded saves about half a millisecond and its memory.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # what type checkers read as typing.TYPE_CHECKING, without loading typing
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["load_name"]


def load_name(room: str, homes: Mapping[str, str], name: str) -> object:
    """Do what a room's `__getattr__` is for: load the module that holds a name.

    Args:
        room: The room's `__name__`.
        homes: Which module holds each public name, as its full dotted name.
        name: What is asked for.

    Raises:
        AttributeError: The room has no such name.
    """
    from importlib import import_module

    home = homes.get(name)
    if home is None:
        raise AttributeError(f"module {room!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    setattr(sys.modules[room], name, value)  # the next use is a plain attribute load
    return value
