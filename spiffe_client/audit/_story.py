"""What a trail tells: tasks with their calls, who handed on what to whom, what was denied and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from spiffe_client.audit import _facts as f
from spiffe_client.audit._record import Record, moment_of

__all__ = ["Credential", "Entry", "Story", "TaskStory"]

#: Names of events that are no step of a task, but its ends.
_ENDS = frozenset({"task.started", "task.refused", "task.ended"})
#: Most denials and credentials that are kept one by one; the newest.
_MOST = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of a task: a call, a delegation, an approval, an anomaly.

    Attributes:
        at: When it ended, RFC 3339.
        event: The event's name.
        action: What was done, or to be done; of a delegation the agent it went to.
        resource: What to.
        call: The call's id, which a denial gives as its reference; empty if it is of none.
        denied: Whether it was denied.
        reason: The reason's code.
        outcome: How it went; empty if that is not said.
        milliseconds: How long it took; None if that is not said.
    """

    at: str
    event: str
    action: str
    resource: str
    call: str
    denied: bool
    reason: str
    outcome: str
    milliseconds: float | None

    @classmethod
    def of(cls, record: Record) -> Entry:
        """Read a step from its record."""
        facts = record.facts
        took = facts.get(f.DURATION_MS)
        action = _text(facts.get(f.DELEGATE)) if record.event.startswith("delegation.") else ""
        return cls(
            record.at,
            record.event,
            action or _text(facts.get(f.ACTION)),
            _text(facts.get(f.RESOURCE)),
            _text(facts.get(f.CALL)),
            facts.get(f.DECISION) == f.DENY,
            _text(facts.get(f.REASON)),
            _text(facts.get(f.OUTCOME)),
            took if isinstance(took, int | float) and not isinstance(took, bool) else None,
        )


@dataclass(slots=True)
class TaskStory:
    """What is known of one task.

    Attributes:
        id: Its id.
        parent: The task that delegated to it; None for one that nobody did.
        children: Those it delegated to, in the order in which they came.
        agent: Whose it is; empty if that is not said, as with all text below.
        purpose: What for.
        tenant: For whom.
        first_at: When it is heard of first, RFC 3339.
        last_at: When last.
        ended: Why or how it ended.
        alive: Whether no end is recorded.
        entries: Its steps, as many as are kept.
        calls: How many calls there were.
        denials: How many of them were denied.
    """

    id: str
    parent: TaskStory | None = None
    children: list[TaskStory] = field(default_factory=list)
    agent: str = ""
    purpose: str = ""
    tenant: str = ""
    first_at: str = ""
    last_at: str = ""
    ended: str = ""
    alive: bool = True
    entries: list[Entry] = field(default_factory=list)
    left_out: int = 0
    calls: int = 0
    denials: int = 0


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential, from its issue to its end.

    Attributes:
        kind: `svid` or `token`.
        name: What tells it from others: a serial number, a fingerprint.
        since: When it was issued.
        until: When it expires.
    """

    kind: str
    name: str
    since: datetime
    until: datetime


class Story:
    """Takes records, and puts together what they tell.

    Args:
        most: How many steps of each task are kept; the rest is counted.

    Attributes:
        tasks: By id, in the order in which they came.
        counts: How many events there were of each name.
        reasons: How many denials there were for each reason.
        nobodys: How many of them were of no task.
        denied: The newest denials, with the task's id.
        credentials: The newest credentials of which it is known when they end.
        workload: Whose trail it is, as it says.
        trail: The trail's id.
        first_at: When the first record was made.
        last_at: When the last one was.
    """

    def __init__(self, *, most: int = 1_000_000) -> None:
        self._most = most
        self.tasks: dict[str, TaskStory] = {}
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.nobodys: Counter[str] = Counter()
        self.denied: list[tuple[str, Entry]] = []
        self.credentials: list[Credential] = []
        self.workload = self.trail = self.first_at = self.last_at = ""

    @classmethod
    def of(cls, records: Iterable[Record], *, most: int = 1_000_000) -> Story:
        """Read all records."""
        story = cls(most=most)
        for record in records:
            story.add(record)
        return story

    def add(self, record: Record) -> None:
        """Take the next record."""
        self.counts[record.event] += 1
        self.first_at, self.last_at = self.first_at or record.at, record.at
        facts = record.facts
        if record.event.startswith("trail."):
            self.trail = _text(facts.get("trail")) or self.trail
            self.workload = _text(facts.get(f.WORKLOAD)) or self.workload
            return
        self._credential(record)
        entry = Entry.of(record)
        if entry.denied and record.event != f.REFUSED:
            self.reasons[entry.reason or "(none)"] += 1
            if not facts.get(f.TASK):
                self.nobodys[entry.reason or "(none)"] += 1
            self.denied.append((_text(facts.get(f.TASK)), entry))
            del self.denied[:-_MOST]
        if task := _text(facts.get(f.TASK)):
            self._tell(self.tasks.get(task) or self._new(task), record, entry)

    def _new(self, task: str) -> TaskStory:
        return self.tasks.setdefault(task, TaskStory(task))

    def _tell(self, task: TaskStory, record: Record, entry: Entry) -> None:
        facts = record.facts
        task.first_at, task.last_at = task.first_at or record.at, record.at
        task.agent = task.agent or _text(facts.get(f.AGENT))
        task.purpose = task.purpose or _text(facts.get(f.PURPOSE))
        task.tenant = task.tenant or _text(facts.get(f.TENANT))
        parents = _text(facts.get(f.PARENTS)).split()
        if parents and task.parent is None:
            self._adopt(task, self.tasks.get(parents[0]) or self._new(parents[0]))
        if record.event == "task.ended":
            task.alive, task.ended = False, entry.reason or entry.outcome
        elif record.event == "task.refused":
            task.alive, task.ended = False, "refused"
        if record.event in _ENDS:
            return
        is_call = record.event.startswith("call.")
        task.calls += is_call
        task.denials += is_call and entry.denied
        if len(task.entries) < self._most:
            task.entries.append(entry)
        else:
            task.left_out += 1

    def _adopt(self, task: TaskStory, parent: TaskStory) -> None:
        above: TaskStory | None = parent
        while above is not None:
            if above is task:  # a trail that says so is not a tree
                return
            above = above.parent
        task.parent = parent
        parent.children.append(task)

    def _credential(self, record: Record) -> None:
        kind = record.event.partition(".")[0]
        if record.event not in ("svid.updated", "token.issued", "token.refreshed"):
            return
        try:
            until = datetime.fromisoformat(_text(record.facts.get(f.EXPIRES_AT)))
        except ValueError:
            return
        since = moment_of(record.at)
        if since is None or until.tzinfo is None:
            return
        name = record.facts.get("serial") or record.facts.get("fingerprint") or record.facts.get("scope")
        self.credentials.append(Credential(kind, _text(name), since, until))
        del self.credentials[:-_MOST]

    def walk(self, task: str | None = None) -> Iterator[tuple[int, TaskStory]]:
        """Yield tasks with their depth, each above those it delegated to.

        Args:
            task: Only this one and those below it.
        """
        roots = [t for t in self.tasks.values() if (t.parent is None if task is None else t.id == task)]
        stack = [(0, root) for root in reversed(roots)]
        while stack:
            depth, one = stack.pop()
            yield depth, one
            stack += [(depth + 1, child) for child in reversed(one.children)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
