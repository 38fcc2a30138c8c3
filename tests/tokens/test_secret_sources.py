"""Secrets are read anew at each use, and what cannot be read says so without showing any of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from spiffe_client._redact import Secret
from spiffe_client.errors import SecretSourceError
from spiffe_client.tokens import SecretCall, SecretCommand, SecretFile, SecretSource, SecretVariable
from tests.support.canary import assert_no_secret

pytestmark = pytest.mark.anyio

CANARY = "canary-7f3a9c1e5b2d8f4a6c0e1d3b5a7f9c2e"


async def refused(source: SecretSource) -> SecretSourceError:
    with pytest.raises(SecretSourceError) as e:
        await source.read()
    assert_no_secret(e.value, CANARY)
    assert source.name in str(e.value)
    return e.value


class TestFile:
    @pytest.mark.parametrize(
        ("content", "secret"),
        [
            (b"s3cret", "s3cret"),
            (b"s3cret\n", "s3cret"),
            (b"s3cret\r\n", "s3cret"),
            (b"s3cret\n\n", "s3cret\n"),
            (b" s3cret ", " s3cret "),
            ("gehéim".encode(), "gehéim"),
            (b"x" * 65536, "x" * 65536),
        ],
    )
    async def test_one_line_end_does_not_count(self, content: bytes, secret: str, tmp_path: Path) -> None:
        """Editors add one; anything else may be part of the secret."""
        (tmp_path / "secret").write_bytes(content)

        assert secret == (await SecretFile(tmp_path / "secret").read()).reveal()

    async def test_a_rotated_one_counts_at_once(self, tmp_path: Path) -> None:
        """As Kubernetes rotates: a link is changed to another directory."""
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "secret").write_text(name)
        link = tmp_path / "data"
        link.symlink_to("one")
        source = SecretFile(str(link / "secret"))
        assert "one" == (await source.read()).reveal()
        link.unlink()
        link.symlink_to("two")

        assert "two" == (await source.read()).reveal()

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"", "empty"),
            (b"\n", "empty"),
            (b"x" * 65537, "more than 65536 bytes"),
            (CANARY.encode() + b"\xff", "not UTF-8"),
        ],
    )
    async def test_contents_that_are_none(self, content: bytes, why: str, tmp_path: Path) -> None:
        """And the decoder's error, which quotes what it read, is gone."""
        (tmp_path / "secret").write_bytes(content)
        error = await refused(SecretFile(tmp_path / "secret"))

        assert why in str(error)
        assert error.__context__ is None

    async def test_no_file(self, tmp_path: Path) -> None:
        """The message names the path."""
        assert "No such file" in str(await refused(SecretFile(tmp_path / "none")))
        assert "no path" in str(await refused(SecretFile("a\0b")))

    async def test_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Typed, and it says what to look at; root may read everything, so the system's answer is made."""

        def forbid(*args: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", forbid)

        assert "Permission denied; this process may not read it" in str(await refused(SecretFile(tmp_path)))

    async def test_a_pipe_does_not_block_the_event_loop(self, tmp_path: Path) -> None:
        """Nor is a directory or a device read."""
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
            assert "not a regular file" in str(await refused(SecretFile(path)))


class TestVariable:
    async def test_it_is_read_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A changed one counts."""
        source = SecretVariable("SHOP_SECRET")
        monkeypatch.setenv("SHOP_SECRET", "one")
        assert "one" == (await source.read()).reveal()
        monkeypatch.setenv("SHOP_SECRET", "two")

        assert "two" == (await source.read()).reveal()

    async def test_not_set_or_empty(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both are errors: an empty secret opens nothing."""
        monkeypatch.delenv("SHOP_SECRET", raising=False)
        assert "not set" in str(await refused(SecretVariable("SHOP_SECRET")))
        monkeypatch.setenv("SHOP_SECRET", "")
        assert "empty" in str(await refused(SecretVariable("SHOP_SECRET")))


def python(code: str, *argv: str, timeout: float = 10) -> SecretCommand:
    return SecretCommand(sys.executable, "-c", code, *argv, timeout=timeout)


def shell(code: str, *argv: str, timeout: float) -> SecretCommand:
    """One that has begun in a moment, also on a slow machine."""
    return SecretCommand("sh", "-c", code, *argv, timeout=timeout)


class TestCommand:
    async def test_what_it_prints(self) -> None:
        """Its arguments reach it as they are: no shell reads them."""
        source = python("import sys; print(sys.argv[1])", "$(id) `id` ; *")

        assert "$(id) `id` ; *" == (await source.read()).reveal()

    async def test_nothing_is_shown(self, caplog: pytest.LogCaptureFixture, capfd) -> None:
        """Neither arguments nor what it writes to its standard error."""
        caplog.set_level(logging.DEBUG)
        source = python(
            f"import sys; sys.stderr.write({CANARY!r}); sys.stdout.write({CANARY!r}); sys.exit(3)"
        )
        error = await refused(source)

        assert "ended with status 3" in str(error)
        shown = repr(source) + source.name + caplog.text + "".join(capfd.readouterr())
        assert CANARY not in shown

    async def test_it_has_no_input(self) -> None:
        """One that asks for a password gets none."""
        assert "[]" == (await python("import sys; print(sys.stdin.readlines())").read()).reveal()

    async def test_too_slow(self, tmp_path: Path) -> None:
        """It and what it started are killed."""
        code = 'sleep 100 & echo $$ $! > "$0"; sleep 100'
        with anyio.fail_after(20):
            error = await refused(shell(code, str(tmp_path / "pids"), timeout=1.5))

        assert "did not end within 1.5 s" in str(error)
        for pid in (tmp_path / "pids").read_text().split():
            await gone(int(pid))

    async def test_what_it_leaves_behind_is_killed(self, tmp_path: Path) -> None:
        """A child that holds its output open, after it has ended itself."""
        code = 'sleep 100 & echo $! > "$0"'
        error = await refused(shell(code, str(tmp_path / "pid"), timeout=1.5))

        assert "did not end" in str(error)
        await gone(int((tmp_path / "pid").read_text()))

    async def test_too_much(self) -> None:
        """It is stopped at 64 KiB, and does not fill the memory."""
        assert "more than 65536 bytes" in str(await refused(SecretCommand("cat", "/dev/zero")))

    async def test_cancelled(self, tmp_path: Path) -> None:
        """The caller's own deadline ends it too."""
        pid = tmp_path / "pid"
        pid.touch()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shell('echo $$ > "$0"; sleep 100', str(pid), timeout=60).read)
            with anyio.fail_after(20):
                while not pid.read_text():
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()

        await gone(int(pid.read_text()))

    @pytest.mark.parametrize("steps", range(12))
    async def test_cancelled_while_it_starts(
        self, steps: int, anyio_backend_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Regression: asyncio's own `cancel` minds no shield; it waited for what one had started by then, which nobody had ended.

        Whoever lives holds the pipe open.
        """
        read, write = os.pipe()
        begun = anyio.Event()

        def slow(*args, **options):
            process = real(*args, **options, pass_fds=(write,))
            assert b"." == os.read(read, 1)  # the one in its background lives
            begun.set()
            return process

        real = subprocess.Popen
        monkeypatch.setattr(subprocess, "Popen", slow)
        source = shell(f"(printf . >/dev/fd/{write}; exec sleep 100) & sleep 100", timeout=60)
        try:
            await cancel_after(source.read, begun, steps, anyio_backend_name)
            assert begun.is_set()
            os.close(write)
            with anyio.fail_after(20):
                await anyio.wait_readable(read)
            assert b"" == os.read(read, 1)
        finally:
            os.close(read)

    async def test_a_status_that_nobody_knows(self) -> None:
        """Regression, on trio: where the host throws statuses away, a failure was a success."""
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            error = await refused(shell("echo half; exit 3", timeout=20))
        finally:
            signal.signal(signal.SIGCHLD, before)

        assert "ended with status 255" in str(error)

    async def test_its_output_ends_before_it_does(self) -> None:
        """How it ended counts, and is waited for."""
        assert "ended with status 3" in str(await refused(shell("exec >&-; sleep 0.1; exit 3", timeout=20)))

    async def test_no_such_program(self, tmp_path: Path) -> None:
        """Neither is one that may not be run."""
        (tmp_path / "data").write_text("")
        for program in ("no-such-program-anywhere", str(tmp_path / "data"), ""):
            assert "cannot be run" in str(await refused(SecretCommand(program)))
        with pytest.raises(SecretSourceError):
            SecretCommand()

    async def test_a_zero_byte_in_an_argument(self) -> None:
        """Which no system takes."""
        assert "cannot be run: no program name" in str(await refused(SecretCommand("a\0b")))

    async def test_it_is_run_anew(self, tmp_path: Path) -> None:
        """Each use counts a rotated secret."""
        path = tmp_path / "secret"
        source = SecretCommand("cat", str(path))
        for value in ("one", "two"):
            path.write_text(value)
            assert value == (await source.read()).reveal()


async def cancel_after(read, begun: anyio.Event, steps: int, backend: str) -> None:
    """Cancel what reads, as the event loop's own means do, so many steps after its program has begun."""
    if backend == "asyncio":
        task = asyncio.create_task(read())
        await begun.wait()
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await begun.wait()
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def gone(pid: int) -> None:
    """Wait until a process has ended; init may take a moment to take it away."""
    for _ in range(500):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return
        await anyio.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"process {pid} still runs")


