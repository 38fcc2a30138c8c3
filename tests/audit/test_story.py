"""A trail put together as tasks, and drawn."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from spiffe_client.audit import Event, JsonlSink, Record, read_trail, render_report, verify_trail
from spiffe_client.audit._drawing import draw_timeline, shown
from spiffe_client.audit._story import Story
from spiffe_client.errors import AuditError
from tests.support.audit_scene import AUDITOR, CLOSER, call, denied, scene
from tests.support.audit_trails import BUNDLES, SVID, write_trail
from tests.support.manual_clock import ManualClock

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def record(event: Event, seq: int = 1, at: str = "2026-03-01T12:00:00.000000Z") -> Record:
    return Record(seq, at, event.name, event.message, event.level, dict(event.attributes), "", "")


def story_of(*events: Event, most: int = 100) -> Story:
    return Story.of(map(record, events), most=most)


def task(name: str, parents: str = "", **facts: object) -> Event:
    return Event("task.started", name, {"task": name, "parents": parents, "agent": f"agent-{name}", **facts})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "audit.jsonl"
    clock = ManualClock(datetime.fromisoformat(SVID.not_before.isoformat()))
    with JsonlSink(path, on_trouble="block", signer=lambda: SVID, clock=clock) as sink:
        for event in scene(clock):
            sink(event)
    return path


class TestStory:
    def test_tasks_and_those_below(self, trail: Path) -> None:
        """As they were delegated, with their steps in order."""
        story = Story.of(read_trail(trail))
        assert [(0, "t-books"), (1, "t-audit"), (0, "t-bank")] == [(depth, t.id) for depth, t in story.walk()]
        books, auditor, bank = (story.tasks[name] for name in ("t-books", "t-audit", "t-bank"))
        assert (CLOSER, "close the March books", "acme", 7, 1) == (
            books.agent, books.purpose, books.tenant, books.calls, books.denials,
        )  # fmt: skip
        assert (False, "stopped", True) == (books.alive, books.ended, bank.alive)
        assert (AUDITOR, 3, 2) == (auditor.agent, auditor.calls, auditor.denials)
        handed = next(entry for entry in books.entries if entry.event == "delegation.granted")
        assert AUDITOR == handed.action
        assert {"missing_scope": 2, "tenant_boundary": 1} == story.reasons
        assert ["svid", "token", "token", "svid"] == [c.kind for c in story.credentials]
        assert CLOSER == story.workload
        assert [(0, "t-audit")] == [(depth, t.id) for depth, t in story.walk("t-audit")]

    def test_a_person_says_no(self) -> None:
        """Is one denial, not two: the call that it was about is denied as well."""
        no = Event("approval.refused", "no", {"task": "a", "decision": "deny", "reason": "not_approved"})
        story = story_of(task("a"), no, denied("a", "not_approved", call="7f00"))
        assert (1, 1, {"not_approved": 1}) == (story.tasks["a"].calls, story.tasks["a"].denials, story.reasons)
        assert [("approval.refused", ""), ("call.denied", "7f00")] == [(e.event, e.call) for e in story.tasks["a"].entries]
        assert "<td>7f00</td>" in render_report(map(record, [task("a"), no, denied("a", "not_approved", call="7f00")]))

    def test_authority_that_was_not_given(self) -> None:
        """A task that has not begun is not alive, and of work that was not handed on it is told to whom."""
        verdict = {"decision": "deny", "outcome": "denied"}
        late = Event("task.refused", "no", {"task": "late", "agent": CLOSER, "reason": "task", **verdict})
        more = Event("delegation.refused", "no", {"task": "a", "to": AUDITOR, "reason": "attenuation", **verdict})
        story = story_of(task("a"), more, late)
        assert (False, "refused", 0) == (story.tasks["late"].alive, story.tasks["late"].ended, story.tasks["late"].calls)
        assert [(AUDITOR, True)] == [(e.action, e.denied) for e in story.tasks["a"].entries]
        assert {"attenuation": 1, "task": 1} == story.reasons
        assert "attenuation" in render_report(map(record, [task("a"), more, late]))

    def test_what_was_withheld(self) -> None:
        """Is a denial, and no call: there was one, and it was let in. An answer that is not taken is not even that."""
        facts = {"task": "a", "call": "7f00", "action": "read"}
        late = Event("credential.withheld", "no", {**facts, "decision": "deny", "reason": "call_ended"})
        used = Event("approval.ignored", "no", {**facts, "reason": "answer_used"})
        nobodys = Event("call.denied", "no", {"decision": "deny", "reason": "no_task"})
        story = story_of(task("a"), call("a", "x", **facts), late, used, nobodys)
        assert (1, 0) == (story.tasks["a"].calls, story.tasks["a"].denials)
        assert ({"call_ended": 1, "no_task": 1}, {"no_task": 1}) == (story.reasons, story.nobodys)
        assert "no_task" in render_report(map(record, [task("a"), nobodys]))

    def test_a_parent_that_comes_later(self) -> None:
        """The child's record may be written first."""
        story = story_of(task("b", "a"), task("a"))
        assert ["a", "b"] == [t.id for _, t in story.walk()]
        assert "agent-a" == story.tasks["a"].agent

    def test_no_tree(self) -> None:
        """A trail that says each descends from the other, or from itself, is shown without that."""
        story = story_of(task("a", "b"), task("b", "a"), task("c", "c"))
        assert {"a", "b", "c"} == {t.id for _, t in story.walk()}

    def test_very_deep(self) -> None:
        """Deeper than Python likes to recurse."""
        story = story_of(*(task(str(n), str(n - 1) if n else "") for n in range(3000)))
        assert 3000 == len(list(story.walk()))
        assert 2880 == draw_timeline(story)[1]

    def test_no_more_steps_than_wanted(self) -> None:
        """What is not kept is counted."""
        one = story_of(*[call()] * 5, most=2).tasks["t-books"]
        assert (2, 3, 5) == (len(one.entries), one.left_out, one.calls)

    def test_credentials_that_do_not_say(self) -> None:
        """When they end, or not in a form that is known."""
        for expires in ({}, {"expires_at": "soon"}, {"expires_at": "2026-01-01T00:00:00"}, {"expires_at": 7}):
            assert [] == story_of(Event("token.issued", "m", expires)).credentials  # type: ignore[arg-type]
        at = record(Event("svid.updated", "m", {"expires_at": NOW.isoformat()}), at="nonsense")
        assert [] == Story.of([at]).credentials

    def test_odd_facts(self) -> None:
        """Of another type than they should be."""
        story = story_of(call(task=7, duration_ms=True, resource=None, reason=3, decision="deny"))  # type: ignore[arg-type]
        assert (None, "", "3") == (story.tasks["7"].entries[0].milliseconds, story.tasks["7"].entries[0].resource, story.denied[0][1].reason)
        assert {"(none)": 1} == story_of(denied(reason="")).reasons


