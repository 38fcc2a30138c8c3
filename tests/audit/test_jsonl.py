"""The trail in a file: what a caller waits for, what is kept when the disk fails, who may have the file."""

from __future__ import annotations

import errno
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from spiffe_client.audit import Event, JsonlSink, fan_out, read_trail, require_ready, verify_trail
from spiffe_client.audit._file import TrailFile
from spiffe_client.audit._jsonl import _let_go
from spiffe_client.audit._scribe import Order
from spiffe_client.errors import AuditError, SourceClosedError, StaleError
from tests.support.audit_scene import AUDITOR, CLOSER, call, denied
from tests.support.audit_trails import BUNDLES, CA, SVID, Disk, records_of, until, write_trail
from tests.support.manual_clock import ManualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch):
    disk = Disk()
    with disk.under(monkeypatch):
        yield disk


def unmeasured() -> dict[str, str]:
    """Without coverage, which would be killed, too, while it writes its own file."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


class TestOpening:
    def test_a_new_file(self, path: Path) -> None:
        """For this user alone, with a header, closed with a checkpoint."""
        with JsonlSink(path, on_trouble="spill", signer=lambda: SVID) as sink:
            sink(call())
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        assert ["trail.started", "call.finished", "trail.checkpoint"] == records_of(path)
        report = verify_trail(path, bundles=BUNDLES)
        assert (CLOSER, True, 1, 0) == (report.workload, report.closed, report.runs, report.crashes)

    def test_gone_on_with(self, path: Path) -> None:
        """By linking to the last line."""
        for _ in range(3):
            write_trail(path, 1)
        report = verify_trail(path, bundles=BUNDLES)
        assert (3, 0, True) == (report.runs, report.crashes, report.closed)
        assert 2 == records_of(path).count("trail.resumed")

    def test_after_a_crash(self, path: Path) -> None:
        """The unfinished line stays where it is, and is told."""
        write_trail(path, 2)
        whole = path.read_bytes()
        path.write_bytes(whole[:-100])
        write_trail(path, 1)
        assert path.read_bytes().startswith(whole[:-100] + b'\n{"seq":')
        report = verify_trail(path, bundles=BUNDLES)
        assert (1, 1, 2, True) == (report.torn, report.crashes, report.runs, report.closed)
        assert "trail.resumed" in [record.event for record in read_trail(path)]

    def test_after_a_crash_at_the_header(self, path: Path) -> None:
        """A trail begins behind it."""
        write_trail(path, 1)
        path.write_bytes(path.read_bytes()[:40])
        write_trail(path, 1)
        write_trail(path, 1)
        report = verify_trail(path, bundles=BUNDLES)
        assert (1, 0, 2) == (report.torn, report.crashes, report.runs)

    @pytest.mark.parametrize("damage", [b"edited", b"junk\n", b"\n"])
    def test_changed_at_its_end(self, path: Path, damage: bytes) -> None:
        """Nobody goes on with what was changed: it is evidence."""
        write_trail(path, 2)
        text = path.read_bytes()
        path.write_bytes(text.replace(b'"final":true', b'"final":false') if damage == b"edited" else text + damage)
        with pytest.raises(AuditError, match="its last line"):
            JsonlSink(path, on_trouble="block")

    @pytest.mark.parametrize("content", [b"hello", b"hello\n", b'{"seq":0,"at":"x"}\nhello\n'], ids=["a", "b", "c"])
    def test_something_else(self, path: Path, content: bytes) -> None:
        """A file that is no trail is not written to."""
        path.write_bytes(content)
        with pytest.raises(AuditError):
            JsonlSink(path, on_trouble="block")
        assert content == path.read_bytes()

    def test_another_workloads(self, path: Path) -> None:
        """One trail is one workload's."""
        write_trail(path, 1)
        with pytest.raises(AuditError, match="is the trail of"):
            JsonlSink(path, on_trouble="block", signer=lambda: CA.issue_x509_svid(AUDITOR))

    def test_a_link(self, path: Path, tmp_path: Path) -> None:
        """Nor through one, be it symbolic or hard."""
        (tmp_path / "real").touch()
        path.symlink_to(tmp_path / "real")
        with pytest.raises(AuditError, match="symbolic link"):
            JsonlSink(path, on_trouble="block")
        path.unlink()
        os.link(tmp_path / "real", path)
        with pytest.raises(AuditError, match="2 names"):
            JsonlSink(path, on_trouble="block")

    def test_no_file(self, path: Path, tmp_path: Path) -> None:
        """A pipe or a folder."""
        os.mkfifo(path)
        with pytest.raises(AuditError, match="no regular file"):
            JsonlSink(path, on_trouble="block")
        with pytest.raises(IsADirectoryError):
            JsonlSink(tmp_path, on_trouble="block")

    def test_written_by_others(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What others may write to, or own, proves nothing."""
        path.touch()
        path.chmod(0o620)
        with pytest.raises(AuditError, match="chmod go-w"):
            JsonlSink(path, on_trouble="block")
        path.chmod(0o600)
        monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
        with pytest.raises(AuditError, match="another user's"):
            JsonlSink(path, on_trouble="block")

    def test_two_writers(self, path: Path) -> None:
        """The second is refused; when the first is gone, it is welcome."""
        with JsonlSink(path, on_trouble="block"), pytest.raises(AuditError, match="another process writes"):
            JsonlSink(path, on_trouble="block")
        JsonlSink(path, on_trouble="block").close()

    @pytest.mark.parametrize(
        "options",
        [{"on_trouble": "ignore"}, {"capacity": 0}, {"checkpoint_every": 0}, {"checkpoint_seconds": 0}],
        ids=["on_trouble", "capacity", "every", "seconds"],
    )
    def test_arguments(self, path: Path, options: dict) -> None:
        """Nothing is written for arguments that make no sense."""
        with pytest.raises(ValueError):
            JsonlSink(path, **{"on_trouble": "spill", **options})
        assert not path.exists()

    def test_a_full_disk(self, path: Path, disk: Disk) -> None:
        """It is known at the start."""
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            JsonlSink(path, on_trouble="spill")


class TestCheckpoints:
    def test_after_so_many_records(self, path: Path) -> None:
        """And by whichever key the workload has then."""
        svids = [CA.issue_x509_svid(CLOSER) for _ in range(9)]
        write_trail(path, 9, checkpoint_every=3, signer=lambda: svids.pop() if len(svids) > 1 else svids[0])
        report = verify_trail(path, bundles=BUNDLES)
        assert 4 <= report.checkpoints
        chains = {r.facts["certificates"] for r in read_trail(path) if r.event == "trail.checkpoint"}
        assert len(chains) > 2

    def test_after_so_many_seconds(self, path: Path) -> None:
        """Where little happens, too."""
        clock = ManualClock()
        with JsonlSink(path, on_trouble="block", signer=lambda: SVID, clock=_at_issue(clock)) as sink:
            sink(call())
            sink.flush()
            assert "trail.checkpoint" not in records_of(path)
            clock._elapsed += 61
            sink(call())
            sink.flush()
            assert "trail.checkpoint" == records_of(path)[-1]

    def test_where_nothing_happens(self, path: Path) -> None:
        """The time of a checkpoint is not waited for in vain."""
        with JsonlSink(path, on_trouble="block", signer=lambda: SVID, checkpoint_seconds=0.02) as sink:
            sink(call())
            until(lambda: "trail.checkpoint" in records_of(path))

    def test_nobody_to_sign(self, path: Path) -> None:
        """No identity yet, or none any more: what is not signed yet is by the next checkpoint."""
        signers = [lambda: SVID]

        def signer():
            if not signers:
                raise StaleError("withdrawn")
            return signers[0]()

        with JsonlSink(path, on_trouble="block", signer=signer, checkpoint_every=2) as sink:
            gone = signers.pop()
            for _ in range(5):
                sink(call())
                sink.flush()
            assert "trail.checkpoint" not in records_of(path)
            signers.append(gone)
            sink(call())
            sink.flush()
            assert "trail.checkpoint" == records_of(path)[-1]
            signers.clear()
            sink(call())
        report = verify_trail(path, bundles=BUNDLES)
        assert (True, 8, 10) == (report.closed, report.vouched, report.records)

    def test_an_identity_that_comes_later(self, path: Path) -> None:
        """As `lambda: me.x509_svid` before there is a `me`: the header names nobody, the first to sign is whose it is."""
        there = []
        with JsonlSink(path, on_trouble="block", signer=lambda: there[0]) as sink:
            there.append(SVID)
            sink(call())
        assert CLOSER == verify_trail(path, bundles=BUNDLES, workload=CLOSER).workload

    def test_a_source_that_was_closed_first(self, path: Path) -> None:
        """As nested blocks do it: its last SVID closes the trail; an expired one does not."""
        clock = ManualClock()
        for late, vouched in ((0, 3), (2 * 86400, 3)):
            svids = [SVID]

            def signer():
                if not svids:
                    raise SourceClosedError("closed")
                return svids[0]

            with JsonlSink(path, on_trouble="block", signer=signer, clock=_at_issue(clock)) as sink:
                sink(call())
                svids.clear()
                clock.skew += timedelta(seconds=late)
            assert vouched == verify_trail(path, bundles=BUNDLES).vouched

    def test_a_source_that_came_and_went(self, path: Path) -> None:
        """Opened after the trail and closed before it, as nested blocks do it, and all in between two checkpoints."""
        svids = []

        def signer():
            if not svids:
                raise SourceClosedError("not open")
            return svids[0]

        with JsonlSink(path, on_trouble="block", signer=signer) as sink:
            svids.append(SVID)
            sink(call())
            sink.flush()
            svids.clear()
        report = verify_trail(path, bundles=BUNDLES)
        assert (True, report.records) == (report.closed, report.vouched)

    def test_another_identity_on_the_way(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """It does not spoil the trail: nothing is signed, and that is logged."""
        svids = [SVID]
        with JsonlSink(path, on_trouble="block", signer=lambda: svids[0]) as sink:
            svids[0] = CA.issue_x509_svid(AUDITOR)
            sink(call())
        assert 0 == verify_trail(path).checkpoints
        assert "is not signed as" in caplog.text

    def test_a_key_that_fails(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Keys may be kept elsewhere; what they fail with is not shown."""

        class Elsewhere:
            id, ders, not_after, private_key = SVID.id, SVID.ders, SVID.not_after, object()

        with JsonlSink(path, on_trouble="block", signer=Elsewhere) as sink:  # type: ignore[arg-type]
            sink(call())
        assert (0, True) == (verify_trail(path).checkpoints, verify_trail(path).closed)
        assert "cannot be signed" in caplog.text

    @pytest.mark.parametrize("kind", ["P-384", "P-521", "RSA", "Ed25519"])
    def test_other_keys(self, path: Path, kind: str) -> None:
        """Whatever key an SVID may have, each with its algorithm."""
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519

        from tests.support.pki import RSA_KEY, new_authority

        key = {
            "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
            "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
            "RSA": RSA_KEY,
            "Ed25519": ed25519.Ed25519PrivateKey.generate,
        }[kind]()
        from spiffe_client.bundle import BundleSet
        from spiffe_client.svid import X509Svid

        root = new_authority("prod.example")
        leaf = root.leaf(CLOSER, key=key)
        svid = X509Svid.parse_der(b"".join(leaf.ders), leaf.key_der)
        write_trail(path, 1, signer=lambda: svid)
        assert 1 == verify_trail(path, bundles=BundleSet([root.bundle()])).checkpoints


def _at_issue(clock: ManualClock) -> ManualClock:
    """A clock that begins when the SVID of these tests does."""
    clock._start = SVID.not_before + timedelta(minutes=2)
    return clock


class TestTrouble:
    def test_block(self, path: Path, disk: Disk) -> None:
        """While it cannot be written calls are refused; nothing is lost; then they are let through again."""
        with JsonlSink(path, on_trouble="block", signer=lambda: SVID) as sink:
            require_ready(sink)
            disk.fill()
            sink(call())
            until(lambda: not sink.ready)
            with pytest.raises(AuditError):
                require_ready(fan_out(sink))
            assert ("failing", "No space left on device") == (sink.health.state, sink.health.trouble)
            sink(denied())
            disk.error = None
            until(lambda: sink.ready)
            sink.flush()
            assert ("ok", 0, 0, "") == (sink.health.state, sink.health.waiting, sink.health.dropped, sink.health.trouble)
        assert ["trail.started", "call.finished", "trail.recovered", "call.denied"] == records_of(path)[:4]
        assert verify_trail(path, bundles=BUNDLES).closed

    def test_spill(self, path: Path, disk: Disk) -> None:
        """Calls go on; beyond the capacity they are dropped and counted, but never a denial."""
        with JsonlSink(path, on_trouble="spill", capacity=5) as sink:
            disk.hangs.clear()
            sink(call())
            assert disk.reached.wait(20)
            for number in range(20):
                sink(call(resource=f"r/{number}"))
                sink(denied(reason="budget_spent"))
            assert sink.ready
            assert "slow" == sink.health.state
            assert 40 > sink.health.dropped >= 15
            dropped = sink.health.dropped
            disk.hangs.set()
            sink.flush()
        report = verify_trail(path)
        assert (20, dropped) == (report.denials, report.dropped)
        assert 21 - dropped == records_of(path).count("call.finished")

    def test_block_drops_nothing(self, path: Path, disk: Disk) -> None:
        """What is told in spite of it, such as the ends of calls that ran, is kept; it is no longer ready."""
        with JsonlSink(path, on_trouble="block", capacity=3) as sink:
            disk.hangs.clear()
            sink(call())
            assert disk.reached.wait(20)
            assert sink.ready
            for _ in range(10):
                sink(call())
            assert not sink.ready
            disk.hangs.set()
        assert 11 == records_of(path).count("call.finished")

    def test_a_disk_that_hangs(self, path: Path, disk: Disk) -> None:
        """One write that takes seconds is trouble, too."""
        clock = ManualClock()
        with JsonlSink(path, on_trouble="block", clock=clock) as sink:
            disk.hangs.clear()
            sink(call())
            assert disk.reached.wait(20)
            until(lambda: sink._scribe.busy_since is not None)
            clock._elapsed += 3
            assert ("slow", False) == (sink.health.state, sink.ready)
            disk.hangs.set()

    def test_writes_in_parts(self, path: Path, disk: Disk) -> None:
        """What was written in part is not written again."""
        disk.most = 100
        write_trail(path, 3)
        assert verify_trail(path, bundles=BUNDLES).closed

    def test_a_sync_that_fails(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is tried again."""
        real, failed = TrailFile.sync, threading.Event()

        def sync(file: TrailFile) -> None:
            if not failed.is_set():
                failed.set()
                raise OSError(errno.EIO, "Input/output error")
            real(file)

        with JsonlSink(path, on_trouble="block") as sink:
            monkeypatch.setattr(TrailFile, "sync", sync)
            sink(call())
            sink.flush()
        assert failed.is_set()
        assert "trail.recovered" in records_of(path)
        assert verify_trail(path).closed

    def test_trouble_at_the_very_end(self, path: Path, disk: Disk) -> None:
        """Nothing comes behind the last checkpoint, not even that all is well again."""
        sink = JsonlSink(path, on_trouble="block", signer=lambda: SVID)
        sink(call())
        sink.flush()
        disk.fill()
        closing = threading.Thread(target=sink.close)
        closing.start()
        assert disk.reached.wait(20)
        disk.error = None
        closing.join(30)
        report = verify_trail(path, bundles=BUNDLES)
        assert (True, report.records) == (report.closed, report.vouched)

    def test_somebody_cuts_the_file(self, path: Path) -> None:
        """As `copytruncate` does: it is noticed, and not written over."""
        sink = JsonlSink(path, on_trouble="block")
        os.truncate(path, 0)
        sink(call())
        until(lambda: not sink.ready)
        assert "written or cut by somebody else" in sink.health.trouble
        with pytest.raises(AuditError, match="could not be written"):
            sink.close(0.1)
        assert b"" == path.read_bytes()

    def test_somebody_removes_the_file(self, path: Path) -> None:
        """What would be written then, nobody would read."""
        sink = JsonlSink(path, on_trouble="block")
        path.unlink()
        sink(denied())
        until(lambda: not sink.ready)
        with pytest.raises(AuditError, match="was removed"):
            sink.close(0.1)

    def test_somebody_renames_it(self, path: Path) -> None:
        """It is the same file."""
        with JsonlSink(path, on_trouble="block") as sink:
            path = path.rename(path.with_suffix(".old"))
            sink(call())
        assert verify_trail(path).closed

    def test_closed_while_it_fails(self, path: Path, disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
        """What could not be written is in the log: the last resort."""
        sink = JsonlSink(path, on_trouble="spill")
        disk.fill()
        sink(denied(reason="rate"))
        assert disk.reached.wait(20)
        sink(denied(reason="workflow"))
        until(lambda: sink.health.trouble)
        with pytest.raises(AuditError, match="within 0.1 s: No space"):
            sink.flush(0.1)
        with pytest.raises(AuditError, match="2 records could not be written to the audit trail: No space"):
            sink.close(0.1)
        lost = [r.getMessage() for r in caplog.records if r.levelno == logging.CRITICAL]
        assert [True, True] == ["not in the audit trail" in text for text in lost]
        assert "rate" in lost[0]
        assert "workflow" in lost[1]

    def test_closed_while_it_hangs(self, path: Path, disk: Disk) -> None:
        """Nobody waits for ever."""
        sink = JsonlSink(path, on_trouble="spill")
        disk.hangs.clear()
        sink(call())
        assert disk.reached.wait(20)
        with pytest.raises(AuditError, match="the disk is too slow"):
            sink.close(0.01)
        disk.hangs.set()
        sink._scribe.thread.join(20)

    def test_a_bug(self, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """A writer that dies does so aloud, and `block` lets no call through."""
        with pytest.MonkeyPatch.context() as patch:
            sink = JsonlSink(path, on_trouble="block")
            patch.setattr("spiffe_client.audit._scribe.seal", lambda *_: 1 / 0)
            sink(call())
            until(lambda: not sink.ready)
            sink._scribe.thread.join(20)
        assert "ZeroDivisionError, which is a bug" == sink.health.trouble
        assert "written no more" in caplog.text
        with pytest.raises(AuditError, match="which is a bug"):
            sink.close(0.01)


class TestEnds:
    def test_closed(self, path: Path) -> None:
        """Idempotent; what comes later is refused aloud."""
        sink = JsonlSink(path, on_trouble="spill")
        sink.close()
        sink.close()
        sink.flush()
        assert ("closed", False) == (sink.health.state, sink.ready)
        with pytest.raises(AuditError, match="call.finished is not recorded: the trail is closed"):
            sink(call())

    def test_forgotten(self, path: Path) -> None:
        """Who drops it without a word still gets a closed trail."""
        sink = JsonlSink(path, on_trouble="spill", signer=lambda: SVID)
        sink(call())
        del sink
        until(lambda: "trail.checkpoint" in records_of(path))
        assert verify_trail(path, bundles=BUNDLES).closed

    def test_at_the_end_of_a_process(self, path: Path) -> None:
        """Also at the end of the interpreter."""
        code = (
            "import sys\nfrom spiffe_client.audit import Event, JsonlSink\n"
            "sink = JsonlSink(sys.argv[1], on_trouble='spill')\n"
            "for n in range(5000): sink(Event('call.finished', str(n)))\n"
        )
        subprocess.run([sys.executable, "-W", "error", "-c", code, str(path)], check=True, timeout=60)
        assert (True, 5002) == (verify_trail(path).closed, verify_trail(path).records)

    def test_killed(self, path: Path) -> None:
        """SIGKILL in the middle of it: the trail is gone on with, and says so."""
        code = (
            "import sys\nfrom spiffe_client.audit import Event, JsonlSink\n"
            "sink = JsonlSink(sys.argv[1], on_trouble='spill')\n"
            "print('there', flush=True)\n"
            "while True: sink(Event('call.finished', 'x' * 300))\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, env=unmeasured())
        assert process.stdout is not None
        with process.stdout:
            assert b"there\n" == process.stdout.readline()
            until(lambda: path.stat().st_size > 100_000)
            process.kill()
            process.wait(30)
        assert -signal.SIGKILL == process.returncode
        write_trail(path, 1, signer=None)
        report = verify_trail(path)
        assert (2, 1, True) == (report.runs, report.crashes, report.closed)

    def test_a_limit_on_files(self, path: Path) -> None:
        """A real limit of the operating system, not ours: it fails, and says with what."""
        code = (
            "import resource, sys\nfrom spiffe_client.audit import Event, JsonlSink\n"
            "sink = JsonlSink(sys.argv[1], on_trouble='block')\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
            "for n in range(100): sink(Event('call.denied', 'x' * 300, {'decision': 'deny'}))\n"
            "while sink.ready: pass\n"
            "try: sink.close(0.3)\n"
            "except Exception as error: print(sink.ready, error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env=unmeasured(),
        )
        assert done.stdout.startswith("False ")
        assert "could not be written to the audit trail: File too large" in done.stdout
        assert 10_000 == path.stat().st_size
        assert 1 == verify_trail(path).torn

    @pytest.mark.anyio
    async def test_async(self, path: Path) -> None:
        """The loop does not wait for the disk."""
        async with JsonlSink(path, on_trouble="block", signer=lambda: SVID) as sink:
            sink(call())
        assert verify_trail(path, bundles=BUNDLES).closed

    def test_a_signal_handler(self, path: Path) -> None:
        """It may be told anything at any moment, by the thread that is telling something else."""
        with JsonlSink(path, on_trouble="spill", capacity=50) as sink:
            told = 0

            def handler(*_: object) -> None:
                nonlocal told
                told += 1
                sink(denied())

            before = signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            try:
                until(lambda: [sink(call()) for _ in range(100)] and told > 50)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
        assert told == verify_trail(path).denials

    def test_small_batches(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many records are written at once, it is the same trail."""
        monkeypatch.setattr("spiffe_client.audit._scribe._BATCH", 1)
        with JsonlSink(path, on_trouble="block") as sink:
            for _ in range(20):
                sink(call())
        assert 22 == verify_trail(path).records

    def test_many_threads(self, path: Path) -> None:
        """Every event is there once."""
        with JsonlSink(path, on_trouble="block", signer=lambda: SVID, checkpoint_every=100) as sink:

            def tell(name: int) -> None:
                for number in range(300):
                    sink(call(resource=f"{name}/{number}"))

            threads = [threading.Thread(target=tell, args=(name,)) for name in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        told = {record.facts["resource"] for record in read_trail(path) if record.event == "call.finished"}
        assert {f"{name}/{number}" for name in range(4) for number in range(300)} == told
        assert verify_trail(path, bundles=BUNDLES).closed


_FORK = """
import os, sys
from spiffe_client.audit import Event, JsonlSink, require_ready
from spiffe_client.errors import AuditError

sink = JsonlSink(sys.argv[1], on_trouble="spill")
sink(Event("call.finished", "parent"))
child = os.fork()
if child == 0:
    try:
        sink(Event("call.finished", "child"))
    except AuditError as error:
        said = "forked from" in str(error) and not sink.ready
    sink.close()
    os._exit(0 if said else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
sink(Event("call.finished", "parent again"))
grandchild = os.fork()
if grandchild == 0:
    os.read(0, 1)  # outlives its parent
    os._exit(0)
sink.close()
"""


def test_fork(path: Path) -> None:
    """A child writes nothing, and does not keep the lock when its parent has gone."""
    process = subprocess.Popen(
        [sys.executable, "-c", _FORK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        assert "0\n" == process.stdout.readline()
        assert 0 == process.wait(30)
        JsonlSink(path, on_trouble="block").close()
    assert ["parent", "parent again"] == [r.message for r in read_trail(path) if r.event == "call.finished"]
    assert 2 == verify_trail(path).runs


def test_in_a_child(path: Path) -> None:
    """What a fork does to a trail in the child: it is closed there without a word in it."""
    sink = JsonlSink(path, on_trouble="spill")
    sink(call())
    sink.flush()
    _let_go()
    assert not sink.ready
    with pytest.raises(AuditError, match="forked from the one that writes"):
        sink(call())
    sink.close()
    assert ["trail.started", "call.finished"] == records_of(path)
    sink._scribe.leave.set()
    sink._scribe.inbox.put(Order(close=False))
    sink._scribe.thread.join(20)


def test_events_of_others_keep_the_room(path: Path) -> None:
    """Attributes that are changed later do not change what was told."""
    facts = {"task": "before"}
    with JsonlSink(path, on_trouble="block") as sink:
        sink(Event("task.started", "m", facts))
        facts["task"] = "after"
    assert ["before"] == [r.facts["task"] for r in read_trail(path) if r.event == "task.started"]
