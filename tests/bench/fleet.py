"""The load that a fleet makes on its token broker: `python -m tests.bench.fleet` prints and plots it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import fmean

from tests.bench._figure import Figure, at_most
from tests.bench._fleet_policy import Fleet, Outage, Run
from tests.bench._fleet_plot import svg, text

__all__ = ["fleet", "main"]

PLOT = Path(__file__).parents[2] / "docs" / "fleet.svg"
SIZE, TTL, HORIZON = 100_000, 3600.0, 4 * 3600
OUTAGE = Outage(2 * 3600.0, 2 * 3600.0 + 300)
#: The first seconds after the restart, in which everybody gets a first token.
START = 60


def steady_mean(run: Run, outage: Outage) -> float:
    """Tries per second between the start and the outage."""
    return fmean(run.tries[second] for second in range(START, int(outage.start)))


def peak(run: Run, horizon: int) -> tuple[int, int]:
    """The second after the start with the most tries, and how many."""
    second = max(range(START, horizon), key=lambda s: run.tries[s])
    return second, run.tries[second]


def busiest(run: Run, begin: int, end: int, width: int) -> float:
    """Tries per second in the busiest stretch of so many seconds."""
    return max(fmean(run.tries[s] for s in range(t, t + width)) for t in range(begin, end - width + 1, width))


def describe(run: Run, outage: Outage, horizon: int) -> str:
    """A page of text."""
    mean = steady_mean(run, outage)
    second, most = peak(run, horizon)
    return "\n".join(
        [
            f"steady mean                 {mean:8.1f} tries/s",
            f"all restarted at once       {run.tries[0]:8d} in the first second, "
            f"{sum(run.tries[s] for s in range(1, START))} in the rest of the first minute",
            f"peak after the first minute {most:8d} tries in second {second}: {most / mean:.2f} × the steady mean",
            f"busiest 10 s                {busiest(run, START, horizon, 10) / mean:8.2f} × the steady mean",
            f"busiest minute              {busiest(run, START, int(outage.start), 60) / mean:8.2f} × before the outage, "
            f"{busiest(run, int(outage.start), horizon, 60) / mean:.2f} × from then on",
            f"without a valid token       {run.without:8.0f} s in sum, {run.longest:.0f} s at most",
        ]
    )


def fleet(size: int = SIZE, seed: int = 1) -> list[Figure]:
    """100,000 workloads restarted at once, then a token broker that is down for five minutes."""
    run = Fleet(size, TTL, OUTAGE, seed).play(HORIZON)
    mean = steady_mean(run, OUTAGE)
    second, most = peak(run, HORIZON)
    detail = (
        f"{most}/s in second {second} against {mean:.1f}/s, {size} workloads, tokens of {TTL:.0f} s; pure chance "
        f"alone makes {1 + 4.1 / mean**0.5:.2f}; {run.without:.0f} s without a token; plot: docs/fleet.svg"
    )
    return [at_most("fleet_peak_ratio", most / mean, 2.0, unit="ratio", peer="none", runs=1, detail=detail)]


def main() -> int:
    """Play, print, plot."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet", description=__doc__)
    parser.add_argument("--size", type=int, default=SIZE, help="workloads")
    parser.add_argument("--ttl", type=float, default=TTL, help="seconds that a token lives")
    parser.add_argument("--down", type=float, default=300, help="seconds of the outage")
    parser.add_argument("--retry-after", type=float, help="seconds that the token broker asks to wait meanwhile")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--svg", type=Path, help=f"where to plot; by default {PLOT.name}, of the default fleet only")
    args = parser.parse_args()
    outage = Outage(OUTAGE.start, OUTAGE.start + args.down, args.retry_after)
    began = time.perf_counter()
    run = Fleet(args.size, args.ttl, outage, args.seed).play(HORIZON)
    took = time.perf_counter() - began
    title = f"{args.size:,} workloads, tokens of {args.ttl:.0f} s, token broker down for {args.down:.0f} s"
    print(f"{title}; {HORIZON / 3600:.0f} h in {took:.0f} s\n")
    print(describe(run, outage, HORIZON), "\n")
    mean = steady_mean(run, outage)
    print(text(run.tries, mean, (outage.start, outage.end), HORIZON))
    default = not args.svg and len(sys.argv) == 1
    if args.svg or default:
        path = args.svg or PLOT
        path.write_text(svg(run.tries, mean, (outage.start, outage.end), HORIZON, title))
        print(f"\nplotted to {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
