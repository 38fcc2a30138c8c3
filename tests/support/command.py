"""Running `spiffe-client` as its users do: in this process, as a process, on a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from spiffe_client.cli import main

__all__ = ["Outcome", "Terminal", "on_terminal", "press_ctrl_c", "refuse_secrets", "run_command", "start_command"]

COMMAND = [sys.executable, "-m", "spiffe_client.cli"]

#: Set once Ctrl-C was pressed in the command that runs in this process.
_pressed = threading.Event()


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str = ""

    @property
    def records(self) -> list[dict[str, Any]]:
        """The lines of standard output, which all have to be JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def record(self) -> dict[str, Any]:
        """The only one."""
        (record,) = self.records
        return record


class _Stream(io.StringIO):
    """Standard output that shows each line to somebody as it is written."""

    encoding = "utf-8"

    def __init__(self, react: Callable[[str], None]) -> None:
        super().__init__()
        self._react = react

    def write(self, text: str) -> int:
        written = super().write(text)
        for line in text.splitlines():
            self._react(line)
        return written


def run_command(
    *words: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    react: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Run a command in this process.

    `react` is told each line of standard output when it is written, from within the command: there
    a test makes the world go on, or presses Ctrl-C.
    """
    out, err = _Stream(react), io.StringIO()
    _pressed.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        code = main(words)
    outcome = Outcome(code, out.getvalue(), err.getvalue())
    refuse_secrets(outcome, words)
    return outcome


def refuse_secrets(outcome: Outcome, words: Sequence[str]) -> None:
    """The canary in every test: keys and tokens are never shown to who did not ask for them."""
    shown = outcome.out + outcome.err
    assert "--show-key" in words or "PRIVATE KEY" not in shown
    assert "--show-token" in words or not re.search(r"eyJ[\w-]+\.", shown)


def press_ctrl_c(_: object = None) -> None:
    """As the terminal does it, once for each command: a second one finds no handler, and ends the process.

    Who watches may be told the same again before the first one is heard.
    """
    if not _pressed.is_set():
        _pressed.set()
        signal.raise_signal(signal.SIGINT)


def start_command(*words: str, **options: Any) -> subprocess.Popen[str]:
    """Run a command as a process of its own, its output in pipes."""
    return subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@dataclass
class Terminal:
    """A command on a pseudo-terminal."""

    pid: int
    master: int
    seen: str = ""
    _stack: ExitStack = field(default_factory=ExitStack)

    def read_until(self, text: str) -> str:
        """Read until this was shown."""
        while text not in self.seen:
            assert self._more(), f"ended without {text!r}: {self.seen!r}"
        return self.seen

    def press(self, keys: str) -> None:
        """Press keys: ^C is "\\x03"."""
        os.write(self.master, keys.encode())

    def end(self) -> Outcome:
        """Read to the end, and return what was shown and the exit code."""
        while self._more():
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.master)
        return Outcome(os.waitstatus_to_exitcode(status), self.seen)

    def _more(self) -> bool:
        ready, _, _ = select.select([self.master], [], [], 30)
        assert ready, f"nothing more came: {self.seen!r}"
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: the other end is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


def on_terminal(*words: str, env: Mapping[str, str] | None = None) -> Terminal:
    """Run a command on a pseudo-terminal, as its controlling terminal."""
    pid, master = pty.fork()
    if pid == 0:
        environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", **(env or {})}
        environ.pop("NO_COLOR", None) if "NO_COLOR" not in (env or {}) else None
        os.execve(COMMAND[0], [*COMMAND, *words], environ)
    return Terminal(pid, master)
