"""What the commands that ask the Workload API have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.audit import Event
from spiffe_client.cli._exit import UsageError
from spiffe_client.cli._lines import Line, line, without_tokens
from spiffe_client.cli._report import Report, timestamp
from spiffe_client.errors import SpiffeError
from spiffe_client.workload_api import WorkloadApiClient

__all__ = ["LeftOut", "client_for", "events_to", "refuse_together"]


def client_for(arguments: argparse.Namespace) -> WorkloadApiClient:
    """Return a client for `--socket` and `--timeout`.

    Raises:
        EndpointError: There is no address, or it is malformed.
    """
    return WorkloadApiClient(arguments.socket, timeout=arguments.timeout)


def refuse_together(arguments: argparse.Namespace, *options: str) -> None:
    """Refuse options that contradict each other.

    Raises:
        UsageError: More than one of them is set.
    """
    given = [f"--{o.replace('_', '-')}" for o in options if getattr(arguments, o)]
    if len(given) > 1:
        raise UsageError(
            f"{' and '.join(given)} exclude each other", command=f"spiffe-client {arguments.command}"
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The parts of an answer that are of no use, while the rest is."""

    errors: list[SpiffeError] = field(default_factory=list)

    def add(self, error: SpiffeError) -> None:
        """Take one; for `refused=`."""
        self.errors.append(error)

    def records(self) -> list[dict[str, str]]:
        """Return them for programs."""
        return [{"code": error.code, "message": without_tokens(str(error))} for error in self.errors]

    def lines(self) -> list[Line]:
        """Return them for people."""
        return [line(("left out: ", "bad"), without_tokens(str(error))) for error in self.errors]


def events_to(report: Report) -> Callable[[Event], None]:
    """Return a sink that shows what happens to a source.

    Not the updates, which are shown whole, and not the same thing again at every attempt.
    """
    last = ("", "")

    def show(event: Event) -> None:
        nonlocal last
        if last == (last := (event.name, event.message)) or event.name.endswith(".updated"):
            return
        now, message = timestamp(SYSTEM_CLOCK.now()), without_tokens(event.message)
        record = {"time": now, "event": event.name, "message": message, "attributes": dict(event.attributes)}
        # Where nobody reads any more, the next result ends the command; a sink must not raise.
        with suppress(BrokenPipeError):
            report.give(record, [line((f"{now}  ", "faint"), (event.name, "strong"), f"  {message}")])

    return show
