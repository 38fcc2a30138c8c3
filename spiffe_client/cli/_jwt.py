"""`spiffe-client jwt`: a JWT-SVID for an audience."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client._redact import fingerprint
from spiffe_client._retry import Backoff
from spiffe_client.audit import Event
from spiffe_client.cli._asking import client_for, events_to, refuse_together
from spiffe_client.cli._exit import Exit, UsageError
from spiffe_client.cli._facts import until
from spiffe_client.cli._failure import Failed, Failure
from spiffe_client.cli._lines import Line, line, pair, verbatim
from spiffe_client.cli._report import Report, timestamp
from spiffe_client.errors import InvalidIdError, NoIdentityIssuedError, SpiffeError, WorkloadApiError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid import JwtSvid
from spiffe_client.workload_api import WorkloadApiClient

__all__ = ["run"]

_COMMAND = "spiffe-client jwt"
#: Never asked for more often than this, in seconds, however short a token lives.
_SHORTEST_WAIT = 1.0
#: Most identities that a message lists.
_SHOWN = 5
_ANOTHER = "say one of these with --subject, or none of them; or have this process registered for it, too"


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """Fetch once, or again and again ahead of expiry."""
    if arguments.raw and not arguments.show_token:
        raise UsageError("--raw prints a token: say --show-token too", command=_COMMAND)
    if not all(arguments.audience):
        raise UsageError("an audience is empty: name whom the token is for", command=_COMMAND)
    refuse_together(arguments, "raw", "json")
    refuse_together(arguments, "raw", "watch")
    client = client_for(arguments)
    with report.working("asking the Workload API"):
        svids = await _fetch_first(client, arguments)
    _give(svids, arguments, report)
    while arguments.watch:
        left = min(svid.expires_at for svid in svids) - SYSTEM_CLOCK.now()
        with report.working("watching, until Ctrl-C"):
            await SYSTEM_CLOCK.sleep(max(_SHORTEST_WAIT, left.total_seconds() / 2))
            svids = await _fetch_at_last(client, arguments, report)
        _give(svids, arguments, report)
    return Exit.FINE


async def _fetch_first(client: WorkloadApiClient, arguments: argparse.Namespace) -> tuple[JwtSvid, ...]:
    """Fetch; where another identity was asked for than there is, say which ones there are."""
    try:
        return await _fetch(client, arguments)
    except NoIdentityIssuedError as error:
        subject = _subject(arguments.subject)
        others = [] if subject is None else await _identities(client)
        if not others or str(subject) in others:
            raise
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        message = f"{subject} is not issued to this process, which is {', '.join(others[:_SHOWN])}{more}"
        raise Failed(Failure(error.code, message, _ANOTHER)) from error


async def _identities(client: WorkloadApiClient) -> list[str]:
    """Return who this process is, as far as that can be had."""
    try:
        context = await client.fetch_x509_context(refused=lambda _: None)
    except SpiffeError:
        return []
    return [str(svid.id) for svid in context.svids]


async def _fetch(client: WorkloadApiClient, arguments: argparse.Namespace) -> tuple[JwtSvid, ...]:
    return await client.fetch_jwt_svids(arguments.audience, subject=_subject(arguments.subject))


def _subject(text: str | None) -> SpiffeId | None:
    try:
        return None if text is None else SpiffeId.parse(text)
    except InvalidIdError as error:
        raise UsageError(f"--subject: {error}", command=_COMMAND) from error


async def _fetch_at_last(
    client: WorkloadApiClient, arguments: argparse.Namespace, report: Report
) -> tuple[JwtSvid, ...]:
    """Fetch, as often as it takes while trying again makes sense."""
    attempt = 0
    while True:
        try:
            return await _fetch(client, arguments)
        except WorkloadApiError as error:
            if not error.retryable:
                raise
            attempt += 1
            if attempt == 1:  # once per outage is enough
                events_to(report)(Event("source.unavailable", str(error), {"code": error.code}))
            await SYSTEM_CLOCK.sleep(Backoff().delay(attempt))


def _give(svids: tuple[JwtSvid, ...], arguments: argparse.Namespace, report: Report) -> None:
    now = SYSTEM_CLOCK.now()
    records = [_record(svid, show_token=arguments.show_token) for svid in svids]
    report.give({"time": timestamp(now), "svids": records}, _lines(svids, now, arguments))


def _record(svid: JwtSvid, *, show_token: bool) -> dict[str, object]:
    record: dict[str, object] = {
        "id": str(svid.id),
        "hint": svid.hint,
        "audience": sorted(svid.audience),
        "issued_at": None if svid.issued_at is None else timestamp(svid.issued_at),
        "expires_at": timestamp(svid.expires_at),
        "key_id": svid.key_id,
        "fingerprint": fingerprint(svid.token.reveal()),
    }
    if show_token:
        record["token"] = svid.token.reveal()
    return record


def _lines(svids: tuple[JwtSvid, ...], now: datetime, arguments: argparse.Namespace) -> Iterator[Line]:
    if arguments.raw:
        yield verbatim(svids[0].token.reveal())
        return
    if arguments.watch:
        yield line((timestamp(now), "faint"))
    for svid in svids:
        yield line((str(svid.id), "name"))
        if svid.hint:
            yield pair("hint", svid.hint)
        yield pair("audience", ", ".join(sorted(svid.audience)))
        yield pair("expires", until(svid.expires_at, now))
        if svid.issued_at is not None:
            yield pair("issued", timestamp(svid.issued_at))
        yield pair("key id", svid.key_id or "none")
        if arguments.show_token:
            yield verbatim(svid.token.reveal())
        else:
            yield pair("token", f"{fingerprint(svid.token.reveal())}… (--show-token prints it)")
