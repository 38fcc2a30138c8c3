"""From words to an exit code: help, mistakes, Ctrl-C, broken pipes, and no traceback anywhere."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

import spiffe_client
from spiffe_client.cli import main
from spiffe_client.cli._arguments import _COMMANDS
from spiffe_client.dev import DevTrustDomain
from spiffe_client.errors import UnavailableError
from tests.support.command import press_ctrl_c, run_command, start_command

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzcGlmZmU6Ly9hL2IifQ.c2lnbmF0dXJl"


def pretend(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    """Put another body behind `spiffe-client doctor`."""
    module = ModuleType("spiffe_client.cli._doctor")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spiffe_client.cli._doctor", module)


class TestHelp:
    @pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}], ids=["plain", "colour"])
    @pytest.mark.parametrize("columns", ["80", "100"])
    def test_commands(self, columns: str, env: dict[str, str]) -> None:
        """Regression: the longest were alone on a line. Each has its summary beside it, in one column with the options."""
        shown = run_command("--help", env={"COLUMNS": columns, **env}).out
        lines = re.sub(r"\x1b\[[\d;]*m", "", shown).partition("  COMMAND\n")[2].splitlines()
        columns_of = {line.index(summary) for name, summary, _ in _COMMANDS for line in lines if line.split()[:1] == [name]}
        assert 1 == len(columns_of | {line.index("say which version") for line in lines if "--version" in line})

    def test_the_short_one(self) -> None:
        """`-V`, as Python has it."""
        assert run_command("--version").out == run_command("-V").out

    @pytest.mark.parametrize(
        "command",
        ["x509", "jwt", "bundles", "verify", "token", "introspect", "revoke", "doctor", "audit", "dev", "demo"],
    )
    def test_each_command_explains_itself(self, command: str) -> None:
        """`--help` shows usage and ends well."""
        outcome = run_command(command, "--help")
        assert 0 == outcome.code
        assert f"usage: spiffe-client {command}" in outcome.out

    def test_help_loads_next_to_nothing(self) -> None:
        """It is there at once: no cryptography, no event loop, no rich."""
        code = (
            "import sys, contextlib, io\n"
            "from spiffe_client.cli import main\n"
            "with contextlib.redirect_stdout(io.StringIO()): main(['--help'])\n"
            "print(*sorted(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        loaded = set(done.stdout.split())
        assert not {"anyio", "asyncio", "cryptography", "h2", "httpx", "jwt", "rich", "ssl"} & loaded


class TestVersion:
    def test_for_people(self) -> None:
        """The version of the package."""
        outcome = run_command("--version")
        assert (0, f"spiffe-client {spiffe_client.__version__}\n") == (outcome.code, outcome.out)

    def test_for_programs(self) -> None:
        """The same as JSON."""
        assert {"version": spiffe_client.__version__} == run_command("--version", "--json").record


class TestCalledWrongly:
    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ([], "which command?"),
            (["x509", "--socket", "unix:relative"], "--socket: not a Workload API address"),
            (["x509", "--bogus"], "unrecognized arguments: --bogus"),
            (["jwt"], "AUDIENCE"),
            (["x509", "--timeout", "0"], "'0' is not a positive number of seconds"),
            (["x509", "--timeout", "soon"], "'soon' is not a positive number of seconds"),
            (["x509", "--timeout", "inf"], "'inf' is not a positive number of seconds"),
            (["dev", "--rotate-every", "-1"], "'-1' is not a positive number of seconds"),
            (["bundles", "--trust-domain", "Not A Domain"], "not a trust domain"),
            (["bundles", "--type", "pgp"], "argument --type: invalid choice: 'pgp'; there are x509, jwt, all"),
            (["x590"], "invalid choice: 'x590'; did you mean x509?"),
            (["audit", "verif", "x"], "invalid choice: 'verif'; did you mean verify?"),
            (["x509", "--pem", "--json"], "--pem and --json exclude each other"),
            (["x509", "--pem", "--watch"], "--pem and --watch exclude each other"),
            (["bundles", "--document"], "--document needs --trust-domain"),
            (["bundles", "--document", "--trust-domain", "a", "--watch"], "exclude each other"),
        ],
    )
    def test_it_says_how_it_is_meant(self, words: list[str], says: str) -> None:
        """Exit code 2, one line and where the help is, nothing on standard output."""
        outcome = run_command(*words, env={"SPIFFE_ENDPOINT_SOCKET": "unix:/nowhere"})
        if "--json" in words:
            assert (2, "usage") == (outcome.code, outcome.record["error"]["code"])
            assert says in outcome.record["error"]["message"]
            return
        first, second = outcome.err.splitlines()
        assert (2, "") == (outcome.code, outcome.out)
        assert first.startswith("spiffe-client: ")
        assert says in first
        assert "--help" in second

    def test_a_token_among_the_words_is_not_repeated(self) -> None:
        """What argparse quotes may be a secret."""
        outcome = run_command("x509", TOKEN)
        assert 2 == outcome.code
        assert "eyJ" not in outcome.out + outcome.err

    def test_json_may_be_said_before_or_after_the_command(self) -> None:
        """Most people write it last, wrappers write it first."""
        before = run_command("--json", "x509", "--socket", "nonsense").record
        after = run_command("x509", "--json", "--socket", "nonsense").record
        assert "usage" == before["error"]["code"] == after["error"]["code"]


class TestFailures:
    def test_an_error_of_ours_is_one_line_and_what_to_do(self) -> None:
        """What happened on the first line of standard error, what next on the second."""
        outcome = run_command("x509", "--socket", "unix:///nowhere/api.sock")
        first, second = outcome.err.splitlines()
        assert (1, "") == (outcome.code, outcome.out)
        assert first.startswith("spiffe-client: cannot connect to unix:///nowhere/api.sock")
        assert second.startswith("next: start the agent")

    def test_for_programs_it_is_an_object(self) -> None:
        """On standard output, with the error's stable code; nothing on standard error."""
        outcome = run_command("x509", "--json", "--socket", "unix:///nowhere/api.sock")
        assert (1, "", ["error"]) == (outcome.code, outcome.err, list(outcome.record))
        assert ["code", "message", "advice"] == list(outcome.record["error"])
        assert "unavailable" == outcome.record["error"]["code"]

    def test_a_bug_is_told_without_its_text(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The message of an error that is not ours may hold anything, a key for example."""

        async def run(*_: object) -> int:
            raise ValueError("-----BEGIN PRIVATE KEY-----")

        pretend(monkeypatch, run)
        outcome = run_command("doctor")
        assert (1, "") == (outcome.code, outcome.out)
        assert "PRIVATE KEY" not in outcome.err
        assert "spiffe-client: ValueError in test_main.py, line " in outcome.err
        assert "Traceback" not in outcome.err

    def test_several_errors_at_once_are_told_by_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A task group's errors are looked through."""

        async def run(*_: object) -> int:
            raise ExceptionGroup("several", [KeyError("x"), UnavailableError("the agent\nis gone")])

        pretend(monkeypatch, run)
        outcome = run_command("doctor")
        assert "spiffe-client: the agent is gone" == outcome.err.splitlines()[0]

    def test_a_file_that_cannot_be_read_is_named(self) -> None:
        """The operating system's reason, and which file."""
        outcome = run_command("verify", "/nowhere/chain.pem", "--json")
        assert {"code": "os_error", "message": "/nowhere/chain.pem: No such file or directory"} == {
            name: outcome.record["error"][name] for name in ("code", "message")
        }
        assert "is that the right path" in outcome.record["error"]["advice"]

    def test_an_error_of_the_system_without_a_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its own words, or its kind where it has none."""

        async def run(*_: object) -> int:
            raise OSError

        pretend(monkeypatch, run)
        first, second = run_command("doctor").err.splitlines()
        assert ("spiffe-client: OSError", True) == (first, second.startswith("next: "))

    @pytest.mark.parametrize(
        ("environ", "advice"),
        [
            (
                {},
                "next: set SPIFFE_ENDPOINT_SOCKET, or pass --socket; to try without an agent run `spiffe-client dev`",
            ),
            (
                {"SPIFFE_ENDPOINT_SOCKET": "nonsense"},
                "next: correct SPIFFE_ENDPOINT_SOCKET, or say another address with --socket",
            ),
        ],
    )
    def test_an_environment_that_does_not_lead_there(self, environ: dict[str, str], advice: str) -> None:
        """Nothing is set, or nonsense (Workload Endpoint §4)."""
        outcome = run_command("x509", env=environ)
        assert (1, advice) == (outcome.code, outcome.err.splitlines()[1])
        assert "in code" not in outcome.err

    def test_an_address_may_be_said_here(self) -> None:
        """The library speaks of code; on a command line it is an option, for `doctor` as well."""
        for command in ("x509", "doctor"):
            outcome = run_command(command)
            assert "tcp://127.0.0.1:8081, or pass --socket\n" in outcome.out + outcome.err


class TestCtrlC:
    def test_the_command_is_cancelled_and_cleans_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Exit code 130, after everything was put away."""
        import anyio

        steps = []

        async def run(*_: object) -> int:
            try:
                press_ctrl_c()
                await anyio.sleep_forever()
            finally:
                steps.append("cleaned up")
            return 0

        pretend(monkeypatch, run)
        outcome = run_command("doctor")
        assert (130, "", "", ["cleaned up"]) == (outcome.code, outcome.out, outcome.err, steps)

    def test_an_error_while_cleaning_up_does_not_hide_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who pressed Ctrl-C does not ask why it fails now."""
        import anyio

        async def run(*_: object) -> int:
            try:
                press_ctrl_c()
                await anyio.sleep_forever()
            except BaseException:
                raise OSError("in a hurry") from None
            return 0

        pretend(monkeypatch, run)
        outcome = run_command("doctor")
        assert (130, "") == (outcome.code, outcome.err)

    def test_before_there_is_anything_to_cancel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also while modules are loaded it ends without a traceback."""
        monkeypatch.setattr("spiffe_client.cli._main.parse_arguments", press_ctrl_c)
        assert 130 == run_command("doctor").code

    @pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
    def test_signals_end_a_process(self, domain: DevTrustDomain, name: str, code: int) -> None:
        """128 and the signal's number, as a shell has it."""
        with start_command("x509", "--watch", "--json", "--socket", domain.endpoint) as process:
            assert process.stdout is not None
            assert "svids" in json.loads(process.stdout.readline())
            process.send_signal(getattr(signal, name))
            assert ("", "") == process.communicate(timeout=60)
        assert code == process.returncode

    def test_what_nohup_switches_off_stays_off(self, domain: DevTrustDomain) -> None:
        """A command under nohup survives the end of its terminal."""
        with start_command(
            "x509", "--watch", "--json", "--socket", domain.endpoint,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        ) as process:  # fmt: skip
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        assert 143 == process.returncode


class TestPipes:
    def test_a_reader_that_has_seen_enough_is_no_error(self, domain: DevTrustDomain) -> None:
        """`spiffe-client … | head -0` says nothing on standard error."""
        with start_command("x509", "--socket", domain.endpoint) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            assert "" == process.stderr.read()
            process.wait(timeout=60)
        assert 1 == process.returncode

    def test_a_watch_whose_reader_went(self, world, domain: DevTrustDomain) -> None:
        """Events meet a closed pipe, too, and do not fill standard error."""
        with start_command("x509", "--watch", "--json", "--socket", domain.endpoint) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            world.call(domain.stop_serving)
            world.call(domain.resume)
            world.call(domain.rotate)
            assert "" == process.stderr.read()
            process.wait(timeout=60)
        assert 1 == process.returncode

    def test_in_a_program_that_has_no_real_standard_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """There is nothing to redirect then."""

        async def run(*_: object) -> int:
            raise BrokenPipeError

        pretend(monkeypatch, run)
        assert 1 == run_command("doctor").code

    def test_called_from_a_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Signals are the main thread's; everything else works."""
        from concurrent.futures import ThreadPoolExecutor

        async def run(*_: object) -> int:
            return 0

        pretend(monkeypatch, run)
        with ThreadPoolExecutor(1) as pool:
            assert 0 == pool.submit(main, ["doctor"]).result()

    def test_as_a_module(self) -> None:
        """`python -m spiffe_client.cli` is the same, with the words of the process."""
        with start_command("--version") as process:
            out, _ = process.communicate(timeout=60)
        assert f"spiffe-client {spiffe_client.__version__}\n" == out
