"""`spiffe-client introspect`: what a token broker knows of a token."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import datetime

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client._redact import fingerprint
from spiffe_client.cli._asking_broker import check_broker, open_broker, somebodys
from spiffe_client.cli._exit import Exit
from spiffe_client.cli._facts import until
from spiffe_client.cli._lines import Line, line, pair
from spiffe_client.cli._reading import mention_waiting, read_token
from spiffe_client.cli._report import Report, timestamp
from spiffe_client.tokens import Introspection

__all__ = ["run"]


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """Ask once; a token that is not active is an answer that is no."""
    check_broker(arguments)
    mention_waiting(arguments.file, report)
    token = await read_token(arguments.file, command="spiffe-client introspect")
    with report.working(f"asking {arguments.token_broker}"):
        async with open_broker(arguments) as broker:
            said = await broker.introspect(somebodys(token, broker))
    print_of = fingerprint(token.reveal())
    now = SYSTEM_CLOCK.now()
    report.give(_record(said, print_of, arguments.token_broker, now), _lines(said, print_of, now))
    return Exit.FINE if said.active else Exit.FAILED


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)


def _record(said: Introspection, print_of: str, broker: str, now: datetime) -> dict[str, object]:
    return {
        "time": timestamp(now),
        "token_broker": broker,
        "fingerprint": print_of,
        "active": said.active,
        "scope": sorted(said.scope),
        "client_id": said.client_id,
        "username": said.username,
        "token_type": said.token_type,
        "subject": said.subject,
        "issuer": said.issuer,
        "audience": sorted(said.audience),
        "token_id": said.token_id,
        "expires_at": _moment(said.expires_at),
        "issued_at": _moment(said.issued_at),
        "not_before": _moment(said.not_before),
        "actor": dict(said.actor),
        "confirmation": dict(said.confirmation),
        "authorization_details": json.loads(said.authorization_details or "[]"),
    }


def _lines(said: Introspection, print_of: str, now: datetime) -> Iterator[Line]:
    if not said.active:
        yield line(("not active: ", "bad"), f"{print_of}…", hang=12)
        yield line(
            ("next: ", "strong"),
            "it is unknown there, expired or revoked, or this client may not ask about it",
            hang=6,
        )
        return
    yield line(("active: ", "good"), f"{print_of}…")
    for label, value in _facts(said, now).items():
        if value:
            yield pair(label, value)


def _facts(said: Introspection, now: datetime) -> dict[str, str]:
    actors, actor = [], said.actor
    while isinstance(actor, Mapping) and "sub" in actor:
        actors.append(str(actor["sub"]))
        actor = actor.get("act", {})  # type: ignore[assignment]  # whatever it is, the loop looks
    return {
        "subject": said.subject,
        "actors": ", for ".join(actors),
        "client": said.client_id,
        "username": said.username,
        "scope": " ".join(sorted(said.scope)),
        "audience": ", ".join(sorted(said.audience)),
        "details": said.authorization_details,
        "issuer": said.issuer,
        "type": said.token_type,
        "bound to": ", ".join(sorted(said.confirmation)),
        "expires": "" if said.expires_at is None else until(said.expires_at, now),
        "issued": _moment(said.issued_at) or "",
        "valid from": _moment(said.not_before) or "",
        "id": said.token_id,
    }
