"""Whether an audit trail is as it was written: every line, its place, and who vouches for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from spiffe_client.audit._checkpoint import verify_checkpoint
from spiffe_client.audit._facts import DECISION, DENY, REFUSED
from spiffe_client.audit._reading import Trail, lines_of
from spiffe_client.audit._record import FIRST_PREV, HASH_BYTES, Record, parse_record
from spiffe_client.audit._scribe import FORMAT
from spiffe_client.errors import AuditError

if TYPE_CHECKING:
    from spiffe_client.bundle import BundleSet, X509Bundle
    from spiffe_client.ids import SpiffeId

__all__ = ["TrailReport", "verify_trail"]

#: How often to say how far it is, in records.
_PROGRESS = 8192
#: Where `prev` and `hash` are in a line, from its end; its line feed is not counted.
_PREV: Final = slice(-HASH_BYTES - 65, -HASH_BYTES - 1)
_HASH: Final = slice(-HASH_BYTES + 9, -2)


@dataclass(frozen=True, slots=True)
class TrailReport:
    """What verification found; it found nothing wrong, or it would have raised.

    Attributes:
        trail: The trail's id.
        workload: Whose it is, by its checkpoints or else its header; empty if it does not say.
        proven: Whether the signers' certificates lead to the given bundles. If not, whoever could
            write the file could also have made a trail like this.
        records: How many there are, those of the trail itself included.
        vouched: How many of them, from the first, the last signed checkpoint covers.
        checkpoints: How many signed ones there are.
        closed: Whether the last record closes the trail. If not, its writer lives, or crashed, or
            somebody has cut off the end.
        runs: How often it was opened.
        crashes: How often it was opened again without having been closed.
        torn: Unfinished lines, one for a crash in the middle of writing at most.
        dropped: Events that were not recorded for want of room; never a denial.
        denials: How many records say `decision=deny`; a person's no is counted as the denial of its call.
        first_at: When the first record was made, RFC 3339.
        last_at: When the last one was.
        head: The last record's hash, in hex. Kept elsewhere with its number, it proves later that
            nothing up to here was cut off: `known=`.
    """

    trail: str
    workload: str
    proven: bool
    records: int
    vouched: int
    checkpoints: int
    closed: bool
    runs: int
    crashes: int
    torn: int
    dropped: int
    denials: int
    first_at: str
    last_at: str
    head: str


def verify_trail(
    trail: Trail,
    *,
    bundles: BundleSet[X509Bundle] | None = None,
    workload: SpiffeId | str | None = None,
    known: tuple[int, str] | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> TrailReport:
    """Verify a trail from its first line to its last, holding one at a time.

    Without `bundles` it is shown that nobody has changed it without making all hashes and signatures
    anew; with them, that nobody could who has no key of the workload's. What was cut off behind the
    last checkpoint, or what the holder of such a key does, is not seen: see docs/audit.md.

    Args:
        trail: The file, or its lines with their line feeds.
        bundles: What signers' certificates must lead to, at the time of their checkpoint.
        workload: Whose it must be.
        known: The number and hash of a record that must be in it, as was noted before.
        progress: Called now and then with the number of records so far.

    Raises:
        AuditError: A line was edited, removed, moved or repeated, or is of another trail; a checkpoint
            does not verify or is another workload's; the known record is not there; or nobody has
            signed, and `bundles` or `workload` ask for that.
        OSError: It cannot be read.
    """
    verifier = _Verifier(bundles, None if workload is None else str(workload), known)
    for number, text in enumerate(lines_of(trail), 1):
        verifier.take(text, number)
        if number % _PROGRESS == 0:
            progress(number)
    return verifier.report()


class _Verifier:
    def __init__(
        self, bundles: BundleSet[X509Bundle] | None, workload: str | None, known: tuple[int, str] | None
    ) -> None:
        self._bundles, self._demanded, self._known = bundles, workload, known
        self._trail = ""
        self._signer = ""
        self._named = ""
        self._seq, self._prev = 0, FIRST_PREV
        self._vouched = self._checkpoints = self._runs = self._crashes = 0
        self._torn = self._dropped = self._denials = 0
        self._closed = False
        self._broken: tuple[AuditError, bytes, bool] | None = None
        self._first_at = self._last_at = ""

    def take(self, text: bytes, line: int) -> None:
        """Verify the next line."""
        ended = text[-1:] == b"\n"
        body = text[:-1] if ended else text
        try:
            record = parse_record(body if ended else b"", line=line)  # an unfinished line is none
        except AuditError as error:
            # A crash tears a line; the next record, of the same writer, says so.
            if self._broken is not None:
                raise self._broken[0] from None
            self._broken = error, body, ended
            return
        if self._broken is not None:
            self._accept_torn(record)
        if record.seq != self._seq or body[_PREV] != self._prev:
            raise self._misplaced(record, line)
        digest = hashlib.sha256(body[:-HASH_BYTES]).hexdigest().encode()
        if body[_HASH] != digest:
            raise AuditError(f"line {line} was changed: its hash is not that of what it says", line=line)
        if record.event.startswith("trail.") or self._seq == 0 or self._closed:
            self._own(record, line)
        elif record.facts.get(DECISION) == DENY and record.event != REFUSED:
            self._denials += 1
        if self._known is not None and self._known[0] == self._seq:
            self._check_known(record, line)
        self._seq, self._prev, self._last_at = self._seq + 1, digest, record.at

    def _misplaced(self, record: Record, line: int) -> AuditError:
        expected = self._seq
        if record.seq == expected:
            what = (
                "does not follow on the line before it, which was changed, or one of them is of another trail"
            )
        elif record.seq > expected:
            what = f"is record {record.seq} where {expected} must be: {record.seq - expected} were removed or moved"
        else:
            what = f"is record {record.seq} where {expected} must be: it was repeated or moved"
        return AuditError(f"line {line} {what}", line=line)

    def _accept_torn(self, record: Record) -> None:
        assert self._broken is not None
        error, text, _ = self._broken
        said = record.facts.get("torn_bytes"), record.facts.get("torn_sha256")
        opening = record.event in ("trail.started", "trail.resumed")
        if not opening or said != (len(text), hashlib.sha256(text).hexdigest()):
            raise error
        self._broken = None
        self._torn += 1

    def _own(self, record: Record, line: int) -> None:
        """Verify what a trail says itself."""
        if self._seq == 0:
            self._header(record, line)
        elif record.event == "trail.resumed":
            if record.facts.get("trail") != self._trail:
                raise AuditError(f"line {line} resumes another trail", line=line)
            self._runs += 1
            self._crashes += not self._closed
            self._closed = False
        elif self._closed:
            raise AuditError(f"line {line} is behind the checkpoint that closed the trail", line=line)
        elif record.event == "trail.checkpoint":
            self._checkpoint(record, line)
        elif record.event == "trail.gap":
            dropped = record.facts.get("dropped")
            self._dropped += dropped if isinstance(dropped, int) else 0
        elif record.event != "trail.recovered":
            raise AuditError(f"line {line} says {record.event!r:.60}, which no trail says", line=line)

    def _header(self, record: Record, line: int) -> None:
        trail, form = record.facts.get("trail"), record.facts.get("format")
        if record.event != "trail.started" or not isinstance(trail, str) or not trail:
            raise AuditError(f"line {line} is no header of an audit trail", line=line)
        if form != FORMAT:
            raise AuditError(
                f"line {line}: the trail is of format {form!r:.20}, known is {FORMAT}", line=line
            )
        self._trail, self._first_at, self._runs = trail, record.at, 1
        self._named = str(record.facts.get("workload", ""))
        if self._demanded is not None and self._named not in ("", self._demanded):
            raise AuditError(
                f"line {line}: the trail is of {self._named}, not of {self._demanded}", line=line
            )

    def _checkpoint(self, record: Record, line: int) -> None:
        signer = verify_checkpoint(record, trail=self._trail, line=line, bundles=self._bundles)
        self._closed = record.facts["final"] is True
        if signer is None:
            return
        expected = self._demanded or self._named or self._signer or str(signer)
        if str(signer) != expected:
            raise AuditError(f"line {line}: the checkpoint is by {signer}, not by {expected}", line=line)
        self._signer = str(signer)
        self._checkpoints += 1
        self._vouched = record.seq + 1

    def _check_known(self, record: Record, line: int) -> None:
        assert self._known is not None
        if record.hash != self._known[1]:
            raise AuditError(f"line {line} is not the record {record.seq} that is known", line=line)

    def report(self) -> TrailReport:
        """Return what was found, at the end."""
        if self._broken is not None:
            error, _, ended = self._broken
            if ended or not self._seq:
                raise error
            self._torn += 1  # by a crash, and nobody has gone on with it yet
            self._closed = False
        if not self._seq:
            raise AuditError("the audit trail is empty: not even its header is there")
        if self._known is not None and self._known[0] >= self._seq:
            raise AuditError(
                f"the trail was cut: record {self._known[0]} is known, and there are {self._seq}"
            )
        if not self._checkpoints and (self._bundles is not None or self._demanded is not None):
            raise AuditError("nobody has signed the trail: it has no checkpoint with a signature")
        return TrailReport(
            self._trail,
            self._signer or self._named,
            self._bundles is not None,
            self._seq,
            self._vouched,
            self._checkpoints,
            self._closed,
            self._runs,
            self._crashes,
            self._torn,
            self._dropped,
            self._denials,
            self._first_at,
            self._last_at,
            self._prev.decode(),
        )
