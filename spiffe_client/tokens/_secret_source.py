"""Where a client secret or a foreign token is read from, anew for each use."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from spiffe_client._redact import Secret

__all__ = ["SecretSource"]


class SecretSource(Protocol):
    """A secret that is kept elsewhere and may change at any time; never cached past a change."""

    @property
    def key(self) -> tuple[str, ...]:
        """Which one it is, among all of its class: two that may read different secrets differ in it.

        Tokens are kept by it. It is the same for as long as the source lives, holds no secret, and
        is not made of `id()`, which another object has later.
        """
        ...

    @property
    def name(self) -> str:
        """Where it is, for errors and logs: such as `file /run/secrets/oauth`; without the secret."""
        ...

    def read(self) -> Awaitable[Secret[str]]:
        """Read it as it is now.

        Raises:
            SecretSourceError: It cannot be read.
        """
        ...
