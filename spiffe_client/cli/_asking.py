"""What the commands that ask the Workload API have in common."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.audit import Event
from spiffe_client.cli._exit import UsageError
from spiffe_client.cli._failure import Failed, failure_of
from spiffe_client.cli._lines import Line, line, without_tokens
from spiffe_client.cli._report import Report, timestamp
from spiffe_client.errors import EndpointError, SpiffeError
from spiffe_client.workload_api import ENDPOINT_VARIABLE, WorkloadApiClient

__all__ = [
    "WITH_SECRET",
    "LeftOut",
    "client_for",
    "events_to",
    "refuse_together",
    "where_to_look",
    "who_is_the_svid",
]

#: Values of `--auth` by which a client shows something of its own, and no SVID.
WITH_SECRET = ("private-key-jwt", "client-secret")


def client_for(arguments: argparse.Namespace) -> WorkloadApiClient:
    """Return a client for `--socket` and `--timeout`.

    Raises:
        UsageError: `--socket` is malformed.
        Failed: Nothing says where the Workload API is, or the environment says nonsense.
    """
    try:
        return WorkloadApiClient(arguments.socket, timeout=arguments.timeout)
    except EndpointError as error:
        if arguments.socket is not None:
            raise UsageError(f"--socket: {error}", command=f"spiffe-client {arguments.command}") from error
        raise Failed(replace(failure_of(error), advice=where_to_look(arguments))) from error


def where_to_look(arguments: argparse.Namespace) -> str:
    """Say what to do where the environment does not lead to a Workload API."""
    if os.environ.get(ENDPOINT_VARIABLE):
        return f"correct {ENDPOINT_VARIABLE}, or say another address with --socket"
    if _only_to_exchange(arguments):
        return (
            f"set {ENDPOINT_VARIABLE}, or pass --socket; "
            "a client with a secret of its own needs neither: --client-credentials"
        )
    if who_is_the_svid(arguments):
        return f"set {ENDPOINT_VARIABLE}, or pass --socket: who asks is the SPIFFE ID, unless --client-id says another"
    return f"set {ENDPOINT_VARIABLE}, or pass --socket; to try without an agent run `spiffe-client dev`"


def who_is_the_svid(arguments: argparse.Namespace) -> bool:
    """Whether an identity is needed for its name alone: nothing proves who asks, and nothing says it."""
    said = vars(arguments)
    return said.get("auth") == "none" and said.get("client_id") is None


def _only_to_exchange(arguments: argparse.Namespace) -> bool:
    """Whether an identity is needed for nothing but to exchange its JWT-SVID."""
    said = vars(arguments)
    return said.get("auth") in WITH_SECRET and said.get("binding") != "mtls" and not said.get("broker_id")


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
        return [line(("left out: ", "bad"), without_tokens(str(error)), hang=10) for error in self.errors]


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
            said = line((f"{now}  ", "faint"), (event.name, "strong"), f"  {message}", hang=len(now) + 2)
            report.give(record, [said])

    return show
