"""`spiffe-client doctor`: where the way to an identity is blocked, and what to do about it."""

from __future__ import annotations

import argparse

from spiffe_client.cli._doctor._patient import Ailment, Found, Patient
from spiffe_client.cli._doctor._steps import STEPS, Examination
from spiffe_client.cli._exit import Exit
from spiffe_client.cli._failure import Failure, failure_of
from spiffe_client.cli._lines import line, without_tokens
from spiffe_client.cli._report import Report
from spiffe_client.cli._steps import Step, give_step
from spiffe_client.errors import SpiffeError

__all__ = ["run"]


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """Take every step, or say which one is in the way."""
    patient = Patient(arguments.socket, arguments.timeout)
    failed: list[str] = []
    blocked_by = ""
    for examination in STEPS:
        if blocked_by:
            give_step(
                report, Step(examination.name, "not_reached", f"not reached: {blocked_by} is in the way")
            )
            continue
        with report.working(f"looking at: {examination.name}"):
            step, blocks = await _examine(examination, patient)
        give_step(report, step)
        if step.state == "failed":
            failed.append(step.name)
            blocked_by = step.name if blocks else ""
    summary = line(("see to: ", "bad"), ", ".join(failed)) if failed else line(("all is well", "good"))
    report.give({"ok": not failed, "failed": failed}, [summary])
    return Exit.FAILED if failed else Exit.FINE


async def _examine(examination: Examination, patient: Patient) -> tuple[Step, bool]:
    """Return what came of a step, and whether those behind it make no sense now."""
    blocks = examination.vital
    try:
        found = await examination.look(patient)
    except Ailment as ailment:
        failure = Failure(ailment.code, without_tokens(str(ailment)), ailment.advice)
        blocks = blocks or ailment.vital
    except SpiffeError as error:
        failure = failure_of(error)
    else:
        return Step(examination.name, "ok", found.detail, facts=found.facts), False
    about = examination.about() if examination.about is not None else Found("")
    detail = f"{failure.message}\n{about.detail}".rstrip()
    facts = {"code": failure.code, **about.facts}
    return Step(examination.name, "failed", detail, failure.advice, facts), blocks
