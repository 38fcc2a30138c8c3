"""The audit trail in a file: one JSON object a line, hash-chained, signed at checkpoints."""

from __future__ import annotations

import logging
import os
import weakref
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Literal, Self

import anyio.to_thread

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.audit._checkpoint import Notary, Signer
from spiffe_client.audit._events import Event
from spiffe_client.audit._facts import DECISION, DENY
from spiffe_client.audit._file import TrailFile
from spiffe_client.audit._record import body_of
from spiffe_client.audit._scribe import Order, Scribe
from spiffe_client.errors import AuditError

__all__ = ["JsonlSink", "TrailHealth"]

_log = logging.getLogger("spiffe_client")

#: Seconds that one write may take before the disk counts as slow.
_PATIENCE = 2.0
#: Seconds that are waited for a slow disk by whoever has forgotten to close the trail.
_LAST_WAIT = 5.0


@dataclass(frozen=True, slots=True)
class TrailHealth:
    """How an audit trail is doing.

    Attributes:
        state: `ok`; `slow`: events come faster than they are written; `failing`: they cannot be
            written, and it is tried again; `closed`.
        waiting: Events in memory that are not written yet.
        dropped: Events, none of them a denial, for which there was no room.
        written: Records written.
        trouble: Why it fails; empty if it does not.
    """

    state: Literal["ok", "slow", "failing", "closed"]
    waiting: int
    dropped: int
    written: int
    trouble: str


class JsonlSink:
    """Writes events to an audit trail; pass it as `on_event=`, and close it last.

    Calling it costs microseconds and never waits: a thread of its own writes. It may be called from
    any thread, also from a signal handler. In a forked child it raises: open another trail there.
    The constructor, `flush` and `close` wait for the disk; in async code use `async with`, which
    closes in a thread.

    Args:
        path: The file; made for this user alone, or gone on with.
        on_trouble: What if the disk is slow or fails. `block`: while the trail cannot be written,
            `ready` is false, and guarded calls are refused; no event is ever dropped. `spill`: calls
            go on, events wait in memory, and beyond `capacity` they are dropped and counted, but
            never a denial.
        signer: Returns the X509-SVID of now, as `lambda: me.x509_svid`, with whose key checkpoints
            are signed; while it raises, none are made. None: the trail is chained and not signed.
        clock: Where the time comes from.
        capacity: How many events may wait in memory.
        checkpoint_every: Sign after so many records,
        checkpoint_seconds: or after so many seconds, and at the end.

    Raises:
        AuditError: The file is a link, another user's, written by another process or by others, no
            trail, another workload's trail, or was changed at its end.
        OSError: It cannot be opened or written.
        ValueError: An argument makes no sense.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        on_trouble: Literal["block", "spill"],
        signer: Signer | None = None,
        clock: Clock = SYSTEM_CLOCK,
        capacity: int = 10_000,
        checkpoint_every: int = 1000,
        checkpoint_seconds: float = 60.0,
    ) -> None:
        if on_trouble not in ("block", "spill"):
            raise ValueError(f"on_trouble={on_trouble!r} is neither 'block' nor 'spill'")
        if capacity < 1 or checkpoint_every < 1 or not checkpoint_seconds > 0:
            raise ValueError("capacity=, checkpoint_every= and checkpoint_seconds= must be positive")
        self._blocks = on_trouble == "block"
        self._clock, self._capacity = clock, capacity
        self._open = True
        file = TrailFile(path)
        try:
            scribe = Scribe(file, Notary(signer), clock, every=checkpoint_every, seconds=checkpoint_seconds)
            scribe.open()
        except BaseException:
            file.abandon()
            raise
        self._scribe = scribe
        _open.add(self)
        self._end = weakref.finalize(self, _close, scribe, _LAST_WAIT)

    def __call__(self, event: Event) -> None:
        """Take an event.

        Raises:
            AuditError: The trail is closed, or was opened before this process was forked.
        """
        if not self._open:
            raise AuditError(f"{event.name} is not recorded: {self._scribe.trouble or 'the trail is closed'}")
        denial = event.attributes.get(DECISION) == DENY or event.name == "call.denied"
        if not (self._blocks or denial) and self._waiting() >= self._capacity:
            self._scribe.drop()
            return
        self._scribe.inbox.put((self._clock.now(), body_of(event)))

    def _waiting(self) -> int:
        return self._scribe.inbox.qsize() + self._scribe.unwritten

    @property
    def ready(self) -> bool:
        """Whether a call may be made: it will be recorded, as `on_trouble` wants it."""
        return self._open and (not self._blocks or self._state() == "ok")

    @property
    def health(self) -> TrailHealth:
        """How it is doing, without waiting."""
        scribe = self._scribe
        return TrailHealth(self._state(), self._waiting(), scribe.dropped, scribe.written, scribe.trouble)

    def _state(self) -> Literal["ok", "slow", "failing", "closed"]:
        scribe = self._scribe
        if not self._open:
            return "closed"
        if scribe.trouble:
            return "failing"
        since = scribe.busy_since
        late = since is not None and self._clock.monotonic() - since > _PATIENCE
        return "slow" if late or self._waiting() >= self._capacity else "ok"

    def flush(self, seconds: float = 10.0) -> None:
        """Return when all that was told until now is on the disk. Blocks: for threads.

        Args:
            seconds: How long to wait at most.

        Raises:
            AuditError: It is not by then.
        """
        if not self._open:
            return
        order = Order(close=False)
        if not _carried_out(self._scribe, order, seconds):
            raise AuditError(f"the audit trail was not written within {seconds:g} s: {self.health.trouble}")

    def close(self, seconds: float = 10.0) -> None:
        """Write what there is and a last checkpoint, and close the file. Idempotent. Blocks: for threads.

        Args:
            seconds: How long to wait at most for a disk that is slow or fails.

        Raises:
            AuditError: Not all could be written; what is missing was logged instead.
        """
        if not self._open:
            return
        self._open = False
        _open.discard(self)
        self._end.detach()
        missing = _close(self._scribe, seconds)
        if missing:
            why = self._scribe.trouble or "the disk is too slow"
            raise AuditError(f"{missing} records could not be written to the audit trail: {why}")

    async def aclose(self, seconds: float = 10.0) -> None:
        """Close it from async code; as `close`."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(self.close, seconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _forked(self) -> None:
        self._open = False
        self._end.detach()
        self._scribe.abandon()


def _carried_out(scribe: Scribe, order: Order, seconds: float) -> bool:
    scribe.hurry.set()
    scribe.inbox.put(order)
    return order.done.wait(seconds)


def _close(scribe: Scribe, seconds: float) -> int:
    """Close a trail, and return how many records were not written; they are logged, the last resort."""
    if _carried_out(scribe, Order(close=True), seconds):
        scribe.thread.join()
        return 0
    scribe.leave.set()
    scribe.thread.join(1.0)
    missing = [] if scribe.thread.is_alive() else scribe.left()
    for text in missing:
        _log.critical("not in the audit trail: %s", text.decode())
    return len(missing) or 1


_open: weakref.WeakSet[JsonlSink] = weakref.WeakSet()


def _let_go() -> None:
    for sink in list(_open):
        sink._forked()  # noqa: SLF001 - of this module
    _open.clear()


# A child that kept the file open would keep its lock, too, when the parent is gone.
os.register_at_fork(after_in_child=_let_go)
