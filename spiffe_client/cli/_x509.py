"""`spiffe-client x509`: this process's X509-SVIDs, and whom it trusts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.cli._asking import LeftOut, client_for, events_to, refuse_together
from spiffe_client.cli._exit import Exit
from spiffe_client.cli._facts import certificate_facts, key_kind, serial, sha256, until
from spiffe_client.cli._lines import Line, line, pair, verbatim
from spiffe_client.cli._report import Report, timestamp
from spiffe_client.svid import X509Svid
from spiffe_client.workload_api import WorkloadApiClient, X509Context

__all__ = ["run"]


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """Fetch once, or watch."""
    refuse_together(arguments, "pem", "json")
    refuse_together(arguments, "pem", "watch")
    client = client_for(arguments)
    if arguments.watch:
        await _watch(client, arguments, report)
    else:
        await _show(client, arguments, report)
    return Exit.FINE


async def _show(client: WorkloadApiClient, arguments: argparse.Namespace, report: Report) -> None:
    left_out = LeftOut()
    with report.working("asking the Workload API"):
        context = await client.fetch_x509_context(refused=left_out.add)
    if arguments.pem:
        report.give({}, _pem_lines(context.svid, show_key=arguments.show_key))
    else:
        _give(context, left_out, arguments, report)


async def _watch(client: WorkloadApiClient, arguments: argparse.Namespace, report: Report) -> None:
    from spiffe_client.sources import X509Source

    source = X509Source(client, timeout=arguments.timeout, on_event=events_to(report))
    with report.working("watching, until Ctrl-C"):
        async with source:
            _give(source.x509_context, LeftOut(), arguments, report)
            async for context in source.changes():
                _give(context, LeftOut(), arguments, report)


def _give(context: X509Context, left_out: LeftOut, arguments: argparse.Namespace, report: Report) -> None:
    now = SYSTEM_CLOCK.now()
    record = {
        "time": timestamp(now),
        "svids": [_svid_record(svid, show_key=arguments.show_key) for svid in context.svids],
        "bundles": [
            {
                "trust_domain": str(b.trust_domain),
                "authorities": [certificate_facts(c) for c in b.authorities],
            }
            for b in context.bundles.values()
        ],
        "left_out": left_out.records(),
    }
    report.give(record, [*_lines(context, now, arguments), *left_out.lines()])


def _svid_record(svid: X509Svid, *, show_key: bool) -> dict[str, object]:
    record: dict[str, object] = {
        "id": str(svid.id),
        "hint": svid.hint,
        "serial_number": serial(svid.leaf),
        "not_before": timestamp(svid.not_before),
        "not_after": timestamp(svid.not_after),
        "sha256": sha256(svid.leaf),
        "key": key_kind(svid.private_key),
        "chain": svid.chain_pem().decode(),
    }
    if show_key:
        record["private_key"] = svid.key_pem().reveal().decode()
    return record


def _lines(context: X509Context, now: datetime, arguments: argparse.Namespace) -> Iterator[Line]:
    if arguments.watch:
        yield line((timestamp(now), "faint"))
    for svid in context.svids:
        yield from _svid_lines(svid, now)
        if arguments.show_key:
            yield from _pem_lines(svid, show_key=True)
    yield line(("trusts", "strong"))
    for bundle in context.bundles.values():
        many = len(bundle.authorities)
        yield pair(f"{bundle.trust_domain}", f"{many} {'authority' if many == 1 else 'authorities'}")


def _svid_lines(svid: X509Svid, now: datetime) -> Iterator[Line]:
    yield line((str(svid.id), "name"))
    if svid.hint:
        yield pair("hint", svid.hint)
    yield pair("expires", until(svid.not_after, now))
    yield pair("valid from", timestamp(svid.not_before))
    yield pair("serial", serial(svid.leaf))
    yield pair("sha256", sha256(svid.leaf))
    between = len(svid.chain) - 1
    yield pair("chain", f"leaf and {between} intermediate{'' if between == 1 else 's'}")
    yield pair("key", f"{key_kind(svid.private_key)}, in memory")


def _pem_lines(svid: X509Svid, *, show_key: bool) -> Iterator[Line]:
    pem = svid.chain_pem()
    if show_key:
        pem += svid.key_pem().reveal()
    for text in pem.decode().splitlines():
        yield verbatim(text)
