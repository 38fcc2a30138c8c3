"""The words of the command about audit trails."""

from __future__ import annotations

import argparse

from spiffe_client.cli._options import as_json

__all__ = ["audit"]


def audit(command: argparse.ArgumentParser) -> None:
    """Add the words of `audit`, which has commands of its own."""
    commands = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = _add(commands, "verify", "say whether trails are as they were written, and who vouches for that")
    verify.add_argument("files", nargs="+", metavar="FILE", help="audit trails, as JsonlSink writes them")
    _trust(verify)
    verify.add_argument("--id", metavar="ID", help="whose the trails must be, a SPIFFE ID")
    verify.add_argument(
        "--known",
        type=_known,
        metavar="SEQ:HASH",
        help="a record that must be there, as `head` was noted before",
    )
    verify.add_argument(
        "--closed",
        action="store_true",
        help="a trail that is not closed, and signed to its end, gives exit code 1",
    )
    show = _add(commands, "show", "show tasks as trees of delegations and calls")
    show.add_argument("file", metavar="FILE", help="an audit trail")
    only = show.add_mutually_exclusive_group()
    only.add_argument("--task", metavar="ID", help="only this task, and those it delegated to")
    only.add_argument("--call", metavar="REF", help="only this call, by the reference that a denial gives")
    draw = _add(
        commands, "report", "write one HTML file to look at: timeline, delegations, denials, lifetimes"
    )
    draw.add_argument("file", metavar="FILE", help="an audit trail")
    draw.add_argument("-o", "--output", required=True, metavar="FILE", help="the HTML file, written anew")
    _trust(draw)
    draw.add_argument(
        "--unverified", action="store_true", help="draw a trail as it stands, even one that was changed"
    )


def _trust(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--bundle",
        action="append",
        default=[],
        metavar="TRUST-DOMAIN=FILE",
        help="what signers' certificates must lead to (PEM, DER or SPIFFE bundle document); else they prove nobody",
    )


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    as_json(command)
    return command


def _known(text: str) -> tuple[int, str]:
    number, _, digest = text.partition(":")
    if not number.isdecimal() or not number.isascii() or len(number) > 18 or not _is_hash(digest):
        raise argparse.ArgumentTypeError(f"{text!r} is not SEQ:HASH, a number and 64 hex digits")
    return int(number), digest


def _is_hash(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")
