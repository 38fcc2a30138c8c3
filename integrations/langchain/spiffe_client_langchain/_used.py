"""A memory of which answers were used that is still there when a process has gone."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from spiffe_client._clock import SYSTEM_CLOCK, Clock

__all__ = ["UsedAnswers"]

#: Names of files that say up to when answers were forgotten, in microseconds of the epoch; no key begins so.
_MARK: Final = "forgotten-"
#: By how much the clock of who gives an answer may be ahead of the one here.
_AHEAD: Final = timedelta(hours=1)


class UsedAnswers:
    """A folder with a small file for each answer that was used; several processes may share it.

    For `TaskCredentials(gate, used=…)`. What cannot be written there ends the run: no answer counts then.

    An answer is good for so long after it was given. Those that were used and are older are forgotten when this is made,
    or by `forget()`; how far that went is written down first, and an answer that is not newer is refused for ever,
    whatever a clock says later.

    Args:
        folder: Where; it is made if it is not there.
        good_for: How long an answer is good; used ones are kept for as long.
        clock: What says now.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        good_for: timedelta = timedelta(days=90),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._folder = Path(folder)
        self._good_for = good_for
        self._clock = clock
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.forget()

    def __call__(self, key: str, at: datetime) -> bool:
        """Say whether this is the first time, and the answer is still good.

        Args:
            key: Tells an answer from all others: hex digits.
            at: When it was given.

        Raises:
            OSError: It cannot be written down.
        """
        now = self._clock.now()
        if not now - self._good_for <= at <= now + _AHEAD:  # what is of the future would never be old
            return False
        try:
            self._write(key, _micros(at))
        except FileExistsError:
            return False
        # After it was written: what another process forgets meanwhile is marked before its file goes.
        return _micros(at) > self._forgotten()

    def forget(self) -> None:
        """Forget the used answers that are not good any more; done already when this is made.

        Raises:
            OSError: It cannot be written down; then nothing is forgotten.
        """
        oldest = _micros(self._clock.now() - self._good_for)
        old = {path: at for path in self._folder.iterdir() if 0 <= (at := _given(path)) < oldest}
        if not old:
            return
        mark = max(old.values())
        if mark > (before := self._forgotten()):
            with suppress(FileExistsError):  # another process does the same
                self._write(f"{_MARK}{mark}", mark)
            (self._folder / f"{_MARK}{before}").unlink(missing_ok=True)
        for path in old:
            path.unlink(missing_ok=True)

    def _forgotten(self) -> int:
        names = [path.name for path in self._folder.iterdir()]
        marks = [int(name.removeprefix(_MARK)) for name in names if name.startswith(_MARK)]
        return max(marks, default=-1)

    def _write(self, name: str, at: int) -> None:
        file = os.open(self._folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.write(file, f"{at}\n".encode())
            os.fsync(file)
        finally:
            os.close(file)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # before anything is done with it
        finally:
            os.close(folder)


def _given(path: Path) -> int:
    """Return when an answer was given; -1 for what is none, or whose process has gone while it wrote: that stays."""
    try:
        written = b"" if path.name.startswith(_MARK) else path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):  # another process has forgotten it; or it is none of ours
        return -1
    return int(written) if written.endswith(b"\n") and written.strip().isdigit() else -1


def _micros(at: datetime) -> int:
    return (at - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
