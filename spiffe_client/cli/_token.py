"""`spiffe-client token`: a scoped token from a token broker, asked for with this process's identity."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import datetime

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.cli._asking import refuse_together
from spiffe_client.cli._asking_broker import open_broker
from spiffe_client.cli._exit import Exit, UsageError
from spiffe_client.cli._facts import until
from spiffe_client.cli._lines import Line, line, pair, verbatim
from spiffe_client.cli._reading import mention_waiting
from spiffe_client.cli._report import Report, timestamp
from spiffe_client.cli._wanted import request_for, subject_of
from spiffe_client.tokens import AccessToken, Binding, OwnSvid, SecurityToken

__all__ = ["run"]

_COMMAND = "spiffe-client token"
_BOUND: Mapping[str, str] = {
    "dpop": "a key that ends with this command; --binding none gives one that others can use, and steal",
    "mtls": "this X509-SVID",
    "none": "nothing: whoever holds it can use it",
}
_OF_NO_USE = (
    "this token is bound to a key that ends with this command, and nobody can use it: say --binding none"
)


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """Have one token issued."""
    if arguments.raw and not arguments.show_token:
        raise UsageError("--raw prints a token: say --show-token too", command=_COMMAND)
    refuse_together(arguments, "raw", "json")
    mention_waiting(arguments.subject_token_file, report)
    request = request_for(arguments, await subject_of(arguments))
    own = isinstance(request.subject, OwnSvid)
    with report.working(f"asking {arguments.token_broker}"):
        async with open_broker(arguments, binding=arguments.binding, identity=own) as broker:
            token = await broker.exchange(request)
    _give(token, arguments, report)
    return Exit.FINE


def _give(token: AccessToken | SecurityToken, arguments: argparse.Namespace, report: Report) -> None:
    now = SYSTEM_CLOCK.now()
    record = {"time": timestamp(now), **_record(token)}
    if arguments.show_token:
        record["token"] = token.token.reveal()
    report.give(record, _lines(token, now, arguments))
    if arguments.raw and _binding(token).method == "dpop":
        report.note(_OF_NO_USE)


def _type(token: AccessToken | SecurityToken) -> str:
    return token.token_type if isinstance(token, AccessToken) else "N_A"


def _binding(token: AccessToken | SecurityToken) -> Binding:
    return token.binding if isinstance(token, AccessToken) else Binding()


def _details(token: AccessToken | SecurityToken) -> str:
    return token.authorization_details if isinstance(token, AccessToken) else ""


def _record(token: AccessToken | SecurityToken) -> dict[str, object]:
    asked, binding = token.request, _binding(token)
    return {
        "issuer": token.issuer,
        "scope": sorted(token.scope),
        "missing_scope": sorted(asked.scope - token.scope),
        "audience": sorted(asked.audience | asked.resource),
        "authorization_details": json.loads(_details(token) or "[]"),
        "purpose": asked.purpose,
        "token_type": _type(token),
        "issued_token_type": token.issued_token_type,
        "binding": {"method": binding.method, "thumbprint": binding.thumbprint},
        "expires_at": timestamp(token.expires_at),
        "fingerprint": token.fingerprint,
    }


def _lines(
    token: AccessToken | SecurityToken, now: datetime, arguments: argparse.Namespace
) -> Iterator[Line]:
    if arguments.raw:
        yield verbatim(token.token.reveal())
        return
    asked, method = token.request, _binding(token).method
    yield line((token.issuer, "name"))
    yield pair("scope", " ".join(sorted(token.scope)) or "none is named")
    if missing := asked.scope - token.scope:
        yield pair("not granted", " ".join(sorted(missing)), "bad")
    yield pair("audience", ", ".join(sorted(asked.audience | asked.resource)) or "left to the token broker")
    if details := _details(token):
        yield pair("details", details)
    if asked.purpose:
        yield pair("purpose", asked.purpose)
    if isinstance(token, AccessToken):
        yield pair("bound to", _BOUND[method])
    else:
        yield pair("kind", f"{token.issued_token_type}: an assertion, no access token")
    yield pair("expires", until(token.expires_at, now))
    if arguments.show_token:
        yield verbatim(token.token.reveal())
    else:
        yield pair("token", f"{token.fingerprint}… (--show-token prints it)")