class TestCall:
    async def test_functions_of_both_kinds(self) -> None:
        """Plain and coroutine functions, text and secrets."""

        async def later() -> Secret[str]:
            await anyio.sleep(0)
            return Secret("later")

        assert "now" == (await SecretCall(lambda: "now").read()).reveal()
        assert "later" == (await SecretCall(later).read()).reveal()

    async def test_each_use_calls(self) -> None:
        """Whether to cache is the function's own business."""
        answers = iter(["one", "two"])
        source = SecretCall(lambda: next(answers), name="vault")

        assert ["one", "two"] == [(await source.read()).reveal() for _ in range(2)]

    async def test_what_it_raises(self) -> None:
        """Its text and frames may hold the secret: type and place have to do."""

        def fetch() -> str:
            secret = CANARY
            raise RuntimeError(f"cannot parse {secret}")

        error = await refused(SecretCall(fetch, name="vault"))

        assert "vault: RuntimeError in fetch, test_secret_sources.py:" in str(error)
        assert (None, None) == (error.__cause__, error.__context__)

    async def test_its_own_typed_error(self) -> None:
        """Stays what it is."""

        async def fetch() -> str:
            raise SecretSourceError("vault is sealed")

        with pytest.raises(SecretSourceError, match="vault is sealed"):
            await SecretCall(fetch).read()

    @pytest.mark.parametrize("value", [None, b"bytes", 7, "", "\ud800"])
    async def test_what_is_no_secret(self, value: object) -> None:
        """Text that is not empty."""
        await refused(SecretCall(lambda: value, name="vault"))

    async def test_nothing_of_it_is_printed(self) -> None:
        """A bound method's repr may hold its object's."""
        assert "SecretCall(name='vault')" == repr(SecretCall(lambda: CANARY, name="vault"))
