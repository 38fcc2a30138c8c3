"""`spiffe-client audit`: verified, shown, drawn; what others have written into a trail stays text."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest

from spiffe_client.audit import Event, JsonlSink
from spiffe_client.cli import _audit
from tests.support.audit_scene import AUDITOR, CLOSER, call, denied, scene
from tests.support.audit_trails import CA, SVID, write_trail
from tests.support.command import on_terminal, press_ctrl_c, run_command
from tests.support.manual_clock import ManualClock

EVIL = "\x1b[2J\x1b]0;owned\x07\u202etxt\r\nnext: rm -rf / \x00<script>"


@pytest.fixture
def trail(tmp_path: Path) -> str:
    """The trail with a story in it."""
    clock = ManualClock(SVID.not_before)
    with JsonlSink(tmp_path / "audit.jsonl", on_trouble="block", signer=lambda: SVID, clock=clock) as sink:
        for event in scene(clock):
            sink(event)
    return str(tmp_path / "audit.jsonl")


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    (tmp_path / "bundle.pem").write_bytes(CA.x509_bundle.to_pem())
    return f"prod.example={tmp_path / 'bundle.pem'}"


class TestVerify:
    def test_a_good_one(self, trail: str, bundle: str) -> None:
        """Who vouches, for how much, and what to note elsewhere."""
        outcome = run_command("audit", "verify", trail, "--bundle", bundle, "--id", CLOSER, "--closed")
        assert (0, "") == (outcome.code, outcome.err)
        for text in (f"✓ {trail}", f"workload      {CLOSER}", "24, 3 denials, 0 dropped", "up to record 24 of 24", "end           closed"):
            assert text in outcome.out
        head = re.search(r"head +(\S+)", outcome.out)[1]  # type: ignore[index]
        assert 0 == run_command("audit", "verify", trail, "--known", head).code
        other = head[:-1] + ("0" if head[-1] != "0" else "1")
        assert 1 == run_command("audit", "verify", trail, "--known", other).code

    def test_nobody_proven(self, trail: str) -> None:
        """Without a bundle what to do is said."""
        outcome = run_command("audit", "verify", trail)
        assert 0 == outcome.code
        assert outcome.out.endswith("next: say with --bundle whom to trust; without it nobody is proven to have signed\n")

    def test_for_programs(self, trail: str, bundle: str) -> None:
        """One object for each file; a file named twice is verified once."""
        record = run_command("audit", "verify", trail, trail, "--bundle", bundle, "--json").record
        assert (trail, True, None) == (record["file"], record["ok"], record["refused"])
        assert (True, CLOSER, 3) == (record["report"]["proven"], record["report"]["workload"], record["report"]["denials"])

    def test_several_of_which_one_was_changed(self, trail: str, tmp_path: Path) -> None:
        """Each is told, the code is of the worst."""
        changed = tmp_path / "changed.jsonl"
        changed.write_bytes(Path(trail).read_bytes().replace(b'"decision":"deny"', b'"decision":"allow"', 1))
        outcome = run_command("audit", "verify", str(changed), trail)
        assert 1 == outcome.code
        assert f"✗ {changed}\n  refused: line 10 was changed" in outcome.out
        assert f"✓ {trail}" in outcome.out
        first, second = run_command("audit", "verify", str(changed), trail, "--json").records
        assert (False, "audit", 10, None) == (first["ok"], first["refused"]["code"], first["refused"]["line"], first["report"])
        assert second["ok"]

    def test_not_closed(self, trail: str) -> None:
        """Reported, and a failure only if that is asked for."""
        Path(trail).write_bytes(b"".join(Path(trail).read_bytes().splitlines(keepends=True)[:-1]))
        outcome = run_command("audit", "verify", trail)
        assert 0 == outcome.code
        assert "unclosed: its writer lives, has crashed, or the end was cut off" in outcome.out
        outcome = run_command("audit", "verify", trail, "--closed")
        assert (1, f"✗ {trail}") == (outcome.code, outcome.out.splitlines()[0])
        assert "refused: --closed asks for one that is closed, and signed to its end" in outcome.out

    def test_opened_again(self, tmp_path: Path) -> None:
        """How often is said."""
        for _ in range(3):
            write_trail(tmp_path / "a", 1)
        assert "3 times, never after a crash, 0 torn lines" in run_command("audit", "verify", str(tmp_path / "a")).out

    def test_somebody_elses(self, trail: str) -> None:
        """Whose it must be."""
        outcome = run_command("audit", "verify", trail, "--id", AUDITOR)
        assert 1 == outcome.code
        assert f"not of {AUDITOR}" in outcome.out

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["--id", "nobody"], "--id: "),
            (["--known", "7"], "'7' is not SEQ:HASH"),
            (["--known", f"x:{'0' * 64}"], "is not SEQ:HASH"),
            (["--known", f"7:{'g' * 64}"], "is not SEQ:HASH"),
            (["--bundle", "prod.example"], "is not TRUST-DOMAIN=FILE"),
        ],
        ids=["id", "number", "no_number", "no_hash", "bundle"],
    )
    def test_called_wrongly(self, trail: str, words: list[str], says: str) -> None:
        """Nothing was done, and where the help is."""
        outcome = run_command("audit", "verify", trail, *words)
        assert (2, "") == (outcome.code, outcome.out)
        assert says in outcome.err
        assert "`spiffe-client audit verify --help`" in outcome.err

    def test_no_such_file(self) -> None:
        """As everywhere."""
        outcome = run_command("audit", "verify", "/nowhere/audit.jsonl")
        assert 1 == outcome.code
        assert "/nowhere/audit.jsonl: No such file" in outcome.err

    def test_long_ones_say_how_far_they_are(self, tmp_path: Path) -> None:
        """On a terminal; Ctrl-C ends it."""
        with JsonlSink(tmp_path / "a", on_trouble="block") as sink:
            for _ in range(9000):
                sink(call())
        shown = on_terminal("audit", "verify", str(tmp_path / "a")).end()
        assert 0 == shown.code
        assert "9,002" in shown.out

    def test_ctrl_c(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the middle of a long one."""

        def endless(name: str, *, progress, **_: object) -> None:
            press_ctrl_c()
            while True:
                progress(1)

        monkeypatch.setattr(_audit, "verify_trail", endless)
        assert 130 == run_command("audit", "verify", str(tmp_path / "a")).code


