"""Secrets inside of values whose classes say what they are made of, and what cannot be copied."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import msgspec
import pytest

from spiffe_client.agents import Scrubber

JWT = "eyJhbGciOiJub25l.eyJhIjoxfQ."


@dataclass
class Loose:
    a: Any
    b: Any = None
    always: ClassVar[str] = "x"


@dataclass(frozen=True, slots=True)
class Frozen:
    a: Any
    b: Any = None


class Packed(msgspec.Struct, frozen=True):
    a: Any


class Model:
    """As a model of pydantic looks from outside, with what it takes beside its fields, and what is private."""

    __slots__ = ("__dict__", "__pydantic_extra__", "__pydantic_private__")
    __pydantic_core_schema__: ClassVar[object] = {}

    def __init__(self, a: Any, **extra: Any) -> None:
        self.a = a
        self.__pydantic_extra__ = extra

    def __repr__(self) -> str:
        return f"{self.a} {self.__pydantic_extra__}"


class Attributes:
    """As attrs makes them."""

    __slots__ = ("a",)
    __attrs_attrs__: ClassVar[Any] = (SimpleNamespace(name="a"),)

    def __init__(self, a: Any) -> None:
        self.a = a

    def __repr__(self) -> str:
        return f"{self.a}"


class Stubborn(Loose):
    def __copy__(self) -> Any:
        raise TypeError


class Itself(Loose):
    def __copy__(self) -> Any:
        return self


@pytest.mark.parametrize(
    "value",
    [
        Loose(JWT), Loose([{"a": (JWT,)}]), Loose(Frozen(JWT)), Frozen(1, Frozen({JWT: 1})), Packed(JWT), Attributes(JWT),
        Model(JWT), Model(1, more=JWT), SimpleNamespace(a=JWT), ValueError(Loose(JWT)), deque([JWT]), [Loose(JWT.encode())],
    ],
    ids=lambda value: f"{type(value).__name__}",
)  # fmt: skip
def test_secrets_go(value: Any) -> None:
    """The value stays as it is; what is passed on is a copy of its type with gaps."""
    scrubber = Scrubber()
    before = repr(value)
    clean = scrubber.clean(value)
    assert type(value) is type(clean)
    assert JWT not in repr(clean)
    assert "[redacted]" in repr(clean)
    assert (1, before) == (scrubber.count, repr(value))


@pytest.mark.parametrize(
    "value",
    [Loose(1), Frozen("a", [Loose("b")]), Packed("a"), Model("a", b="c"), Attributes({"a"}), SimpleNamespace(a="a"), deque("a"), KeyError("a")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_all_else_stays(value: object) -> None:
    """The same object."""
    assert value is Scrubber().clean(value)


def test_what_has_code_behind_it() -> None:
    """Is not read: it may ask a database, or fail."""

    class Lazy:
        def __get__(self, it: object, owner: type) -> object:
            if it is None:
                return "default"
            raise AssertionError("it was read")

        def __set__(self, it: object, value: object) -> None:
            pass

    @dataclass
    class Row:
        a: Any
        b: Any = Lazy()  # noqa: RUF009

    assert "[redacted]" == Scrubber().clean(Row(JWT)).a


def test_views_of_mappings() -> None:
    """They become lists, as there are none without a mapping."""
    assert ["[redacted]"] == Scrubber().clean({1: JWT}.values())


@pytest.mark.parametrize("kind", [Stubborn, Itself])
def test_what_cannot_be_copied(kind: Any) -> None:
    """Is not passed on, wherever it is, if it has a secret; it is left alone otherwise."""
    value = kind(JWT)
    assert "[redacted]" == Scrubber().clean(value)
    assert ["[redacted]", "[redacted]"] == Scrubber().clean([value, value])
    assert JWT == value.a
    assert kind("a") == Scrubber().clean(kind("a"))


def test_what_leads_back() -> None:
    """Is the copy there, too, also from elsewhere."""
    value = Loose(JWT)
    value.b = [value, {"k": value}]
    clean, again = Scrubber().clean([value, value])
    assert clean is again is clean.b[0] is clean.b[1]["k"]
    assert "[redacted]" == clean.a
    outer = Loose(value, Loose(value))
    assert "[redacted]" == Scrubber().clean([value, outer])[1].b.a.a


def test_what_leads_back_to_nothing() -> None:
    """It is the same."""
    value = Loose(1)
    value.b = [value]
    assert value is Scrubber().clean(value)
    assert [value, value.b] == Scrubber().clean([value, value.b])


def test_what_many_share() -> None:
    """Each is looked at once: doubled sixty times it is not for ever."""
    for leaf in ("x", JWT):
        value: Any = leaf
        for _ in range(60):
            value = Loose(value, value)
        clean = Scrubber().clean(value)
        assert (clean is value) == (leaf == "x")
        while isinstance(clean, Loose):
            clean = clean.a
        assert clean == ("x" if leaf == "x" else "[redacted]")


def test_too_deep() -> None:
    """What is not copied is not passed on."""
    value: Any = JWT
    for _ in range(200):
        value = Loose(value)
    clean = Scrubber().clean(value)
    assert JWT not in repr(clean)


def test_too_many() -> None:
    """What is not looked at is not passed on."""
    scrubber = Scrubber()
    scrubber._left = 10
    assert ["[redacted]"] == scrubber.clean([Loose([[] for _ in range(20)])])
    assert 1 == scrubber.count


def test_what_nobody_knows() -> None:
    """Stays, unless somebody says what to do about it."""

    class Bolder(Scrubber):
        def opaque(self, value: object) -> object:
            return "gone"

    value = Loose(object())
    assert value is Scrubber().clean(value)
    assert Loose("gone") == Bolder().clean(value)


def test_exceptions_in_exceptions() -> None:
    """They are cleaned themselves, where they are."""
    from spiffe_client.agents._scrub import scrub_error

    inner = ValueError(JWT)
    outer = ValueError("many", Loose(inner))
    assert (1, False) == scrub_error(outer, [])
    assert (inner, ("[redacted]",)) == (outer.args[1].a, inner.args)
