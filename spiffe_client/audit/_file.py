"""The file of an audit trail: this user's, this process's alone, only ever longer."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from spiffe_client.audit._record import FIRST_PREV, HASH_BYTES, MAX_LINE_BYTES, Record, parse_record
from spiffe_client.errors import AuditError

__all__ = ["Tail", "TrailFile", "hash_fits"]

_HEADER = b'{"seq":0,"at":"'
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a trail goes on.

    Attributes:
        trail: The trail's id; empty for a new file.
        workload: Whose the header says it is; empty if it does not.
        seq: The number of the next record.
        prev: The hash of the last one, hex.
        torn: The unfinished line at the end, which a crash leaves; empty if there is none.
    """

    trail: str = ""
    workload: str = ""
    seq: int = 0
    prev: bytes = FIRST_PREV
    torn: bytes = b""


class TrailFile:
    """An open trail.

    Args:
        path: Where it is; made, for this user alone, if there is nothing.

    Attributes:
        path: The same.

    Raises:
        AuditError: It is a link, no file, another user's, others may write to it, or another process
            has it open as a trail.
        OSError: It cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._fd = os.open(self.path, _FLAGS, 0o600)
        except OSError as error:
            if self.path.is_symlink():
                raise AuditError(f"{self.path} is a symbolic link: name the file itself") from error
            raise
        try:
            self._refuse_strange()
            self._size = os.fstat(self._fd).st_size
        except BaseException:
            self.abandon()
            raise

    def _refuse_strange(self) -> None:
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise AuditError(f"{self.path} is no regular file")
        if status.st_uid != os.geteuid():
            raise AuditError(f"{self.path} is another user's (uid {status.st_uid})")
        if status.st_mode & 0o022:
            raise AuditError(f"{self.path} can be written by others: chmod go-w")
        if status.st_nlink != 1:
            raise AuditError(f"{self.path} has {status.st_nlink} names: others may reach it by another")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AuditError(f"another process writes {self.path}: a trail has one writer") from error

    def read_tail(self) -> Tail:
        """Find out where the trail goes on, and verify the line it goes on from.

        Raises:
            AuditError: The first or the last line is no record of a trail, or was changed.
        """
        if self._size == 0:
            return Tail()
        first = os.pread(self._fd, MAX_LINE_BYTES, 0).split(b"\n", 1)
        at = max(0, self._size - 2 * MAX_LINE_BYTES)
        *lines, torn = os.pread(self._fd, self._size - at, at).split(b"\n")
        if not lines:  # not even the header was finished
            if _HEADER.startswith(torn[: len(_HEADER)]):
                return Tail(torn=torn)
            raise AuditError(f"{self.path} is no audit trail", line=1)
        if len(first) == 2 and not first[0].endswith(b'"}') and first[0].startswith(_HEADER):
            first = first[1].split(b"\n", 1)  # a crash at the header, recorded in the one behind it
        header, last = self._record(first[0], "first"), self._record(lines[-1], "last")
        facts = header.facts
        trail, workload = str(facts.get("trail", "")), str(facts.get("workload", ""))
        return Tail(trail, workload, last.seq + 1, last.hash.encode(), torn)

    def _record(self, text: bytes, which: str) -> Record:
        try:
            record = parse_record(text)
        except AuditError as error:
            raise AuditError(f"{self.path}: its {which} line is no record of an audit trail") from error
        if not hash_fits(text):
            raise AuditError(f"{self.path}: its {which} line was changed: move the file away, and keep it")
        return record

    def write(self, data: bytes) -> int:
        """Append some of `data`, and return how much.

        Raises:
            AuditError: Somebody else has written, cut or removed the file; what would follow is of no use.
            OSError: It cannot be written.
        """
        status = os.fstat(self._fd)
        if status.st_size != self._size:
            raise AuditError(f"{self.path} was written or cut by somebody else")
        if status.st_nlink != 1:
            raise AuditError(f"{self.path} was removed, or has got another name beside its own")
        written = os.write(self._fd, data)
        self._size += written
        return written

    def sync(self) -> None:
        """Have what was written on the disk.

        Raises:
            OSError: It cannot be.
        """
        os.fsync(self._fd)

    def abandon(self) -> None:
        """Close it, and with it the lock on it."""
        with suppress(OSError):
            os.close(self._fd)


def hash_fits(text: bytes) -> bool:
    """Whether a line has the hash of what is before it."""
    return hashlib.sha256(text[:-HASH_BYTES]).hexdigest().encode() == text[-HASH_BYTES + 9 : -2]
