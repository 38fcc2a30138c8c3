"""Words that several commands of the command line share."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from spiffe_client.ids import TrustDomain

__all__ = ["WATCH", "as_json", "moment", "seconds", "trust_domain", "workload_api"]

WATCH = "go on, and show every change until Ctrl-C"


def seconds(text: str) -> float:
    """Understand a positive number of seconds."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return number


def moment(text: str) -> datetime:
    """Understand a moment, RFC 3339."""
    from datetime import UTC, datetime

    try:
        read = datetime.fromisoformat(text)
        if read.tzinfo is not None:
            return read.astimezone(UTC)
    except (ValueError, OverflowError):  # not a date, or beyond the calendar in UTC
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is no moment; write it like 2026-11-21T23:36:17Z")


def as_json(command: argparse.ArgumentParser, *, default: object = argparse.SUPPRESS) -> None:
    """Add `--json`."""
    command.add_argument(
        "--json", action="store_true", default=default, help="one JSON object a line, with stable keys"
    )


def trust_domain(text: str) -> TrustDomain:
    """Understand a trust domain's name."""
    from spiffe_client.errors import InvalidIdError
    from spiffe_client.ids import TrustDomain

    try:
        return TrustDomain.parse(text)
    except InvalidIdError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def workload_api(command: argparse.ArgumentParser, *, timeout: float = 5.0) -> None:
    """Add where the Workload API is, and how long an answer may take."""
    command.add_argument(
        "--socket",
        metavar="ADDRESS",
        help="the Workload API, unix:///path or tcp://IP:port; if left out, what SPIFFE_ENDPOINT_SOCKET says",
    )
    command.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        default=timeout,
        help=f"how long an answer may take ({timeout:g})",
    )
