"""Where lines are written: plain, or pretty on a terminal. The one file that knows rich."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from spiffe_client.cli._lines import Line, Style, wrapped
from spiffe_client.cli._lines import line as as_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["PlainTerminal", "PrettyTerminal", "Terminal", "terminal_for"]

_COLOURS: Mapping[Style, str] = {
    "good": "green",
    "bad": "bold red",
    "name": "cyan",
    "faint": "bright_black",
    "strong": "bold",
    "plain": "",
}
#: Seconds between two words about how something goes, where they cannot be rubbed out.
_NOW_AND_THEN = 1.0


class Terminal(Protocol):
    """Takes lines."""

    def write(self, line: Line) -> None:
        """Write a line, at once."""
        ...

    def working(self, what: str) -> AbstractContextManager[Callable[[str], None]]:
        """Show that something is going on until the block ends; call what it gives to say more."""
        ...


class PlainTerminal:
    """A pipe, a file, a dumb terminal, or a terminal without rich: text and nothing else.

    Args:
        stream: Where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: Line) -> None:
        """See `Terminal.write`."""
        text = str(line)
        encoding = self._stream.encoding or "utf-8"
        # A terminal that has no check mark gets an escape, and not an error in its place.
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        self._stream.flush()

    @contextmanager
    def working(self, what: str) -> Iterator[Callable[[str], None]]:  # noqa: ARG002 - for who can see it go
        """Say now and then how it goes: what is written here stays."""
        from spiffe_client._clock import SYSTEM_CLOCK  # with a command, not with its --help

        said = SYSTEM_CLOCK.monotonic()

        def say(more: str) -> None:
            nonlocal said
            if SYSTEM_CLOCK.monotonic() - said >= _NOW_AND_THEN:
                said = SYSTEM_CLOCK.monotonic()
                self.write(as_line((more, "faint")))

        yield say


class PrettyTerminal:
    """A terminal, by rich.

    Args:
        console: Rich's own.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, line: Line) -> None:
        """See `Terminal.write`; wraps at words, and goes on below the value and not below its label."""
        for one in wrapped(line, self._console.width):
            self._console.print(_text(one), soft_wrap=True)

    @contextmanager
    def working(self, what: str) -> Iterator[Callable[[str], None]]:
        """Turn a spinner below the lines."""
        from rich.text import Text

        with self._console.status(Text(what)) as status:
            yield lambda more: status.update(Text(more))


def _text(line: Line) -> Text:
    from rich.text import Text

    # Text, and not markup: what others have written is never taken for an instruction.
    return Text.assemble(*((text, _COLOURS[style]) for text, style in line.parts))


def terminal_for(stream: TextIO, environ: Mapping[str, str]) -> Terminal:
    """Return what suits a stream.

    Args:
        stream: Standard output or error.
        environ: `NO_COLOR` (if not empty) and `TERM=dumb` ask for plain text.
    """
    plain = environ.get("NO_COLOR") or environ.get("TERM", "dumb") == "dumb"
    if plain or not stream.isatty():
        return PlainTerminal(stream)
    try:
        from rich.console import Console
    except ImportError:  # not installed without the extra `cli`
        return PlainTerminal(stream)
    return PrettyTerminal(Console(file=stream, highlight=False))
