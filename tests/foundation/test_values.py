"""Our dataclass is dataclasses.dataclass(frozen=True, slots=True), but for how it comes about."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from spiffe_client import _values

_T = TypeVar("_T")

# What is run is the one without type checkers' view of it.
MAKERS: dict[str, Any] = {"ours": _values.dataclass, "theirs": dataclasses.dataclass}


@pytest.fixture(params=MAKERS)
def dataclass(request: pytest.FixtureRequest) -> Any:
    """Each test holds for both: that is the point."""
    return MAKERS[request.param]


@pytest.fixture
def point(dataclass: Any) -> Any:
    """A class with every kind of field in use here."""

    @dataclass(frozen=True, slots=True)
    class Point:
        """A value."""

        KIND: ClassVar[str] = "point"

        x: int
        name: str = field(default="p", compare=False)
        facts: Mapping[str, int] = field(default_factory=dict, hash=False)
        secret: bytes = field(default=b"", repr=False)
        twice: int = field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "twice", 2 * self.x)

    return Point


@_values.dataclass(frozen=True, slots=True)
class Pair:
    """One that pickle finds by its name."""

    left: int
    right: str = "r"


def test_is_made_of_its_arguments(point: Any) -> None:
    """By position, by name, by default, by factory; what is derived is derived."""
    value = point(3, secret=b"s")
    assert (3, "p", {}, b"s", 6) == (value.x, value.name, value.facts, value.secret, value.twice)
    assert point(1).facts is not point(1).facts
    assert (4, "n", {"a": 1}) == ((v := point(4, "n", {"a": 1})).x, v.name, v.facts)


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda point: point(), "missing a? ?.*'x'"),
        (lambda point: point(name="n"), "missing a? ?.*'x'"),
        (lambda point: point(1, x=2), "multiple values for argument 'x'"),
        (lambda point: point(1, "n", {}, b"", 2), "positional arguments"),
        (lambda point: point(1, y=2), "unexpected keyword argument 'y'"),
        (lambda point: point(y=2), "argument"),
        (lambda point: point(1, twice=2), "unexpected keyword argument 'twice'"),
    ],
)
def test_wrong_arguments_are_told(point: Any, make: Callable[[Any], object], wrong: str) -> None:
    """A typo is a TypeError that names the argument."""
    with pytest.raises(TypeError, match=wrong):
        make(point)


def test_is_frozen(point: Any) -> None:
    """Neither set nor deleted, whether it is a field or not."""
    value = point(1)
    for change in (
        lambda: setattr(value, "x", 2),
        lambda: delattr(value, "x"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError, match="field 'x'"):
            change()
    assert 1 == value.x
    assert not hasattr(value, "__dict__")


def test_nothing_can_be_added() -> None:
    """A name that is no field is refused as well."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Pair(1).other = 2  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del Pair(1).other  # type: ignore[attr-defined]


def test_a_plain_subclass_may_have_more() -> None:
    """What somebody derives has attributes of its own; the fields stay frozen."""

    class More(Pair):
        extra: int

    value = More(1)
    value.extra = 1
    del value.extra
    assert not hasattr(value, "extra")
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.left = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del value.left  # type: ignore[misc]


def test_a_frozen_dataclass_may_be_derived(point: Any) -> None:
    """It says of itself that it is frozen, so that the standard library's may inherit from it."""

    @dataclasses.dataclass(frozen=True)
    class More(point):
        z: int = 0

    assert 5 == More(1, z=5).z


def test_compares_by_value(point: Any) -> None:
    """By the fields that count, within one class."""
    assert point(1, "a") == point(1, "b")
    assert point(1) != point(2)
    assert point(1) != point(1, facts={"a": 1})
    assert point(1) != (1, "p", {}, b"", 2)
    assert hash(point(1, "a", {"a": 1})) == hash(point(1, "b", {"b": 1}))
    assert hash(point(1)) != hash(point(2))


def test_compares_by_identity_where_that_is_said(dataclass: Any) -> None:
    """`eq=False`: each is its own, and can be a key."""

    @dataclass(frozen=True, slots=True, eq=False)
    class Own:
        x: int

    one = Own(1)
    assert one != Own(1)
    assert {one: 1}[one] == 1


def test_without_fields(dataclass: Any) -> None:
    """Nothing is equal to nothing."""

    @dataclass(frozen=True, slots=True)
    class Nothing:
        """No field."""

    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())
    assert repr(Nothing()).endswith("Nothing()")


def test_shows_what_may_be_shown(point: Any, dataclass: Any) -> None:
    """Not what is kept out of the repr; and a class may say it all by itself."""
    assert repr(point(1, secret=b"s")).endswith("Point(x=1, name='p', facts={}, twice=2)")

    @dataclass(frozen=True, slots=True)
    class Mute:
        x: int

        def __repr__(self) -> str:
            return "…"

    @dataclass(frozen=True, slots=True, repr=False)
    class Plain:
        x: int

    assert "…" == repr(Mute(1))
    assert "x=1" not in repr(Plain(1))


def test_is_a_dataclass(point: Any) -> None:
    """For all that asks: fields, replace, asdict, match, signature."""
    assert dataclasses.is_dataclass(point)
    assert ["x", "name", "facts", "secret", "twice"] == [f.name for f in dataclasses.fields(point)]
    assert point(2, "n") == dataclasses.replace(point(1, "n"), x=2)
    assert {"x": 1, "name": "p", "facts": {}, "secret": b"", "twice": 2} == dataclasses.asdict(point(1))
    match point(1, "n"):
        case point(x, name):
            assert (1, "n") == (x, name)
    signature = inspect.signature(point)
    assert ["x", "name", "facts", "secret"] == list(signature.parameters)
    assert inspect.Parameter.empty is signature.parameters["x"].default
    assert "p" == signature.parameters["name"].default
    assert inspect.Parameter.empty is not signature.parameters["facts"].default


def test_generic() -> None:
    """A class with a type parameter, and one that has it filled in."""

    @_values.dataclass(frozen=True, slots=True)
    class Box(Generic[_T]):
        value: _T

    assert 1 == Box(1).value == Box[int](1).value


def test_pickles_and_copies() -> None:
    """Frozen or not, its fields come back."""
    pair = Pair(1, "x")
    assert pair == pickle.loads(pickle.dumps(pair)) == copy.copy(pair) == copy.deepcopy(pair)


def test_compiles_nothing() -> None:
    """What it is for: a class costs no compilation when a process starts."""
    code = (
        "import dataclasses\n"
        "from spiffe_client._values import dataclass\n"
        "def refuse(text, *names):\n"
        "    assert 'self' not in text, text\n"  # CPython 3.13 runs a text without methods
        "    exec(text, *names)\n"
        "dataclasses.exec = refuse\n"
        "@dataclass(frozen=True, slots=True)\n"
        "class X:\n"
        "    x: int\n"
        "    y: int = 1\n"
        "print(X(1))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "X(x=1, y=1)\n" == done.stdout
