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
from spiffe_client.cli._dev_office import Office, open_office, token_broker_for
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
    domain = DevTrustDomain(
        _trust_domain(arguments, registrations),
        socket=_path(arguments.socket),
        registrations=registrations,
        svid_ttl=arguments.ttl,
    )
    broker = token_broker_for(arguments, domain)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(domain)
        except EndpointError as error:
            raise Failed(
                replace(failure_of(error, "dev"), advice="say another PATH with --socket")
            ) from error
        office = (
            None if broker is None else await stack.enter_async_context(open_office(broker, arguments.file))
        )
        report.give(_record(domain, office), _lines(domain, office))
        with report.working("serving, until Ctrl-C"):
            return await _serve(domain, arguments.rotate_every, report)


def _path(said: str | None) -> str | None:
    """Return where to serve: what is said is a path, or the address of a unix socket.

    Raises:
        UsageError: No socket can be there.
    """
    if said is None:
        return None
    is_address = said.startswith("unix:") or "://" in said
    try:
        endpoint = Endpoint.parse(said) if is_address else Endpoint("unix", path=str(Path(said).absolute()))
    except EndpointError as error:
        raise UsageError(f"--socket: {error}", command="spiffe-client dev") from error
    if endpoint.kind != "unix":
        raise UsageError(
            f"--socket {said}: a development trust domain serves on a unix socket: say its path",
            command="spiffe-client dev",
        )
    return endpoint.path


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


def _record(domain: DevTrustDomain, office: Office | None) -> dict[str, object]:
    record: dict[str, object] = {
        "trust_domain": str(domain.trust_domain),
        "endpoint": domain.endpoint,
        "registrations": [{"id": str(e.id), "who": _who(e.selectors)} for e in domain.registrations],
    }
    return record if office is None else {**record, **office.record()}


def _lines(domain: DevTrustDomain, office: Office | None) -> Iterator[Line]:
    # Plain and first, so that it can be copied, or taken by a script.
    yield verbatim(f"export SPIFFE_ENDPOINT_SOCKET={shlex.quote(domain.endpoint)}")
    for entry in domain.registrations:
        yield line(("# ", "faint"), (str(entry.id), "name"), (f" for {_who(entry.selectors)}", "faint"))
    if office is not None:
        yield from office.lines()
    yield line((f"# trust domain {domain.trust_domain}, for development only, until Ctrl-C", "faint"))


def _who(selectors: Selectors) -> str:
    if selectors.any_caller:
        return "whoever opens the socket"
    named = {"uid": selectors.uid, "gid": selectors.gid, "pid": selectors.pid, "path": selectors.path}
    return ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)
