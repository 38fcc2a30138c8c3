"""Measure the acceptance figures: `nox -s bench -- [--json FILE] [--only ID,…]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench import _agents, _audit, _channels, _langchain, _outage, _processes, _recovery, _tokens, fleet
from tests.bench._figure import Figure

__all__ = ["main"]

MEASUREMENTS: dict[tuple[str, ...], Callable[[], list[Figure]]] = {
    ("import_cpu_ratio",): _processes.import_cpu,
    ("rss_ratio", "os_threads"): _processes.memory,
    ("install_size_ratio",): _processes.install_size,
    ("first_svid_ratio",): _processes.first_svid,
    ("recovery_5s",): _recovery.recovery(5),
    ("recovery_30s",): _recovery.recovery(30),
    ("recovery_60s",): _recovery.recovery(60),
    ("handshake_ratio",): _channels.handshake,
    ("keepalive_ratio",): _channels.keepalive,
    ("rotation_failures",): _channels.rotation,
    ("push_to_handshake_p99_ms",): _channels.push,
    ("cached_token_us",): _tokens.cached_token,
    ("single_flight_posts",): _tokens.single_flight,
    ("token_kib", "token_tasks"): _tokens.many_tokens,
    ("refresh_cpu_growth",): _tokens.refresh_cpu,
    ("auth_keepalive_ratio",): _tokens.auth_keepalive,
    ("broker_outage_failures", "broker_recovery_s"): _outage.outage,
    ("fleet_peak_ratio",): fleet.fleet,
    ("guard_memory_us", "guard_jsonl_us"): _agents.guarded,
    ("task_kib",): _agents.many_tasks,
    ("stop_s",): _agents.stop,
    ("langchain_overhead_us",): _langchain.overhead,
    ("audit_event_us",): _audit.told,
    ("audit_verify_s",): _audit.verified,
}


def _table(figures: list[Figure]) -> str:
    head = ("figure", "value", "target", "unit", "peer", "runs", "ok", "detail")
    rows = [head] + [
        (f.figure, f"{f.value:g}", f.target, f.unit, f.peer, str(f.runs), "yes" if f.ok else "NO", f.detail)
        for f in figures
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def main() -> int:
    """Run the chosen measurements. It only measures: a missed target is in the table, not in the exit code."""
    parser = argparse.ArgumentParser(prog="nox -s bench --")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there instead of a table")
    parser.add_argument("--only", default="", metavar="ID,…", help="measure only these figures")
    args = parser.parse_args()
    known = {name for names in MEASUREMENTS for name in names}
    only = set(filter(None, args.only.split(",")))
    if only - known:
        parser.error(f"no such figure: {', '.join(sorted(only - known))}; there are {', '.join(sorted(known))}")
    figures: list[Figure] = []
    for names, measure in MEASUREMENTS.items():
        if only and not only & set(names):
            continue
        print(f"measuring {', '.join(names)} …", file=sys.stderr, flush=True)
        figures += [f for f in measure() if not only or f.figure in only]
        if args.json:  # each time: who stops it keeps what was measured
            args.json.write_text(json.dumps([f.as_json() for f in figures], indent=2, ensure_ascii=False) + "\n")
    if not args.json:
        print(_table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
