"""What may come once, for the processes of one machine: in a file of SQLite's."""

from __future__ import annotations

import os
import sqlite3
import stat
import weakref
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

import anyio.to_thread

from spiffe_client._clock import SYSTEM_CLOCK, Clock

__all__ = ["SqliteReplayCache"]

#: Seconds that one process waits for the others.
_PATIENCE: Final = 5.0
_PAGE: Final = 4096
#: Held by who works with a connection, and while this process forks.
_LOCK: Final = Lock()
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS seen (name TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS seen_until ON seen (until)",
)


_CACHES: Final[weakref.WeakSet[SqliteReplayCache]] = weakref.WeakSet()


class SqliteReplayCache:
    """A `ReplayCache` in a file, which all processes of one machine share; not over a network file system.

    It outlives the processes. A power failure may take away what came last.

    Args:
        path: Of the file; it is made, for this user alone, if it is not there.
        most_bytes: How long it gets; beyond that nothing is taken.
        clock: What says now.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, most_bytes: int = 1 << 26, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._path = Path(path)
        self._pages = max(most_bytes // _PAGE, 8)
        self._clock = clock
        self._open: tuple[tuple[int, int], sqlite3.Connection] | None = None
        _CACHES.add(self)

    async def add(self, name: str, until: float) -> bool:
        """See `ReplayCache.add`.

        Raises:
            sqlite3.Error: The file cannot be used, or is full.
            OSError: It cannot be made, is somebody else's, or is not the one any more that was opened.
        """
        return await anyio.to_thread.run_sync(self._add, name, until)

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with _LOCK:
            self._close()

    def _close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _add(self, name: str, until: float) -> bool:
        with _LOCK, self._connection() as connection:
            # One at a time, also among processes, from here to the commit.
            connection.execute("BEGIN IMMEDIATE")
            now = self._clock.now().timestamp()
            connection.execute("DELETE FROM seen WHERE until < ?", (now,))
            added = connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (name, until))
            return added.rowcount == 1 and until >= now

    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            self._open = self._connect()
        opened, connection = self._open
        if opened != _identity(self._path):  # what was in it could come again
            raise FileNotFoundError(f"{self._path} is not the file any more that was opened")
        return connection

    def _connect(self) -> tuple[tuple[int, int], sqlite3.Connection]:
        # Not opened by us where it is there already: the closing would lose the locks of SQLite.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        identity = _identity(self._path)
        made = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            made.execute("PRAGMA journal_mode = WAL")
            made.execute("PRAGMA synchronous = NORMAL")
            made.execute(f"PRAGMA max_page_count = {self._pages}")
            for statement in _TABLES:
                made.execute(statement)
        except sqlite3.Error:
            made.close()
            raise
        return identity, made


def _identity(path: Path) -> tuple[int, int]:
    """Return which file it is.

    Raises:
        PermissionError: Somebody else can write it: it could forget, or be made to.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{path} is not a file of this user alone")
    return found.st_dev, found.st_ino


def _before_fork() -> None:
    """Close all: what a child inherits of SQLite has no locks, and takes those of its parent."""
    _LOCK.acquire()  # nobody is in the middle of anything then
    for cache in list(_CACHES):
        cache._close()  # noqa: SLF001 - of this module


os.register_at_fork(before=_before_fork, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)
