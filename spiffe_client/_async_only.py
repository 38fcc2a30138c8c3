"""What `with` says of a thing that needs `async with`; Python itself names the protocol that is missing."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["async_only"]


def async_only(self: object) -> NoReturn:
    """For `__enter__` and `__exit__`, out of sight of type checkers: they refuse `with` before it is run."""
    name = type(self).__name__
    raise TypeError(f"{name} needs `async with`; for blocking code there is spiffe_client.sync.Workload")
