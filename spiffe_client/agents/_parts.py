"""What values of other people's classes are made of, where their class says so, and copies of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from copy import copy
from functools import lru_cache
from types import GetSetDescriptorType, MemberDescriptorType, SimpleNamespace
from typing import Final

import msgspec

__all__ = ["copied", "parts_of", "put"]

#: Where classes say what their values are made of, beside dataclasses: attrs, msgspec, pydantic of today and before.
_DECLARED: Final = (
    "__attrs_attrs__",
    "__struct_fields__",
    "__pydantic_core_schema__",
    "__pre_root_validators__",
)
_UNNAMED: Final = ("__pydantic_extra__", "__pydantic_private__")
_ABSENT: Final = object()
_SLOT: Final = (MemberDescriptorType, GetSetDescriptorType)


@lru_cache(maxsize=256)
def _declared(kind: type) -> tuple[str, ...] | None:
    """Return the parts that a class declares, beside what its values have in a dictionary; None for no such class.

    Of the others, just those that are slots: reading what has code behind it may ask a database.
    """
    attributes, members, *models = (getattr(kind, name, None) for name in _DECLARED)
    names: Iterable[str]
    if issubclass(kind, BaseException):
        names = ("args",)
    elif dataclasses.is_dataclass(kind):
        names = (field.name for field in dataclasses.fields(kind))
    elif attributes is not None:
        names = (field.name for field in attributes)
    elif members is not None:
        names = members
    elif models != [None, None] or issubclass(kind, SimpleNamespace):
        names = _UNNAMED
    else:
        return None
    return tuple(name for name in names if isinstance(getattr(kind, name, None), _SLOT))


def parts_of(value: object) -> dict[str, object] | None:
    """Return what a value is made of, by name, if its class says so; None if that cannot be known."""
    if (names := _declared(type(value))) is None:  # type: ignore[arg-type]  # a class can be hashed
        return None
    parts: dict[str, object] = dict(getattr(value, "__dict__", ()))
    for name in names:
        if name not in parts and (part := getattr(value, name, _ABSENT)) is not _ABSENT:
            parts[name] = part
    return parts


def put(clone: object, name: str, part: object) -> None:
    """Set a part, also of what is frozen."""
    if isinstance(clone, msgspec.Struct):
        msgspec.structs.force_setattr(clone, name, part)
    elif name in getattr(clone, "__dict__", ()):
        vars(clone)[name] = part
    else:
        object.__setattr__(clone, name, part)


def copied(value: object, parts: Mapping[str, object]) -> object | None:
    """Return a copy whose parts can be set; None where there is none to be had."""
    try:
        clone = copy(value)
        for name, part in parts.items():
            put(clone, name, part)
    except Exception:  # noqa: BLE001 - the border to user code, which may refuse
        return None
    return clone if clone is not value and type(clone) is type(value) else None
