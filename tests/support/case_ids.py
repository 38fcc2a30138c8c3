"""Names of test cases that are the same in every process, which a run on two cores asks for."""

from __future__ import annotations

__all__ = ["kind_of"]


def kind_of(value: object) -> str:
    """Return the type's name, and of a key its size."""
    size = getattr(value, "key_size", "")
    return f"{type(value).__name__}{size}"
