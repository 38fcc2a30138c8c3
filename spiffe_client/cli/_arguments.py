"""The words of the command line. Loads nothing but argparse, so that `--help` is quick."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from spiffe_client.cli._exit import UsageError

if TYPE_CHECKING:
    from spiffe_client.ids import TrustDomain

__all__ = ["parse_arguments"]

_DEFAULT_TIMEOUT = 5.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, command=self.prog)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return seconds


def _trust_domain(text: str) -> TrustDomain:
    from spiffe_client.errors import InvalidIdError
    from spiffe_client.ids import TrustDomain

    try:
        return TrustDomain.parse(text)
    except InvalidIdError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _json(*, default: object) -> _Parser:
    shared = _Parser(add_help=False)
    shared.add_argument(
        "--json",
        action="store_true",
        default=default,
        help="one JSON object a line, with stable keys",
    )
    return shared


def _workload_api(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--socket",
        metavar="ADDRESS",
        help="the Workload API, unix:///path or tcp://IP:port; if left out, what SPIFFE_ENDPOINT_SOCKET says",
    )
    command.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", default=5.0, help="how long an answer may take (5)"
    )


_WATCH = "go on, and show every change until Ctrl-C"


def _add_x509(command: argparse.ArgumentParser) -> None:
    _workload_api(command)
    command.add_argument("--watch", action="store_true", help=_WATCH)
    command.add_argument(
        "--show-key", action="store_true", help="print private keys too: mind who reads along"
    )
    command.add_argument(
        "--pem", action="store_true", help="print the default identity's certificate chain as PEM"
    )


def _add_jwt(command: argparse.ArgumentParser) -> None:
    _workload_api(command)
    command.add_argument("audience", nargs="+", metavar="AUDIENCE", help="whom the token is meant for")
    command.add_argument("--subject", metavar="ID", help="which of this process's identities; else all")
    command.add_argument("--watch", action="store_true", help="go on, and fetch the next one ahead of expiry")
    command.add_argument(
        "--show-token", action="store_true", help="print the tokens too: mind who reads along"
    )
    command.add_argument(
        "--raw", action="store_true", help="with --show-token: print the first token and nothing else"
    )


def _add_bundles(command: argparse.ArgumentParser) -> None:
    _workload_api(command)
    command.add_argument(
        "--type", choices=["x509", "jwt", "all"], default="all", help="which bundles; all if not said"
    )
    command.add_argument("--trust-domain", type=_trust_domain, metavar="NAME", help="only this one")
    command.add_argument("--watch", action="store_true", help=_WATCH)
    command.add_argument(
        "--document",
        action="store_true",
        help="print the SPIFFE bundle document of --trust-domain, as `verify --bundle` takes it",
    )


def _add_verify(command: argparse.ArgumentParser) -> None:
    _workload_api(command)
    command.add_argument(
        "file",
        nargs="?",
        default="-",
        metavar="FILE",
        help="a certificate chain (PEM or DER, leaf first) or a JWT-SVID; standard input if left out or -",
    )
    command.add_argument(
        "--bundle",
        action="append",
        default=[],
        metavar="TRUST-DOMAIN=FILE",
        help="trust this bundle (PEM, DER, JWK Set or SPIFFE bundle document) and do not ask the Workload API",
    )
    command.add_argument("--audience", metavar="NAME", help="who is asked to accept the JWT-SVID")
    command.add_argument("--at", metavar="TIME", help="judge as of this moment, RFC 3339; else now")


def _add_dev(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="registrations, TOML; without it every process of this user is spiffe://dev.example/workload",
    )
    command.add_argument(
        "--trust-domain",
        type=_trust_domain,
        metavar="NAME",
        help="the trust domain's name; else that of the registrations, or dev.example",
    )
    command.add_argument(
        "--socket", metavar="PATH", help="where to serve; else in a private temporary folder"
    )
    command.add_argument(
        "--rotate-every", type=_seconds, metavar="SECONDS", help="issue every SVID anew this often, too"
    )
    command.add_argument(
        "--ttl", type=_seconds, metavar="SECONDS", default=3600.0, help="how long an SVID lasts (3600)"
    )


def _add_nothing(command: argparse.ArgumentParser) -> None:
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
""",
}

_COMMANDS = (
    ("x509", "show this process's X509-SVIDs and what it trusts", _add_x509),
    ("jwt", "fetch a JWT-SVID", _add_jwt),
    ("bundles", "show the trust bundles", _add_bundles),
    ("verify", "judge a certificate chain or a JWT-SVID, check by check", _add_verify),
    ("doctor", "find out why there is no identity, and what to do", _workload_api),
    ("dev", "run a trust domain for development until Ctrl-C", _add_dev),
    ("demo", "see it all in ten seconds, on this machine alone", _add_nothing),
)


def _parser() -> _Parser:
    parser = _Parser(
        prog="spiffe-client",
        description="Identities from the SPIFFE Workload API: look at them, judge them, find what is wrong.",
        epilog="Exit codes: 0 fine, 1 the answer is no, 2 called wrongly, 130 Ctrl-C. "
        "Private keys and tokens are never printed unless asked for.",
        parents=[_json(default=False)],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="say which version this is")
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
    arguments = _parser().parse_args(argv)
    if arguments.command is None and not arguments.version:
        raise UsageError("which command?")
    return arguments
