"""Frozen dataclasses that compile nothing.

`dataclasses.dataclass(frozen=True, slots=True)` writes six methods as text and compiles them, in
CPython 3.11 about half a millisecond for each class and each start of a process; some twenty
classes lie on the way to the first X509-SVID. The one here makes the same kind of class, with
methods that look at the fields: to people, type checkers, `dataclasses.fields`, `replace`, `match`,
`pickle` and `inspect.signature` it is a dataclass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

__all__ = ["dataclass"]

_T = TypeVar("_T")
_Fields = tuple[dataclasses.Field[Any], ...]

_set = object.__setattr__


class _Signature:
    """Of a class: what its constructor takes, worked out when somebody asks."""

    def __get__(self, instance: object, owner: type) -> Any:
        from inspect import Parameter, Signature

        def default(field: dataclasses.Field[Any]) -> object:
            if field.default_factory is not dataclasses.MISSING:
                return ...
            return Parameter.empty if field.default is dataclasses.MISSING else field.default

        kind = Parameter.POSITIONAL_OR_KEYWORD
        return Signature(
            [
                Parameter(field.name, kind, default=default(field), annotation=field.type)
                for field in dataclasses.fields(owner)
                if field.init
            ],
            return_annotation=None,
        )


def _initializer(cls: type, fields: _Fields) -> Callable[..., None]:
    names = [field.name for field in fields if field.init]
    known = frozenset(names)
    defaults = {f.name: f.default for f in fields if f.init and f.default is not dataclasses.MISSING}
    factories = {f.name: f.default_factory for f in fields if f.default_factory is not dataclasses.MISSING}
    finish = getattr(cls, "__post_init__", None)

    def completed(args: tuple[object, ...], kwargs: dict[str, object]) -> Iterable[tuple[str, object]]:
        given = dict(zip(names, args, strict=False))
        given.update(kwargs)
        values = {**defaults, **given}
        for name, factory in factories.items():
            if name not in given:
                values[name] = factory()
        if values.keys() != known or len(given) != len(args) + len(kwargs):
            # Says in the words of the interpreter what is missing or too much.
            _Signature().__get__(None, cls).bind(*args, **kwargs)
        return values.items()

    def initialize(self: object, /, *args: object, **kwargs: object) -> None:
        whole = len(args) == len(names) and not kwargs
        for name, value in zip(names, args, strict=False) if whole else completed(args, kwargs):
            _set(self, name, value)
        if finish is not None:
            finish(self)

    return initialize


def _getter(names: list[str]) -> Callable[[Any], object]:
    return attrgetter(*names) if names else type


def _comparison(fields: _Fields) -> dict[str, Any]:
    compared = _getter([f.name for f in fields if f.compare])
    hashed = _getter([f.name for f in fields if (f.compare if f.hash is None else f.hash)])

    def equal(self: object, other: object) -> bool:
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    return {"__eq__": equal, "__hash__": lambda self: hash(hashed(self))}


def _representation(fields: _Fields) -> Callable[[object], str]:
    shown = [f.name for f in fields if f.repr]

    def represent(self: object) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({inside})"

    return represent


def _guards(cls: type, fields: _Fields) -> dict[str, Any]:
    names = frozenset(f.name for f in fields)

    def refuse_set(self: object, name: str, value: object) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        _set(self, name, value)

    def refuse_delete(self: object, name: str) -> None:
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        object.__delattr__(self, name)

    return {"__setattr__": refuse_set, "__delattr__": refuse_delete}


def _get_state(self: Any) -> list[object]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[object]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        _set(self, field.name, value)


def _dataclass(
    *,
    frozen: bool,
    slots: bool,
    eq: bool = True,
    repr: bool = True,  # noqa: A002 - its name
) -> Callable[[type[_T]], type[_T]]:
    """Make a frozen dataclass with slots, as `dataclasses.dataclass` with these arguments does.

    Args:
        frozen: Always True, said for type checkers and readers.
        slots: Always True, as above.
        eq: Whether to compare by value; else by identity.
        repr: Whether to add a `__repr__`.
    """
    assert (frozen, slots) == (True, True)

    def make(cls: type[_T]) -> type[_T]:
        own = frozenset(vars(cls))
        made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
        made.__dataclass_params__.frozen = True
        fields = dataclasses.fields(made)
        methods: dict[str, Any] = {
            "__init__": _initializer(made, fields),
            "__signature__": _Signature(),
            "__getstate__": _get_state,
            "__setstate__": _set_state,
            **_guards(made, fields),
        }
        if repr:
            methods["__repr__"] = _representation(fields)
        if eq:
            methods.update(_comparison(fields))
        for name, method in methods.items():
            if name not in own:
                setattr(made, name, method)
        result: type[_T] = made
        return result

    return make


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - offered under its own name
else:
    dataclass = _dataclass
