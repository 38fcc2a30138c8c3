"""A memory of which answers were used that is still there when a process has gone."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["UsedAnswers"]


class UsedAnswers:
    """A folder with an empty file for each answer that was used; several processes may share it.

    For `TaskCredentials(gate, used=…)`. What cannot be written there ends the run: no answer counts then. A file may be
    removed once the thread that the answer was given in is gone from where checkpoints are kept, and not before.

    Args:
        folder: Where; it is made if it is not there.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def __call__(self, key: str) -> bool:
        """Say whether this is the first time.

        Args:
            key: Tells an answer from all others: hex digits.

        Raises:
            OSError: It cannot be written down.
        """
        try:
            os.close(os.open(self._folder / key, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # before anything is done with it
        finally:
            os.close(folder)
        return True
