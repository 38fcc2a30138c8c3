"""The thread that writes an audit trail: chains, signs, writes, tries again."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from collections.abc import Mapping
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import Final

from spiffe_client._clock import Clock
from spiffe_client.audit._checkpoint import Notary
from spiffe_client.audit._file import TrailFile
from spiffe_client.audit._record import Fact, own_body, seal, stamp
from spiffe_client.audit._scrub import scrubbed
from spiffe_client.errors import AuditError

__all__ = ["FORMAT", "Order", "Scribe"]

#: Of the file, in its header.
FORMAT: Final = 1
#: Seconds in which records gather before they are written together, and between attempts.
_LINGER, _FIRST_RETRY, _LAST_RETRY = 0.005, 0.05, 2.0
#: Most records written at once.
_BATCH = 2000

_log = logging.getLogger("spiffe_client")


class Order:
    """Something to do once all that came before it is written: to be on the disk, or to close.

    Attributes:
        close: Whether that is the end of the trail.
        done: Set when it is done.
    """

    def __init__(self, *, close: bool) -> None:
        self.close = close
        self.done = threading.Event()


class Scribe:
    """Writes what is put into its inbox, in a thread of its own.

    Args:
        file: Where to.
        notary: Signs.
        clock: What says now.
        every: Records between two checkpoints.
        seconds: Seconds between two checkpoints.

    Attributes:
        inbox: Bodies of records, each with its time, and orders.
        workload: Whose trail it is, as the header says; empty if it does not.
        unwritten: Records taken out of the inbox that are not written yet.
        dropped: Events for which there was no room, so far.
        written: Records written since the trail was opened.
        trouble: Why nothing can be written now; empty if all is well.
        busy_since: When the write began that is going on, by the monotonic clock.
        hurry: Set when somebody waits, so that nothing lingers.
        leave: Set when nobody waits for the rest any more.
    """

    def __init__(self, file: TrailFile, notary: Notary, clock: Clock, *, every: int, seconds: float) -> None:
        self.inbox: SimpleQueue[tuple[datetime, bytes] | Order] = SimpleQueue()
        self.unwritten = self.written = self.dropped = 0
        self.trouble = ""
        self.busy_since: float | None = None
        self.hurry, self.leave = threading.Event(), threading.Event()
        self._file, self._notary, self._clock = file, notary, clock
        self._every, self._seconds = every, seconds
        self._pending = bytearray()
        self._orders: list[Order] = []
        self._unsynced = self._closing = False
        self._unsigned = 0
        self._signed_at = clock.monotonic()
        self._retry = _FIRST_RETRY
        self._gap, self._gap_lock = 0, threading.RLock()  # reentrant: a signal handler may tell of an event
        self._begin()
        self.thread = threading.Thread(target=self._run, name="spiffe-audit-trail", daemon=True)

    def _begin(self) -> None:
        now = self._clock.now()
        svid = self._notary.svid(now)
        workload = "" if svid is None else str(svid.id)
        tail = self._file.read_tail()
        if workload and tail.workload not in ("", workload):
            raise AuditError(f"{self._file.path} is the trail of {tail.workload}, and this is {workload}")
        self._seq, self._prev = tail.seq, tail.prev
        self.trail = tail.trail or secrets.token_hex(16)
        self.workload = tail.workload if tail.trail else workload
        self._notary.pin(self.workload)
        facts: dict[str, Fact] = {"trail": self.trail, "format": FORMAT}
        if tail.torn:
            self._pending += b"\n"
            facts |= {"torn_bytes": len(tail.torn), "torn_sha256": hashlib.sha256(tail.torn).hexdigest()}
        if workload:
            facts["workload"] = workload
        name = "trail.resumed" if tail.trail else "trail.started"
        self._add(stamp(now), own_body(name, f"{name.replace('.', ' ')}, format {FORMAT}", facts))

    def _add(self, at: str, body: bytes) -> None:
        line, self._prev = seal(at, body, self._seq, self._prev)
        self._pending += line
        self._seq += 1
        self._unsigned += 1
        self.unwritten += 1

    def _say(self, name: str, message: str, facts: Mapping[str, Fact]) -> None:
        self._add(stamp(self._clock.now()), own_body(name, message, facts))

    def drop(self) -> None:
        """Count a record that there was no room for; the trail will say so."""
        with self._gap_lock:
            self._gap += 1
            self.dropped += 1

    def open(self) -> None:
        """Write the header, and start.

        Raises:
            OSError: It cannot be written.
        """
        while self._pending:
            del self._pending[: self._file.write(bytes(self._pending))]
        self._file.sync()
        self.written, self.unwritten = self._seq, 0
        self.thread.start()

    def _run(self) -> None:
        try:
            while not self._closing and not self.leave.is_set():
                self._collect()
                self._finish()
        except BaseException as error:  # noqa: BLE001 - the end of a thread; whatever it is, it must be known
            self.trouble = f"{type(error).__name__}, which is a bug"
            _log.critical("the audit trail %s is written no more", self._file.path, exc_info=error)
        finally:
            self._file.abandon()

    def _collect(self) -> None:
        """Wait for something to write, or for the time of a checkpoint, and chain what there is."""
        try:
            item = self.inbox.get(timeout=self._patience())
        except Empty:
            self._checkpoint(final=False)
            return
        self.hurry.wait(_LINGER)
        self._take(item)
        for _ in range(_BATCH):
            try:
                self._take(self.inbox.get_nowait())
            except Empty:
                break
        self._checkpoint(final=False)

    def _patience(self) -> float | None:
        if not self._unsigned or not self._notary.signs:
            return None
        return max(0.0, self._signed_at + self._seconds - self._clock.monotonic())

    def _take(self, item: tuple[datetime, bytes] | Order) -> None:
        if isinstance(item, Order):
            self._orders.append(item)
            self._closing = self._closing or item.close
            self._unsynced = True
            return
        with self._gap_lock:
            gap, self._gap = self._gap, 0
        if gap:
            text = f"{gap} event(s) were not recorded, for want of room; none of them a denial"
            self._say("trail.gap", text, {"dropped": gap})
        at, body = item
        self._add(stamp(at), scrubbed(body))

    def _checkpoint(self, *, final: bool) -> None:
        moment = self._clock.monotonic()
        due = self._unsigned >= self._every or (self._unsigned and moment - self._signed_at >= self._seconds)
        if not final and not (due and self._notary.signs):
            self._notary.meet(self._clock.now())
            return
        self._signed_at = moment
        now = self._clock.now()
        svid, at, prev = self._notary.svid(now), stamp(now), self._prev.decode()
        facts = self._notary.facts(self.trail, self._seq, prev, at, svid, final=final)
        if not final and "signature" not in facts:
            return  # no identity now: what is not signed yet is by the next one
        text = f"{self._seq} records" + (", closed" if final else "")
        self._add(at, own_body("trail.checkpoint", text, facts))
        self._unsigned, self._unsynced = 0, True

    def _finish(self) -> None:
        """Write what is chained, however often that takes, and do as ordered."""
        if self._closing:
            self._checkpoint(final=True)
        while self._pending or self._unsynced:
            if not self._write() and self.leave.is_set():
                return
        self.written, self.unwritten = self._seq, 0
        for order in self._orders:
            order.done.set()
        self._orders.clear()
        self.hurry.clear()

    def _write(self) -> bool:
        self.busy_since = self._clock.monotonic()
        try:
            if self._pending:
                del self._pending[: self._file.write(bytes(self._pending))]
            if self._unsynced and not self._pending:
                self._file.sync()
                self._unsynced = False
        except (OSError, AuditError) as error:
            self._troubled(error)
            return False
        finally:
            self.busy_since = None
        if self.trouble:
            self._recovered()
        return True

    def _troubled(self, error: OSError | AuditError) -> None:
        why = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
        if not self.trouble:
            _log.error("the audit trail %s cannot be written: %s", self._file.path, why)
        self.trouble = why
        self.leave.wait(self._retry)
        self._retry = min(_LAST_RETRY, 2 * self._retry)

    def _recovered(self) -> None:
        trouble, self.trouble, self._retry = self.trouble, "", _FIRST_RETRY
        _log.warning("the audit trail %s is written again", self._file.path)
        if not self._closing:  # nothing comes behind the last checkpoint
            self._say("trail.recovered", f"it could not be written: {trouble}", {"trouble": trouble})

    def abandon(self) -> None:
        """Let go of the file: this is a forked child, and the trail is its parent's."""
        self.trouble = "this process was forked from the one that writes the trail"
        self._file.abandon()

    def left(self) -> list[bytes]:
        """Return what was never written, once the thread has ended."""
        lines = bytes(self._pending).splitlines()
        while True:
            try:
                item = self.inbox.get_nowait()
            except Empty:
                return lines
            if not isinstance(item, Order):
                lines.append(scrubbed(item[1]))
