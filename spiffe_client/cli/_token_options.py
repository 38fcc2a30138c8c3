"""The words of the commands about tokens."""

from __future__ import annotations

import argparse

from spiffe_client.cli._options import workload_api

__all__ = ["doctor", "introspect", "revoke", "token"]

#: Seconds for everything: discovery, an SVID, the answer.
_TIMEOUT = 10.0

_AUTHENTICATIONS = ["spiffe-jwt", "spiffe-x509", "private-key-jwt", "client-secret", "none"]


def token(command: argparse.ArgumentParser) -> None:
    """Add the words of `token`."""
    workload_api(command, timeout=_TIMEOUT)
    _token_broker(command, required=True)
    _granted(command)
    _whose(command)
    command.add_argument(
        "--show-token", action="store_true", help="print the token too: mind who reads along"
    )
    command.add_argument(
        "--raw", action="store_true", help="with --show-token: print the token and nothing else"
    )


def introspect(command: argparse.ArgumentParser) -> None:
    """Add the words of `introspect`."""
    workload_api(command, timeout=_TIMEOUT)
    _token_file(command)
    _token_broker(command, required=True)


def revoke(command: argparse.ArgumentParser) -> None:
    """Add the words of `revoke`."""
    workload_api(command, timeout=_TIMEOUT)
    _token_file(command)
    _token_broker(command, required=True)


def doctor(command: argparse.ArgumentParser) -> None:
    """Add the words of `doctor`."""
    workload_api(command)
    _token_broker(command, required=False)
    _granted(command)
    _whose(command)


def _token_file(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file",
        nargs="?",
        default="-",
        metavar="FILE",
        help="the token; standard input if left out or -, never the command line, which everybody can read",
    )


def _granted(command: argparse.ArgumentParser) -> None:
    """What a token is asked for."""
    what = command.add_argument_group("what the token is to permit, and for whom")
    what.add_argument("scope", nargs="*", metavar="SCOPE", help="what it permits, such as orders:read")
    what.add_argument(
        "--audience", action="append", default=[], metavar="NAME", help="for whom; may be repeated"
    )
    what.add_argument(
        "--resource", action="append", default=[], metavar="URI", help="for whom, as URI; may be repeated"
    )
    what.add_argument(
        "--details", metavar="JSON", help="authorization details (RFC 9396): an array of objects"
    )
    what.add_argument("--purpose", metavar="TEXT", default="", help="what for, in words")
    what.add_argument(
        "--binding",
        choices=["dpop", "mtls", "none"],
        default="dpop",
        help="what it is bound to: a key (dpop), the X509-SVID (mtls), nothing; dpop if not said",
    )


def _whose(command: argparse.ArgumentParser) -> None:
    """What is exchanged for it."""
    whose = command.add_argument_group("whose token is exchanged; this process's JWT-SVID if not said")
    whose.add_argument(
        "--subject-token-file", metavar="FILE", help="the token in this file; - is standard input"
    )
    whose.add_argument(
        "--subject-token-type",
        metavar="TYPE",
        default="access_token",
        help="what it is: access_token (if not said), jwt, id_token, or a URN",
    )
    whose.add_argument(
        "--client-credentials",
        action="store_true",
        help="nobody's: ask for the client itself (RFC 6749 §4.4)",
    )


def _token_broker(command: argparse.ArgumentParser, *, required: bool) -> None:
    broker = command.add_argument_group("the token broker, and who asks")
    broker.add_argument(
        "--token-broker",
        metavar="ISSUER",
        required=required,
        help="its issuer identifier: an https URL; http on loopback",
    )
    broker.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="where its endpoints may be beside the issuer's own origin; may be repeated",
    )
    trust = broker.add_mutually_exclusive_group()
    trust.add_argument(
        "--ca", metavar="FILE", help="trust these authorities (PEM) for its certificate; else the system's"
    )
    trust.add_argument(
        "--broker-id", metavar="SPIFFE-ID", help="it is this SPIFFE workload: both ends show X509-SVIDs"
    )
    broker.add_argument(
        "--client-id",
        metavar="ID",
        help="the OAuth client; the SPIFFE ID if not said; '' names none, with --auth none",
    )
    broker.add_argument(
        "--auth",
        choices=_AUTHENTICATIONS,
        default="spiffe-jwt",
        help="how it is shown; spiffe-jwt if not said",
    )
    secret = broker.add_mutually_exclusive_group()
    secret.add_argument(
        "--secret-file", metavar="FILE", help="where the client secret is, or the private key (PEM or JWK)"
    )
    secret.add_argument("--secret-env", metavar="NAME", help="the environment variable that holds it")
    secret.add_argument("--secret-command", metavar="COMMAND", help="the program that prints it; no shell")
