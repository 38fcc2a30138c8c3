"""What a feed follows: the differences between X.509 contexts and bundles, in one place each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol, TypeVar

from spiffe_client.errors import SpiffeError

__all__ = ["Topic"]

_T = TypeVar("_T")


class Topic(Protocol[_T]):
    """One stream of the Workload API and what its messages mean."""

    @property
    def what(self) -> str:
        """What is followed, for messages: `the X.509 identity`."""
        ...

    @property
    def family(self) -> str:
        """First part of the names of its events: `svid` or `bundle`."""
        ...

    def watch(self, refused: Callable[[SpiffeError], None]) -> AbstractAsyncContextManager[AsyncIterator[_T]]:
        """Open one stream; what it cannot use of a message goes to `refused`."""
        ...

    def choose(self, message: _T) -> _T:
        """Return what to publish of a message.

        Raises:
            SpiffeError: Nothing of it; the message is refused whole.
        """
        ...

    def same(self, held: _T, new: _T) -> bool:
        """Whether both say the same, so that there is nothing to publish."""
        ...

    def missing(self, held: _T, message: _T) -> list[str]:
        """Return the names of what is held and not in the message any more."""
        ...

    def revoked(self, held: _T, message: _T) -> bool:
        """Whether the very thing in use is not in the message any more."""
        ...

    def expires_at(self, value: _T) -> datetime | None:
        """Return when the value must not be used any more, or None."""
        ...

    def describe(self, value: _T) -> Mapping[str, str | int]:
        """Return public facts about the value for an event."""
        ...
