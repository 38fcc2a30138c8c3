"""From the command line to an exit code: every error ends here, in one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import cast

from spiffe_client.cli._arguments import parse_arguments
from spiffe_client.cli._exit import Exit, UsageError
from spiffe_client.cli._failure import Failure, failure_of
from spiffe_client.cli._lines import line, without_tokens
from spiffe_client.cli._report import JsonReport, Report, TextReport
from spiffe_client.cli._terminal import terminal_for

__all__ = ["main"]

#: What a command's module has: does it, and returns the exit code.
_Run = Callable[[argparse.Namespace, Report], Awaitable[int]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after the program's name; by default those of this process.

    Returns:
        The exit code: 0 fine, 1 the answer is no, 2 called wrongly, 130 Ctrl-C.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        return _answer(words, _report("--json" in words))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Who read has seen enough (`| head`); the interpreter's last flush must not complain.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED


def _answer(words: Sequence[str], report: Report) -> int:
    command = ""
    try:
        arguments = parse_arguments(words)
        command = arguments.command or ""
        return _dispatch(arguments, report)
    except SystemExit as asked:  # argparse has shown its help
        return int(asked.code or 0)
    except UsageError as error:
        report.fail(_usage(error))
        return Exit.USAGE
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the border: nobody wants a traceback here
        report.fail(failure_of(error, command))
        return Exit.FAILED


def _report(as_json: bool) -> Report:  # noqa: FBT001 - private, one caller
    if as_json:
        return JsonReport(sys.stdout)
    return TextReport(terminal_for(sys.stdout, os.environ), terminal_for(sys.stderr, os.environ))


def _usage(error: UsageError) -> Failure:
    advice = error.advice or f"`{error.command} --help` shows how it is meant"
    return Failure(error.code, without_tokens(str(error)), advice)


def _dispatch(arguments: argparse.Namespace, report: Report) -> int:
    if arguments.version:
        return _version(report)

    import logging

    import anyio

    from spiffe_client.cli._interrupt import until_interrupted

    # What there is to say a command says itself, once.
    logging.getLogger("spiffe_client").addHandler(logging.NullHandler())

    run = cast("_Run", import_module(f"spiffe_client.cli._{arguments.command}").run)
    return anyio.run(until_interrupted, partial(run, arguments, report))


def _version(report: Report) -> int:
    from spiffe_client import __version__

    report.give({"version": __version__}, [line(f"spiffe-client {__version__}")])
    return Exit.FINE
