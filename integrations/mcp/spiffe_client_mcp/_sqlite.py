"""What may come once, for the processes of one machine: in a file of SQLite's."""

from __future__ import annotations

import os
import sqlite3
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
_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS seen (name TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS seen_until ON seen (until)",
)


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
        self._lock = Lock()
        self._open: tuple[int, sqlite3.Connection] | None = None
        self._inherited: list[sqlite3.Connection] = []

    async def add(self, name: str, until: float) -> bool:
        """See `ReplayCache.add`.

        Raises:
            sqlite3.Error: The file cannot be used, or is full.
            OSError: It cannot be made.
        """
        return await anyio.to_thread.run_sync(self._add, name, until)

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self._lock:
            if self._open is not None and self._open[0] == os.getpid():
                self._open[1].close()
                self._open = None

    def _add(self, name: str, until: float) -> bool:
        with self._lock, self._connection() as connection:
            # One at a time, also among processes, from here to the commit.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM seen WHERE until < ?", (self._clock.now().timestamp(),))
            added = connection.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (name, until))
            return added.rowcount == 1

    def _connection(self) -> sqlite3.Connection:
        # A server may fork its workers after this was made, and used: connections do not survive that, nor may
        # the child close them.
        if self._open is not None and self._open[0] != os.getpid():
            self._inherited.append(self._open[1])
            self._open = None
        if self._open is None:
            self._open = (os.getpid(), self._connect())
        return self._open[1]

    def _connect(self) -> sqlite3.Connection:
        # Not opened by us where it is there already: the closing would lose the locks of SQLite.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
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
        return made
