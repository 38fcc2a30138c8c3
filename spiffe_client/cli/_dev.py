"""`spiffe-client dev`: a trust domain to develop against, until Ctrl-C."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import anyio

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.cli._exit import UsageError
from spiffe_client.cli._failure import Failed, failure_of
from spiffe_client.cli._lines import Line, line, verbatim
from spiffe_client.cli._report import Report, timestamp
from spiffe_client.dev import DevTrustDomain, Registration, Registrations, Selectors
from spiffe_client.errors import EndpointError
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.workload_api import Endpoint

__all__ = ["run"]

_DEFAULT_DOMAIN = TrustDomain("dev.example")


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """Serve until cancelled."""
    registrations = _registrations(arguments)
    _check_path(arguments.socket)
    domain = DevTrustDomain(
        _trust_domain(arguments, registrations),
        socket=arguments.socket,
        registrations=registrations,
        svid_ttl=arguments.ttl,
    )
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(domain)
        except EndpointError as error:
            raise Failed(replace(failure_of(error), advice="say another PATH with --socket")) from error
        report.give(_record(domain), _lines(domain))
        with report.working("serving, until Ctrl-C"):
            return await _serve(domain, arguments.rotate_every, report)


def _check_path(path: str | None) -> None:
    """Refuse beforehand a path that no socket can have."""
    try:
        if path is not None:
            Endpoint("unix", path=str(Path(path).absolute()))
    except EndpointError as error:
        raise UsageError(f"--socket: {error}", command="spiffe-client dev") from error


def _registrations(arguments: argparse.Namespace) -> Registrations:
    if arguments.file is not None:
        return Registrations.load(arguments.file)
    # Nobody but this user can open the socket, so any caller is somebody of ours.
    workload = SpiffeId(arguments.trust_domain or _DEFAULT_DOMAIN, "/workload")
    return Registrations((Registration(workload, Selectors(any_caller=True)),))


def _trust_domain(arguments: argparse.Namespace, registrations: Registrations) -> TrustDomain:
    if arguments.trust_domain is not None:
        return TrustDomain.parse(arguments.trust_domain)
    return next((entry.id.trust_domain for entry in registrations), _DEFAULT_DOMAIN)


async def _serve(domain: DevTrustDomain, rotate_every: float | None, report: Report) -> int:
    if rotate_every is None:
        await anyio.sleep_forever()
    rotations = 0
    while True:
        await SYSTEM_CLOCK.sleep(rotate_every or 0)
        await domain.rotate()
        rotations += 1
        now = timestamp(SYSTEM_CLOCK.now())
        report.give(
            {"time": now, "event": "rotated", "count": rotations},
            [line((f"{now}  ", "faint"), f"every SVID issued anew ({rotations})")],
        )


def _record(domain: DevTrustDomain) -> dict[str, object]:
    return {
        "trust_domain": str(domain.trust_domain),
        "endpoint": domain.endpoint,
        "registrations": [{"id": str(e.id), "who": _who(e.selectors)} for e in domain.registrations],
    }


def _lines(domain: DevTrustDomain) -> Iterator[Line]:
    # Plain and first, so that it can be copied, or taken by a script.
    yield verbatim(f"export SPIFFE_ENDPOINT_SOCKET={shlex.quote(domain.endpoint)}")
    for entry in domain.registrations:
        yield line(("# ", "faint"), (str(entry.id), "name"), (f" for {_who(entry.selectors)}", "faint"))
    yield line((f"# trust domain {domain.trust_domain}, for development only, until Ctrl-C", "faint"))


def _who(selectors: Selectors) -> str:
    if selectors.any_caller:
        return "whoever opens the socket"
    named = {"uid": selectors.uid, "gid": selectors.gid, "pid": selectors.pid, "path": selectors.path}
    return ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)