class TestShow:
    def test_a_tree(self, trail: str) -> None:
        """Delegated tasks below those they are of."""
        outcome = run_command("audit", "show", trail)
        assert 0 == outcome.code
        assert "`spiffe-client audit verify` says whether it was changed" in outcome.err
        lines = outcome.out.splitlines()
        assert "close the March books  t-books" == lines[0]
        assert f"│  {CLOSER}, for acme" == lines[1]
        assert lines[2].endswith("7 calls, 1 denied, ended: stopped")
        assert "├─ ✓ invoices:read tenants/acme/invoices/0  12.5 ms" == lines[3]
        assert "├─ ✗ invoices:read tenants/globex/invoices/1  tenant_boundary  12.5 ms" in lines
        assert "├─ ? approval.granted orders:refund" in lines
        assert "├─ ✗ orders:refund tenants/acme/orders/3  error  12.5 ms" in lines
        assert f"├─ → delegation.granted {AUDITOR}" in lines
        assert "├─ ! anomaly.cross_tenant invoices:read" in lines
        below = lines.index("└─ look it over  t-audit")
        assert f"   │  {AUDITOR}, for acme" == lines[below + 1]
        assert "   └─ ✗ orders:refund tenants/globex/invoices/1  missing_scope  12.5 ms" == lines[below + 5]
        assert lines[-1].endswith("0 calls, 0 denied, alive")

    def test_siblings(self, tmp_path: Path) -> None:
        """Lines go on where something follows."""
        with JsonlSink(tmp_path / "a", on_trouble="block") as sink:
            for name, parents in (("a", ""), ("b", "a"), ("c", "b"), ("d", "a")):
                sink(Event("task.started", name, {"task": name, "parents": parents}))
            sink(Event("task.ended", "over", {"task": "d"}))
        lines = run_command("audit", "show", str(tmp_path / "a")).out.splitlines()
        assert ["a task  a", "├─ a task  b", "│  └─ a task  c", "└─ a task  d"] == [t for t in lines if " task  " in t]
        assert "│     │  no agent named" in lines
        assert lines[-1].endswith("0 denied, ended: no reason said")

    def test_one_task(self, trail: str) -> None:
        """And those below it; for programs with all that is known of each step."""
        record = run_command("audit", "show", trail, "--task", "t-audit", "--json").record
        assert ("t-audit", "t-books", AUDITOR, 3, 2, "ok") == tuple(
            record[key] for key in ("task", "parent", "agent", "calls", "denials", "ended")
        )
        assert {"at", "event", "action", "resource", "call", "denied", "reason", "outcome", "milliseconds"} == set(record["steps"][0])

    def test_no_such_task(self, trail: str) -> None:
        """Said with how many there are."""
        outcome = run_command("audit", "show", trail, "--task", "t-none")
        assert 1 == outcome.code
        assert "has no task 't-none'; it has 3 others" in outcome.err

    def test_one_call(self, tmp_path: Path) -> None:
        """By the reference that a denial gave; the task's other steps, and those below it, are left out."""
        path = str(tmp_path / "a")
        with JsonlSink(path, on_trouble="block") as sink:
            sink(call("t", call="7f00"))
            sink(denied("t", call="7f01"))
            sink(call("below", parents="t"))
        outcome = run_command("audit", "show", path, "--call", "7f01")
        assert "└─ ✗ invoices:read tenants/globex/invoices/1  tenant_boundary  12.5 ms" == outcome.out.splitlines()[-1]
        assert 4 == len(outcome.out.splitlines())
        assert ["7f01"] == [step["call"] for step in run_command("audit", "show", path, "--call", "7f01", "--json").record["steps"]]
        with JsonlSink(path, on_trouble="block") as sink:
            sink(denied("t", "not_approved", call="7f03"))
            sink(Event("approval.refused", "no", {**denied("t", "not_approved", call="7f03").attributes, "action": "a"}))
        assert ["├─ ✗ invoices:read tenants/globex/invoices/1  not_approved  12.5 ms", "└─ ✗ approval.refused a tenants/globex/invoices/1  12.5 ms"] == run_command(
            "audit", "show", path, "--call", "7f03"
        ).out.splitlines()[3:]
        outcome = run_command("audit", "show", path, "--call", "7f02")
        assert (1, "") == (outcome.code, outcome.out)
        assert "tells of no call '7f02'" in outcome.err

    def test_nothing_in_it(self, tmp_path: Path) -> None:
        """Is said: no line at all could be a mistake."""
        write_trail(tmp_path / "a", 0)
        outcome = run_command("audit", "show", str(tmp_path / "a"))
        assert (0, "") == (outcome.code, outcome.out)
        assert f"no task is recorded in {tmp_path / 'a'}" in outcome.err

    def test_denials_of_no_task(self, tmp_path: Path) -> None:
        """Are in no tree, so they are counted beside them."""
        verdict = {"decision": "deny", "outcome": "denied"}
        with JsonlSink(tmp_path / "a", on_trouble="block") as sink:
            sink(denied("t", "missing_scope"))
            for _ in range(2):
                sink(Event("call.denied", "no", {"action": "read", "reason": "no_task", **verdict}))
            sink(Event("delegation.refused", "no", {"reason": "ticket", **verdict}))
        outcome = run_command("audit", "show", str(tmp_path / "a"))
        assert "denied, and part of no task that is known: no_task 2 times, ticket once" in outcome.err
        assert "part of no task" not in run_command("audit", "show", str(tmp_path / "a"), "--task", "t").err

    def test_what_a_call_hands_out(self, tmp_path: Path) -> None:
        """Is told beside the call itself, with why it was not given; so is an answer that was not taken."""
        facts = {"task": "t", "call": "7f01", "action": "read"}
        verdict = {"decision": "deny", "outcome": "denied", "reason": "token_origin"}
        with JsonlSink(tmp_path / "a", on_trouble="block") as sink:
            sink(call("t", "x", **facts))
            sink(Event("credential.withheld", "no", {**facts, **verdict, "origin": "https://evil.example"}))
            sink(Event("approval.ignored", "no", {**facts, "reason": "answer_used"}))
        lines = run_command("audit", "show", str(tmp_path / "a"), "--call", "7f01").out.splitlines()
        assert ["credential.withheld read  token_origin", "approval.ignored read  answer_used"] == [
            it.partition(" ")[2].partition(" ")[2] for it in lines[-2:]
        ]

    def test_names_that_attack_the_terminal(self, tmp_path: Path) -> None:
        """Escapes, bells, line feeds and turned writing come as text, in every place that others fill."""
        path = str(tmp_path / "a")
        facts = {"purpose": EVIL, "agent": EVIL, "tenant": EVIL, "action": EVIL, "outcome": EVIL, "reason": EVIL, "task": EVIL}
        with JsonlSink(path, on_trouble="block") as sink:
            sink(Event("task.started", EVIL, facts))
            sink(call("t", EVIL, **facts))
            sink(denied("t", EVIL, **facts))
            sink(Event(f"delegation.{EVIL}", EVIL, {**facts, "to": EVIL}))
            sink(Event("task.ended", EVIL, facts))
            sink(Event("call.denied", EVIL, {"decision": "deny", "reason": EVIL}))
        for words in (["show", path], ["show", path, "--json"], ["verify", path], ["show", path, "--task", EVIL]):
            outcome = run_command("audit", *words)
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", outcome.out + outcome.err)
            assert "\nnext: rm" not in outcome.out + outcome.err
        shown = on_terminal("audit", "show", path).end()
        assert "\x1b[2J" not in shown.out
        assert "\\x1b[2J" in shown.out

    def test_long_names(self, tmp_path: Path) -> None:
        """Are cut."""
        with JsonlSink(tmp_path / "a", on_trouble="block") as sink:
            sink(call("t", "r" * 5000))
        assert max(map(len, run_command("audit", "show", str(tmp_path / "a")).out.splitlines())) < 300


