"""What a terminal gets, and what a pipe gets."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from spiffe_client.cli._lines import line, pair, printable, verbatim, wrapped
from spiffe_client.cli._report import TextReport
from spiffe_client.cli._terminal import PlainTerminal, PrettyTerminal, terminal_for
from spiffe_client.dev import DevTrustDomain
from tests.support.command import on_terminal, run_command


class _Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class SteppingClock:
    """Goes when told to."""

    seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


class _Always(PlainTerminal):
    """Has something to say whenever it is asked."""

    @contextmanager
    def working(self, what: str) -> Iterator[Callable[[str], None]]:
        yield lambda more: self.write(line(more))


class TestChoice:
    @pytest.mark.parametrize(
        ("environ", "kind"),
        [
            ({"TERM": "xterm"}, PrettyTerminal),
            ({"TERM": "xterm", "NO_COLOR": ""}, PrettyTerminal),
            ({"TERM": "xterm", "NO_COLOR": "1"}, PlainTerminal),
            ({"TERM": "dumb"}, PlainTerminal),
            ({}, PlainTerminal),
        ],
    )
    def test_on_a_terminal(self, environ: dict[str, str], kind: type) -> None:
        """Pretty where the terminal can and nobody minds (no-color.org)."""
        assert kind is type(terminal_for(_Tty(), environ))

    def test_in_a_pipe(self) -> None:
        """Plain, whatever TERM says."""
        assert PlainTerminal is type(terminal_for(io.StringIO(), {"TERM": "xterm"}))

    def test_without_rich(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The base install has plain lines on a terminal, too."""
        monkeypatch.setitem(sys.modules, "rich.console", None)
        assert PlainTerminal is type(terminal_for(_Tty(), {"TERM": "xterm"}))


