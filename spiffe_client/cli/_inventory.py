"""`spiffe-client inventory`: all agents of a folder of contracts."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.cli._contract_lines import lifetime, seconds
from spiffe_client.cli._exit import Exit
from spiffe_client.cli._lines import Line, line, pair
from spiffe_client.cli._report import Report
from spiffe_client.policy import InventoryRow, inventory

__all__ = ["run"]


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """List them."""
    at: datetime = SYSTEM_CLOCK.now() if arguments.at is None else arguments.at
    rows = inventory(arguments.directory, at=at)
    for row in rows:
        report.give(_record(row), _lines(row, at))
    report.note(_summary(rows))
    return Exit.FAILED if any(row.state == "broken" for row in rows) else Exit.FINE


def _summary(rows: Sequence[InventoryRow]) -> str:
    states = Counter(row.state for row in rows)
    said = ", ".join(f"{states[s]} {s}" for s in ("valid", "overdue", "expired", "broken") if states[s])
    return f"{len(rows)} contract{'' if len(rows) == 1 else 's'}{f': {said}' if said else ''}"


def _record(row: InventoryRow) -> dict[str, object]:
    return {
        "file": row.file,
        "state": row.state,
        "id": row.id,
        "owner": row.owner,
        "purpose": row.purpose,
        "environment": row.environment,
        "reviewed": _day(row.reviewed),
        "review_by": _day(row.review_by),
        "expires": _day(row.expires),
        "task_seconds": row.task_seconds,
        "token_seconds": row.token_seconds,
        "widest": row.widest,
        "digest": row.digest,
        "problem": row.error,
    }


def _day(day: date | None) -> str | None:
    return None if day is None else str(day)


def _lines(row: InventoryRow, at: datetime) -> Iterator[Line]:
    if row.state == "broken":
        yield line(("✗", "bad"), " ", (row.file, "strong"), hang=2)
        yield pair("error", row.error, "bad")
        return
    yield line((row.id, "name"))
    yield pair("file", row.file)
    yield pair("purpose", row.purpose)
    yield pair("owner", row.owner or "nobody", "plain" if row.owner else "strong")
    yield pair("environment", row.environment)
    yield pair("reviewed", str(row.reviewed or "never"))
    yield pair("review by", *lifetime(row.review_by, row.overdue_at, at, ended="overdue"))
    yield pair("expires", *lifetime(row.expires, row.expired_at, at, ended="expired"))
    token = f", a token {seconds(row.token_seconds)}" if row.token_seconds else ", no tokens"
    yield pair("lifetimes", f"a task {seconds(row.task_seconds)}{token}")
    yield pair("widest", row.widest or "it may do nothing")