class TestReport:
    def test_a_page(self, trail: str, bundle: str, tmp_path: Path) -> None:
        """Verified first; for its owner alone."""
        output = tmp_path / "report.html"
        outcome = run_command("audit", "report", trail, "-o", str(output), "--bundle", bundle)
        assert (0, f"written: {output}\n") == (outcome.code, outcome.out)
        assert "verified to the end" in output.read_text()
        assert 0o600 == stat.S_IMODE(output.stat().st_mode)
        again = run_command("audit", "report", trail, "-o", str(output), "--json").record
        assert {"file": str(output), "bytes": os.path.getsize(output)} == again
        assert "not proven" in output.read_text()

    def test_a_trail_that_was_changed(self, trail: str, tmp_path: Path) -> None:
        """Is not drawn, unless that is what somebody wants to see."""
        output = tmp_path / "report.html"
        Path(trail).write_bytes(Path(trail).read_bytes().replace(b'"reason":"rate"', b'"reason":"none"').replace(b"acme", b"mine", 1))
        outcome = run_command("audit", "report", trail, "-o", str(output))
        assert 1 == outcome.code
        assert "was changed" in outcome.err
        assert not output.exists()
        assert 0 == run_command("audit", "report", trail, "-o", str(output), "--unverified").code
        assert "not verified" in output.read_text()

    def test_progress(self, tmp_path: Path) -> None:
        """Of long ones."""
        with JsonlSink(tmp_path / "a", on_trouble="block") as sink:
            for _ in range(9000):
                sink(call())
        assert 0 == run_command("audit", "report", str(tmp_path / "a"), "-o", str(tmp_path / "r")).code
        assert "9,000" in (tmp_path / "r").read_text()


def test_json_is_one_object_a_line(trail: str) -> None:
    """Whatever is in it."""
    for text in run_command("audit", "show", trail, "--json").out.splitlines():
        json.loads(text)