class TestPlain:
    def test_a_character_that_the_encoding_lacks(self) -> None:
        """An escape in its place, not an error in place of the answer."""
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding="latin-1")
        PlainTerminal(stream).write(line(("✓ ", "good"), "gut: ä"))
        assert b"\\u2713 gut: \xe4\n" == raw.getvalue()

    def test_how_it_goes_is_said_now_and_then(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is in a pipe stays there: at most a line a second."""
        from spiffe_client import _clock

        clock = SteppingClock()
        monkeypatch.setattr(_clock, "SYSTEM_CLOCK", clock)
        stream = io.StringIO()
        with PlainTerminal(stream).working("waiting") as say:
            for number in range(5):
                say(f"number {number}")
                clock.seconds += 0.5
        assert "number 2\nnumber 4\n" == stream.getvalue()

    def test_progress_does_not_come_between_results(self) -> None:
        """It is not of the results, so it goes to standard error."""
        out, err = io.StringIO(), io.StringIO()
        report = TextReport(PlainTerminal(out), _Always(err))
        with report.working("waiting") as say:
            say("going on")
        assert ("", "going on\n") == (out.getvalue(), err.getvalue())


class TestPretty:
    @pytest.fixture
    def shown(self) -> io.StringIO:
        return io.StringIO()

    @pytest.fixture
    def terminal(self, shown: io.StringIO) -> PrettyTerminal:
        return PrettyTerminal(Console(file=shown, force_terminal=True, color_system="standard", width=40))

    def test_parts_have_colours(self, terminal: PrettyTerminal, shown: io.StringIO) -> None:
        """The meaning of a part is its colour."""
        terminal.write(line(("✓ ", "good"), "plain"))
        assert "\x1b[32m✓ \x1b[0mplain\n" == shown.getvalue()

    def test_markup_of_others_is_text(self, terminal: PrettyTerminal, shown: io.StringIO) -> None:
        """`[red]` in a hint is five characters."""
        terminal.write(line("[red]hint[/red] :smile:"))
        assert "[red]hint[/red] :smile:\n" == shown.getvalue()

    def test_long_words_stay_whole(self, terminal: PrettyTerminal, shown: io.StringIO) -> None:
        """They can be copied as they are: the terminal wraps them, not we."""
        terminal.write(line("x" * 100))
        assert "x" * 100 + "\n" == shown.getvalue()

    def test_what_is_to_be_copied_is_not_wrapped(self, terminal: PrettyTerminal, shown: io.StringIO) -> None:
        """PEM, tokens, commands."""
        terminal.write(verbatim("word " * 20))
        assert "word " * 20 + "\n" == shown.getvalue()

    def test_values_go_on_below_themselves(self, terminal: PrettyTerminal, shown: io.StringIO) -> None:
        """Wrapped between words, with the colours of the parts."""
        terminal.write(pair("detail", "several words that do not fit into one line", "good"))
        first, second = shown.getvalue().splitlines()
        assert first.endswith("\x1b[32mseveral words that do\x1b[0m")
        assert " " * 16 + "\x1b[32mnot fit into one line\x1b[0m" == second

    def test_a_spinner_with_words(self, terminal: PrettyTerminal, shown: io.StringIO) -> None:
        """It says what goes on, and is gone at the end."""
        with terminal.working("[waiting]") as say:
            say("still [waiting]")
        assert "still [waiting]" in shown.getvalue()
        assert shown.getvalue().endswith("\x1b[2K")


class TestWrapped:
    @pytest.mark.parametrize(
        ("text", "hang", "expected"),
        [
            ("fits in", 2, ["fits in"]),
            ("exactly 10", 2, ["exactly 10"]),
            ("two lines of it", 2, ["two lines", "  of it"]),
            ("a b  c overlong-words d", 4, ["a b  c", "    overlong-words", "    d"]),
            ("lb  overlong-word", 4, ["lb  overlong-word"]),
            ("lb  overlong-word x", 4, ["lb  overlong-word", "    x"]),
            ("", 4, [""]),
        ],
    )
    def test_lines_of_ten_columns(self, text: str, hang: int, expected: list[str]) -> None:
        """Between words, never after the label; what is too long for any line stays whole."""
        assert expected == [str(one) for one in wrapped(line(text, hang=hang), 10)]

    @given(st.text("ab ", max_size=60), st.integers(0, 20), st.integers(1, 30))
    def test_no_word_is_lost(self, text: str, hang: int, width: int) -> None:
        """However narrow it is."""
        lines = [str(one) for one in wrapped(line(text, hang=hang), width)]
        assert text.split() == " ".join(lines).split()


class TestPrintable:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("plain ✓ ä", "plain ✓ ä"),
            ("\x1b[2J", "\\x1b[2J"),
            ("a\nb\r\x07", "a\\nb\\r\\x07"),
            ("abc\u202ecba", "abc\\u202ecba"),
            ("\U000e0041", "\\U000e0041"),
            ("\udcff", "\\udcff"),
        ],
    )
    def test_what_is_not_to_be_seen_is_escaped(self, text: str, expected: str) -> None:
        """Control characters, direction marks, tags, halves of characters."""
        assert expected == printable(text)


class TestOnARealOne:
    def test_colours(self, domain: DevTrustDomain) -> None:
        """A pseudo-terminal gets them, and the exit code is the same."""
        outcome = on_terminal("x509", "--socket", domain.endpoint).end()
        assert 0 == outcome.code
        assert "\x1b[36mspiffe://dev.example/workload\x1b[0m" in outcome.out

    def test_no_color(self, domain: DevTrustDomain) -> None:
        """Not a single escape."""
        outcome = on_terminal("x509", "--socket", domain.endpoint, env={"NO_COLOR": "1"}).end()
        assert 0 == outcome.code
        assert "\x1b" not in outcome.out

    def test_json_is_the_same_everywhere(self, domain: DevTrustDomain) -> None:
        """No spinner, no colour: programs read it from terminals, too."""
        outcome = on_terminal("bundles", "--type", "jwt", "--json", "--socket", domain.endpoint).end()
        here = run_command("bundles", "--type", "jwt", "--json", "--socket", domain.endpoint)
        assert here.record["bundles"] == outcome.record["bundles"]

    def test_ctrl_c_while_watching(self, domain: DevTrustDomain) -> None:
        """From the keyboard; the terminal is left as it was: with its cursor."""
        terminal = on_terminal("x509", "--watch", "--socket", domain.endpoint)
        terminal.read_until("watching, until Ctrl-C")
        terminal.press("\x03")
        outcome = terminal.end()
        assert 130 == outcome.code
        assert outcome.out.rfind("\x1b[?25h") > outcome.out.rfind("\x1b[?25l")
        assert "Traceback" not in outcome.out