def texts(page: str) -> str:
    """What a reader sees, every chart being well-formed XML."""
    charts = re.findall(r"<svg.*?</svg>", page)
    return " ".join("".join(ElementTree.fromstring(chart).itertext()) for chart in charts)


class TestReport:
    def test_a_whole_one(self, trail: Path) -> None:
        """Tasks, agents, reasons and credentials are on it; verified, and who says so."""
        page = render_report(read_trail(trail), verified=verify_trail(trail, bundles=BUNDLES))
        seen = texts(page)
        assert 4 == page.count("<svg")
        for text in ("close the March books", "look it over", AUDITOR, "missing_scope", "svid", "abcdef012345", "tenant_boundary"):
            assert text in seen
        assert "verified to the end" in page
        assert "tenants/globex/invoices/1" in page

    def test_nothing_in_it(self, tmp_path: Path) -> None:
        """An empty trail makes a page that says so."""
        write_trail(tmp_path / "a", 0)
        page = render_report(read_trail(tmp_path / "a"))
        for text in ("No task is recorded", "Nobody handed on", "Nothing was denied", "No event says", "not verified"):
            assert text in page
        assert "<svg" not in page

    @pytest.mark.parametrize(
        ("cut", "bundles", "says"),
        [(None, None, "not proven"), (-1, BUNDLES, "open, or cut"), ("unsigned", BUNDLES, "closed without a signature")],
        ids=["no_bundle", "cut", "unsigned"],
    )
    def test_verdicts(self, tmp_path: Path, cut: object, bundles: object, says: str) -> None:
        """No more is claimed than was shown."""
        signers = [SVID]
        options = {"signer": lambda: signers[0]}
        lines = write_trail(tmp_path / "a", **options)
        if cut == "unsigned":
            with JsonlSink(tmp_path / "a", on_trouble="block", signer=lambda: signers[0]) as sink:
                sink(call())
                signers.clear()
            lines = (tmp_path / "a").read_bytes().splitlines(keepends=True)
        lines = lines[:cut] if isinstance(cut, int) else lines
        page = render_report([], verified=verify_trail(lines, bundles=bundles))  # type: ignore[arg-type]
        assert says in page

    def test_much_of_everything(self) -> None:
        """Charts stay charts: what is not drawn is counted below."""
        events = [task(f"t{n}") for n in range(200)]
        events += [task(f"c{n}", f"t{n % 3}", agent=f"spiffe://a.test/{n}") for n in range(100)]
        events += [task("again", "t0", agent="spiffe://a.test/0")]
        events += [denied(reason=f"reason-{n}") for n in range(900)]
        events += [Event("token.issued", "m", {"expires_at": NOW.isoformat(), "scope": f"s{n}"}) for n in range(90)]
        page = render_report(map(record, events))
        assert "tasks more, which are not drawn" in page
        assert "agents more, which are not drawn" in page
        assert "older ones more" in page
        assert "The newest 200 of 900" in page
        assert "2 times" in texts(page)

    def test_days_and_moments(self) -> None:
        """The axis suits what is shown: days, or parts of a second."""
        events = [task("a"), Event("task.ended", "m", {"task": "a"})]
        for end, form in (("2026-03-09T12:00:00.000000Z", "01 Mar"), ("2026-03-01T12:00:00.001000Z", "12:00:00.001")):
            at = ["2026-03-01T12:00:00.000000Z", end]
            page = render_report(record(e, at=a) for e, a in zip(events, at, strict=True))
            assert form in texts(page)

    def test_moments_that_are_none(self) -> None:
        """A record whose time has the form and is none is on no chart."""
        odd = "2026-13-01T12:00:00.000000Z"
        assert "No task is recorded" in render_report([record(call(), at=odd)])
        whole = [record(task("t-books")), record(call(), at=odd), record(task("x"))]
        assert "<circle" not in render_report(whole)

    @pytest.mark.parametrize(
        "evil",
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "</title></svg><iframe src='https://evil.example'>",
            "javascript:alert(1)",
            "]]><!--",
            "&lt;b&gt;",
            "\x1b[2J\x00\u202egnp.exe",
            "x" * 100_000,
        ],
        ids=["script", "attribute", "title", "scheme", "comment", "entity", "control", "long"],
    )
    def test_names_that_attack(self, evil: str) -> None:
        """An attacker chooses resources, purposes, reasons, even task ids: all of it is text."""
        facts = {"task": evil, "agent": evil, "purpose": evil, "tenant": evil, "action": evil, "workload": evil, "trail": evil}
        events = [
            Event("trail.started", evil, facts), Event("task.started", evil, facts), Event(evil, evil, facts),
            call(evil, evil, **facts | {"reason": evil, "decision": "deny"}),
            Event("task.started", evil, {"task": "child", "parents": "parent", "agent": evil}),
            Event("token.issued", evil, {"expires_at": NOW.isoformat(), "fingerprint": evil}),
        ]  # fmt: skip
        page = render_report(map(record, events))
        allowed = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "code", "div", "b", "span",
                   "svg", "text", "rect", "circle", "line", "path", "table", "tr", "th", "td", "i"}  # fmt: skip
        assert set(re.findall(r"<([a-zA-Z0-9]+)", page)) <= allowed
        assert not re.search(r"<[^>]*\s(on\w+|src|href|style)\s*=", page)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", page)
        assert len(page) < 60_000
        texts(page)

    def test_nothing_is_loaded(self, trail: Path) -> None:
        """One file: no address in it, no script, and a policy by which a browser would not load any."""
        page = render_report(read_trail(trail))
        assert "default-src 'none'" in page
        assert [] == re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page)

    def test_shown(self) -> None:
        """Cut, escaped, and what is not printable spelled out."""
        assert "&lt;a&gt; \\x07" == shown("<a> \x07")
        assert "ab…" == shown("abcdef", 3)


class TestReading:
    def test_it_is_not_verified(self, trail: Path) -> None:
        """Reading is for looking; a line that is no record is still told."""
        lines = trail.read_bytes().splitlines(keepends=True)
        assert len(lines) - 1 == len(list(read_trail([*lines[:3], *lines[4:]])))
        for damaged in ([*lines, b"junk\n"], [lines[0], b"junk\n", *lines[1:]], [lines[0], b"a\n", b"b\n"]):
            with pytest.raises(AuditError, match="no record"):
                list(read_trail(damaged))

    def test_a_torn_end(self, trail: Path) -> None:
        """A writer may be writing it now."""
        lines = trail.read_bytes().splitlines(keepends=True)
        assert len(lines) - 1 == len(list(read_trail([*lines[:-1], lines[-1][:30]])))
