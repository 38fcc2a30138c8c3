"""The words of the commands about agents' contracts."""

from __future__ import annotations

import argparse

from spiffe_client.cli._options import as_json, moment

__all__ = ["contract", "inventory"]


def contract(command: argparse.ArgumentParser) -> None:
    """Add the words of `contract`, which has commands of its own."""
    commands = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = _add(commands, "check", "read contracts, and say what is wrong with them or worth a second look")
    check.add_argument("files", nargs="+", metavar="FILE", help="contracts, .toml or .json")
    check.add_argument("--strict", action="store_true", help="warnings, too, give exit code 1")
    _as_of(check)
    show = _add(commands, "show", "show a contract, with every default said")
    show.add_argument("file", metavar="FILE", help="a contract, .toml or .json")
    _as_of(show)
    diff = _add(commands, "diff", "say what a change adds to an agent's authority, and what it takes away")
    diff.add_argument("old", metavar="OLD", help="the contract before")
    diff.add_argument("new", metavar="NEW", help="the contract after")
    diff.add_argument(
        "--fail-on-widening", action="store_true", help="give exit code 1 if the agent may do more"
    )


def inventory(command: argparse.ArgumentParser) -> None:
    """Add the words of `inventory`."""
    command.add_argument("directory", metavar="DIR", help="a folder; those below it are looked into, too")
    _as_of(command)


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
    as_json(command)
    return command


def _as_of(command: argparse.ArgumentParser) -> None:
    command.add_argument("--at", type=moment, metavar="TIME", help="as of this moment, RFC 3339; else now")
