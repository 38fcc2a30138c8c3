"""Who wants to hear of a new generation, held weakly: nobody is kept alive by listening."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Generic, ParamSpec
from weakref import WeakMethod

__all__ = ["Hooks"]

_P = ParamSpec("_P")


class Hooks(Generic[_P]):
    """Bound methods, forgotten together with the objects they belong to.

    Adding is safe from any thread; so is an object's end, wherever the garbage collector runs.
    """

    def __init__(self) -> None:
        self._refs: dict[int, WeakMethod[Callable[_P, object]]] = {}

    def add(self, method: Callable[_P, object]) -> None:
        """Call this method from now on, as long as its object lives.

        Args:
            method: A bound method. A plain function or a lambda has no object to live with: held
                weakly it would never be called, held strongly it would never be forgotten.

        Raises:
            TypeError: It is not a bound method.
        """
        if not isinstance(method, MethodType):
            raise TypeError(f"expected a bound method, which is held weakly, got {type(method).__name__}")
        refs = self._refs
        ref: WeakMethod[Callable[_P, object]] = WeakMethod(method, lambda gone: refs.pop(id(gone), None))
        refs[id(ref)] = ref

    def __len__(self) -> int:
        return len(self._refs)

    def living(self) -> list[Callable[_P, object]]:
        """Return the methods whose objects live, in the order they were added."""
        return [method for ref in list(self._refs.values()) if (method := ref()) is not None]
