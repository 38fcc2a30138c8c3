"""The words of the commands about identities."""

from __future__ import annotations

import argparse

from spiffe_client.cli._options import WATCH, seconds, trust_domain, workload_api

__all__ = ["bundles", "dev", "jwt", "verify", "x509"]


def x509(command: argparse.ArgumentParser) -> None:
    """Add the words of `x509`."""
    workload_api(command)
    command.add_argument("--watch", action="store_true", help=WATCH)
    command.add_argument(
        "--show-key", action="store_true", help="print private keys too: mind who reads along"
    )
    command.add_argument(
        "--pem", action="store_true", help="print the default identity's certificate chain as PEM"
    )


def jwt(command: argparse.ArgumentParser) -> None:
    """Add the words of `jwt`."""
    workload_api(command)
    command.add_argument("audience", nargs="+", metavar="AUDIENCE", help="whom the token is meant for")
    command.add_argument("--subject", metavar="ID", help="which of this process's identities; else all")
    command.add_argument("--watch", action="store_true", help="go on, and fetch the next one ahead of expiry")
    command.add_argument(
        "--show-token", action="store_true", help="print the tokens too: mind who reads along"
    )
    command.add_argument(
        "--raw", action="store_true", help="with --show-token: print the first token and nothing else"
    )


def bundles(command: argparse.ArgumentParser) -> None:
    """Add the words of `bundles`."""
    workload_api(command)
    command.add_argument(
        "--type", choices=["x509", "jwt", "all"], default="all", help="which bundles; all if not said"
    )
    command.add_argument("--trust-domain", type=trust_domain, metavar="NAME", help="only this one")
    command.add_argument("--watch", action="store_true", help=WATCH)
    command.add_argument(
        "--document",
        action="store_true",
        help="print the SPIFFE bundle document of --trust-domain, as `verify --bundle` takes it",
    )


def verify(command: argparse.ArgumentParser) -> None:
    """Add the words of `verify`."""
    workload_api(command)
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


def dev(command: argparse.ArgumentParser) -> None:
    """Add the words of `dev`."""
    command.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="registrations, TOML; without it every process of this user is spiffe://dev.example/workload",
    )
    command.add_argument(
        "--trust-domain",
        type=trust_domain,
        metavar="NAME",
        help="the trust domain's name; else that of the registrations, or dev.example",
    )
    command.add_argument(
        "--socket",
        metavar="PATH",
        help="where to serve, also as unix:///path; else in a private temporary folder",
    )
    command.add_argument(
        "--token-broker",
        action="store_true",
        help="serve a token broker on 127.0.0.1, too: FILE says whom it gives what; without it every workload gets all",
    )
    command.add_argument(
        "--rotate-every", type=seconds, metavar="SECONDS", help="issue every SVID anew this often, too"
    )
    command.add_argument(
        "--ttl", type=seconds, metavar="SECONDS", default=3600.0, help="how long an SVID lasts (3600)"
    )
