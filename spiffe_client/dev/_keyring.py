"""Authorities over time: one signs, others are already or still trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Keyring"]

_A = TypeVar("_A")


class Keyring(Generic[_A]):
    """The authorities of one kind that a bundle publishes, one of which signs.

    An authority is published before it signs (`prepare`), so that peers know it in time, and stays
    published after it stopped signing, so that what it signed stays good until `retire_old`.

    Args:
        make: Makes a new authority.
    """

    def __init__(self, make: Callable[[], _A]) -> None:
        self._make = make
        self._prepared: _A | None = None
        self._old: tuple[_A, ...] = ()
        self.active = make()

    @property
    def published(self) -> tuple[_A, ...]:
        """All that are to be trusted: the active one first, old ones last."""
        prepared = () if self._prepared is None else (self._prepared,)
        return (self.active, *prepared, *self._old)

    def prepare(self) -> None:
        """Publish the next authority; it does not sign yet. Again: nothing more happens."""
        if self._prepared is None:
            self._prepared = self._make()

    def activate(self) -> None:
        """Let the prepared authority sign from now on, or a new one where none is prepared."""
        self.prepare()
        assert self._prepared is not None
        self._old = (self.active, *self._old)
        self.active, self._prepared = self._prepared, None

    def retire_old(self) -> None:
        """Stop publishing the authorities that no longer sign."""
        self._old = ()
