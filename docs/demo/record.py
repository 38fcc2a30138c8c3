"""Run `spiffe-client demo` on a pseudo-terminal and draw what it shows: `docs/demo.svg`.

    python docs/demo/record.py

Needs the extra `cli`, and a system with pseudo-terminals.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS, ROWS = 80, 110
TARGET = Path(__file__).parents[1] / "demo.svg"
COMMAND = [sys.executable, "-m", "spiffe_client.cli", "demo"]

# Colours stay in the line they are in; everything else moves the cursor or rubs out.
CONTROL = re.compile(r"\x1b\[(?P<number>[0-9;?]*)(?P<kind>[A-Za-z])|\r|\n")
CELL = 12.2  # the width of a character in rich's drawings
INDENTED = re.compile(
    r'x="(?P<x>[\d.]+)" y="(?P<y>[\d.]+)" textLength="(?P<length>[\d.]+)"(?P<rest>[^>]*>)(?P<spaces>(&#160;)+)(?=[^&<])'
)


class Screen:
    """The lines of a terminal, as far as a spinner and lines of text need one."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row = 0

    def feed(self, text: str) -> None:
        """Show what a program wrote."""
        position = 0
        for control in CONTROL.finditer(text):
            self.lines[self.row] += text[position : control.start()]
            position = control.end()
            self._obey(control)
        self.lines[self.row] += text[position:]

    def _obey(self, control: re.Match[str]) -> None:
        if control[0] == "\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append("")
        elif control["kind"] == "A":
            self.row = max(0, self.row - int(control["number"] or 1))
        elif control["kind"] == "K":
            self.lines[self.row] = ""
        elif control["kind"] == "m":
            self.lines[self.row] += control[0]


def run() -> tuple[int, str]:
    """Return the exit code of the demo and all that it wrote."""
    pid, master = pty.fork()
    if pid == 0:
        environ = {**os.environ, "TERM": "xterm-256color"}
        environ.pop("NO_COLOR", None)
        os.execve(COMMAND[0], COMMAND, environ)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        written += piece
        os.write(sys.stdout.fileno(), piece)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), written.decode()


def draw(written: str) -> str:
    """Return the screen as it is at the end, as SVG without anything from elsewhere."""
    screen = Screen()
    screen.feed(written)
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)
    console.print(Text.assemble(("$ ", "bright_black"), "spiffe-client demo"))
    for line in screen.lines:
        if line.strip():
            console.print(Text.from_ansi(line), soft_wrap=True)
    svg = console.export_svg(title="spiffe-client demo", theme=MONOKAI, unique_id="demo")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return INDENTED.sub(_moved, svg)


def _moved(text: re.Match[str]) -> str:
    """Move text to where it begins: some viewers drop the spaces before it."""
    spaces = len(text["spaces"]) // len("&#160;")
    x, length = float(text["x"]) + spaces * CELL, float(text["length"]) - spaces * CELL
    return f'x="{x:g}" y="{text["y"]}" textLength="{length:g}"{text["rest"]}'


def main() -> int:
    """Record."""
    code, written = run()
    if code == 0:
        TARGET.write_text(draw(written))
    return code


if __name__ == "__main__":
    sys.exit(main())
