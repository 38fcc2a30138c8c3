"""How a command ends, for scripts: stable and documented in docs/cli.md."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Exit", "UsageError"]


class Exit(IntEnum):
    """Exit codes. A signal ends with 128 and its number, so Ctrl-C gives 130."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


class UsageError(Exception):
    """The command was called wrongly; nothing was done.

    Attributes:
        command: Whose `--help` says how it is meant, for example `spiffe-client jwt`.
        advice: What to do, where that is something else than to read the help.
    """

    code = "usage"

    def __init__(self, message: str, *, command: str = "spiffe-client", advice: str = "") -> None:
        super().__init__(message)
        self.command = command
        self.advice = advice
