"""`spiffe-client demo`: a trust domain, two processes, an agent, and all that must be refused, for real.

No answer is scripted: each line is a fact of this run, and one that is not as it must be fails it.
"""

from __future__ import annotations

import argparse

import httpx

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.cli._demo._process import Broken
from spiffe_client.cli._demo._stage import Stage, open_stage
from spiffe_client.cli._demo._story import STORY, Scene
from spiffe_client.cli._exit import Exit
from spiffe_client.cli._failure import failure_of
from spiffe_client.cli._lines import line
from spiffe_client.cli._report import Report
from spiffe_client.cli._steps import Step, give_step
from spiffe_client.dev.token_broker import require_extra
from spiffe_client.errors import SpiffeError, find

__all__ = ["run"]

#: Whatever it was, it was between parts of the demo: no option and no agent has to do with it.
_PLAY_AGAIN = "play it again; if it fails again, report it with these lines"
_SKIPPED = "skipped: it needs the extra `dev`: pip install 'spiffe-client[dev]'"


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """Play the story, and say whether it went as it must."""
    del arguments  # it brings all it needs
    begun = SYSTEM_CLOCK.monotonic()
    steps: list[Step] = []
    lacks_extra = _lacks_extra()
    async with open_stage() as stage:
        for scene in STORY:
            stuck = next((s.name for s in steps if s.state == "failed"), "")
            if scene.tokens and lacks_extra:
                steps.append(Step(scene.name, "not_reached", _SKIPPED))
            else:
                steps.append(await _play(scene, stage, report, stuck))
            give_step(report, steps[-1])
    seconds = SYSTEM_CLOCK.monotonic() - begun
    good = sum(step.state == "ok" for step in steps)
    skipped = sum(step.detail == _SKIPPED for step in steps)
    report.give(
        {"ok": good == len(steps), "passed": good, "steps": len(steps), "seconds": round(seconds, 2)},
        [
            line(
                (f"{good} of {len(steps)} as it must be", "good" if good == len(steps) else "bad"),
                f", in {seconds:.1f} s" + (f"; {skipped} skipped" if skipped else ""),
            )
        ],
    )
    return Exit.FINE if good == len(steps) else Exit.FAILED


def _lacks_extra() -> bool:
    """Whether what serves a token broker is not installed."""
    try:
        require_extra()
    except ModuleNotFoundError:
        return True
    return False


async def _play(scene: Scene, stage: Stage, report: Report, stuck: str) -> Step:
    if stuck:
        return Step(scene.name, "not_reached", f"not reached: {stuck} went wrong")
    try:
        with report.working(scene.about) as say:
            detail, facts, *lines = await scene.play(stage, say)
    except Broken as error:
        return Step(scene.name, "failed", str(error))
    except (SpiffeError, httpx.HTTPError) as error:
        known = find(error, SpiffeError)
        if known is None:
            return Step(scene.name, "failed", f"{type(error).__name__}: {error}")
        failure = failure_of(known)
        return Step(scene.name, "failed", failure.message, _PLAY_AGAIN, {"code": failure.code})
    return Step(scene.name, "ok", detail, facts=facts, lines=tuple(lines))
