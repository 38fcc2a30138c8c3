"""Which library's names are meant: httpx, or one that has the same, such as its continuation httpx2.

What is written here once serves both. The classes below the public ones take the module as a class
attribute; what only sees a request asks which library it is of.
"""

from __future__ import annotations

import sys
from typing import Any, Final, TypeAlias

__all__ = ["Library", "library_of"]

#: The module `httpx`, or one with its names; modules have no types that could say so.
Library: TypeAlias = Any

_LIBRARIES: Final = frozenset({"httpx", "httpx2", "httpcore", "httpcore2"})


def library_of(message: object) -> Library:
    """Return the library that a request is of, which may be of a subclass of somebody else's."""
    # Each of them says of its public classes that they are of the top module.
    return next(
        sys.modules[kind.__module__] for kind in type(message).__mro__ if kind.__module__ in _LIBRARIES
    )
