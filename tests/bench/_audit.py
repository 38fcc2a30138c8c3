"""What an audit trail costs: an event told, and a million of them verified."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.audit import Event, JsonlSink, verify_trail
from spiffe_client.audit._checkpoint import Notary
from spiffe_client.audit._record import body_of, own_body, seal, stamp
from spiffe_client.bundle import BundleSet
from spiffe_client.dev import CertificateAuthority
from tests.bench._figure import Figure, at_most

__all__ = ["told", "verified"]

_AGENT = "spiffe://prod.example/agent/closer"
_TRAIL = "0123456789abcdef0123456789abcdef"


def _call(number: int) -> Event:
    """A call with all that an audit wants to know of it."""
    facts = {
        "workload": _AGENT,
        "svid_serial": "52235caa83e90c91456c1ae79df7d838023313ff",
        "token": "abcdef012345",
        "agent": _AGENT,
        "task": "nT3xkq0mQ3yWc1q7",
        "parents": "",
        "action": "invoices:read",
        "resource": f"tenants/acme/invoices/{number}",
        "tenant": "acme",
        "arguments": "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ",
        "audience": "https://billing.prod.example",
        "purpose": "close the March books",
        "decision": "allow",
        "reason": "allowed",
        "policy": "contract",
        "outcome": "ok",
        "duration_ms": 1.25,
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "call": "mQ3yWc1q7nT3xkq0",
    }
    return Event("call.finished", "read an invoice", facts)


def _lines(count: int, notary: Notary, every: int) -> Iterator[bytes]:
    """A trail of so many records, as the sink writes it, without the threads."""
    now = SYSTEM_CLOCK.now()
    prev, body = b"0" * 64, own_body("trail.started", "", {"trail": _TRAIL, "format": 1, "workload": _AGENT})
    for number in range(count):
        line, prev = seal(stamp(now), body, number, prev)
        yield line
        if (number + 1) % every == 0 or number == count - 2:
            final, svid = number == count - 2, notary.svid(now)
            facts = notary.facts(_TRAIL, number + 1, prev.decode(), stamp(now), svid, final=final)
            body = own_body("trail.checkpoint", "", facts)
        else:
            body = body_of(_call(number))


def verified(count: int = 1_000_000) -> list[Figure]:
    """A trail of a million records, signed every thousand, verified against a bundle, line by line from the disk."""
    authority = CertificateAuthority("prod.example")
    svid = authority.issue_x509_svid(_AGENT)
    with TemporaryDirectory() as folder:
        path = Path(folder, "audit.jsonl")
        with path.open("wb") as file:
            file.writelines(_lines(count, Notary(lambda: svid), 1000))
        start = time.perf_counter()
        report = verify_trail(path, bundles=BundleSet([authority.x509_bundle]), workload=_AGENT)
        took = time.perf_counter() - start
        size = path.stat().st_size
    assert (count, count, True) == (report.records, report.vouched, report.closed)
    detail = f"{count} records, {size / 1e6:.0f} MB, {report.checkpoints} signatures"
    return [at_most("audit_verify_s", took, 20, unit="s", peer="none", runs=1, detail=detail)]


def told(runs: int = 3000) -> list[Figure]:
    """One event told to a sink that writes a signed trail, now and then as agents do, on the caller's thread."""
    svid = CertificateAuthority("prod.example").issue_x509_svid(_AGENT)
    pause, took = threading.Event(), []
    with TemporaryDirectory() as folder:
        with JsonlSink(Path(folder, "audit.jsonl"), on_trouble="block", signer=lambda: svid) as sink:
            for number in range(runs):
                event = _call(number)
                start = time.perf_counter()
                sink(event)
                took.append(time.perf_counter() - start)
                if number % 10 == 0:
                    pause.wait(0.001)
    detail = f"p99 {sorted(took)[runs * 99 // 100] * 1e6:.0f} µs"
    return [at_most("audit_event_us", median(took) * 1e6, 15, unit="µs", peer="none", runs=runs, detail=detail)]
