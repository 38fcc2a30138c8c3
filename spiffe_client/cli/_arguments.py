"""Understands the command line. Loads nothing but argparse, so that `--help` is quick."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from spiffe_client.cli import _audit_options as audits
from spiffe_client.cli import _contract_options as contracts
from spiffe_client.cli import _identity_options as identity
from spiffe_client.cli import _token_options as tokens
from spiffe_client.cli._exit import UsageError
from spiffe_client.cli._options import as_json

__all__ = ["parse_arguments"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, command=self.prog)

    def _check_value(self, action: argparse.Action, value: str) -> None:
        """Refuse what there is no choice of, with the one that may have been meant; argparse does so from 3.14 on."""
        if action.choices is not None and value not in action.choices:
            from difflib import get_close_matches

            choices = [str(choice) for choice in action.choices]
            (near, *_) = [*get_close_matches(value, choices, 1), ""]
            meant = f"did you mean {near}?" if near else f"there are {', '.join(choices)}"
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}; {meant}")


def _json(*, default: object) -> _Parser:
    shared = _Parser(add_help=False)
    as_json(shared, default=default)
    return shared


def _nothing(command: argparse.ArgumentParser) -> None:
    """The demo brings all it needs."""


_EXAMPLES = {
    "dev": """registrations, for example:

  [[entry]]
  id = "spiffe://dev.example/orders"
  selectors = { uid = 1000, path = "/usr/bin/python3" }  # all; also gid, pid

  [[entry]]
  id = "spiffe://dev.example/tester"
  any = true                            # in place of selectors: everybody
  ttl = 60                              # seconds; the rest may be left out
  hint = "internal"
  dns_names = ["tester.internal"]
  federates_with = ["partner.example"]

and for --token-broker, who may have what, for example:

  [[client]]
  id = "spiffe://dev.example/orders"    # or all below: "spiffe://dev.example/*"
  audiences = ["https://stock.example"] # resources, too; ["*"] is any
  scopes = ["stock:read"]
  details = ["payment"]                 # types; the rest may be left out
  may_delegate_to = ["spiffe://dev.example/tester"]
  ttl = 60                              # seconds
  binding = "dpop"                      # or mtls, bearer, any
""",
}

_COMMANDS = (
    ("x509", "show this process's X509-SVIDs and what it trusts", identity.x509),
    ("jwt", "fetch a JWT-SVID", identity.jwt),
    ("bundles", "show the trust bundles", identity.bundles),
    ("verify", "judge a certificate chain or a JWT-SVID, check by check", identity.verify),
    ("token", "have a scoped token issued by a token broker", tokens.token),
    ("introspect", "ask a token broker what it knows of a token", tokens.introspect),
    ("revoke", "have a token broker take a token back", tokens.revoke),
    ("doctor", "find out why there is no identity or no token, and what to do", tokens.doctor),
    ("contract", "look at the contracts of agents: check, show, compare", contracts.contract),
    ("audit", "look at audit trails: verify, show, draw", audits.audit),
    ("inventory", "list the agents of a folder of contracts", contracts.inventory),
    ("dev", "run a trust domain for development until Ctrl-C", identity.dev),
    ("demo", "see it all in ten seconds, on this machine alone", _nothing),
)


def _parser() -> _Parser:
    parser = _Parser(
        prog="spiffe-client",
        description="Identities from the SPIFFE Workload API, and tokens that they get: look at them, judge them, find what "
        "is wrong.",
        epilog="Exit codes: 0 fine, 1 the answer is no, 2 called wrongly, 130 Ctrl-C. "
        "Private keys and tokens are never printed unless asked for.",
        parents=[_json(default=False)],
        allow_abbrev=False,
    )
    # The short one keeps commands and summaries on one line each: argparse forgets the indent of the former.
    parser.add_argument("-V", "--version", action="store_true", help="say which version this is")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, summary, add in _COMMANDS:
        # Suppressed: what was said before the command is not forgotten after it.
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=_EXAMPLES.get(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[_json(default=argparse.SUPPRESS)],
            allow_abbrev=False,
        )
        add(command)
    return parser


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Understand the command line.

    Raises:
        UsageError: It makes no sense; the message may repeat what was written.
        SystemExit: Help was asked for, and is printed.
    """
    arguments, unknown = _parser().parse_known_args(argv)
    if unknown:
        # argparse would name the program's own help, where this command's options are not.
        command = " ".join(filter(None, ("spiffe-client", arguments.command)))
        raise UsageError(f"unrecognized arguments: {' '.join(unknown)}", command=command)
    if arguments.command is None and not arguments.version:
        raise UsageError("which command?")
    return arguments
