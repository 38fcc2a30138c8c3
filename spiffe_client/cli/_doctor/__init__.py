"""`spiffe-client doctor`: where the way to an identity or a token is blocked, and what to do about it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from spiffe_client.cli._asking import where_to_look
from spiffe_client.cli._doctor._patient import Ailment, Examination, Found, Patient
from spiffe_client.cli._doctor._steps import STEPS
from spiffe_client.cli._exit import Exit, UsageError
from spiffe_client.cli._failure import Failure, failure_of, told
from spiffe_client.cli._lines import line
from spiffe_client.cli._report import Report
from spiffe_client.cli._steps import Step, give_step
from spiffe_client.errors import SpiffeError

__all__ = ["run"]

#: What says nothing without a token broker.
_TOKEN_WORDS = (
    *("scope", "audience", "resource", "details", "subject_token_file", "client_credentials"),
    *("ca", "broker_id", "client_id"),
)


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """Take every step, or say which one is in the way."""
    patient = Patient(arguments.socket, arguments.timeout, advice=where_to_look(arguments))
    if arguments.token_broker is None:
        _refuse_token_words(arguments)
        steps = await _walk(STEPS, patient, report)
    else:
        # Imported here: who has no token broker needs no HTTP.
        from spiffe_client.cli._doctor._broker import Practice

        practice = await Practice.of(arguments)
        steps = await _walk(STEPS, patient, report) if practice.identity else []
        async with practice:
            steps += await _walk(practice.steps, patient, report, no_identity=_in_the_way(steps))
    failed = [step.name for step in steps if step.state == "failed"]
    summary = line(("see to: ", "bad"), ", ".join(failed)) if failed else line(("all is well", "good"))
    report.give({"ok": not failed, "failed": failed}, [summary])
    return Exit.FAILED if failed else Exit.FINE


def _refuse_token_words(arguments: argparse.Namespace) -> None:
    for name in _TOKEN_WORDS:
        if getattr(arguments, name):
            said = "SCOPE" if name == "scope" else f"--{name.replace('_', '-')}"
            raise UsageError(f"{said} needs --token-broker", command="spiffe-client doctor")


def _in_the_way(steps: Sequence[Step]) -> str:
    """Return the step for which there is no identity; empty if there is one."""
    reached = {step.name: step.state for step in steps}
    if reached.get("issuance", "ok") == "ok":
        return ""
    return next(step.name for step in reversed(steps) if step.state == "failed")


async def _walk(
    examinations: Sequence[Examination], patient: Patient, report: Report, *, no_identity: str = ""
) -> list[Step]:
    steps: list[Step] = []
    blocked_by = ""
    for examination in examinations:
        blocker = blocked_by or (no_identity if examination.needs_identity else "")
        if blocker:
            step = Step(examination.name, "not_reached", f"not reached: {blocker} is in the way")
        else:
            with report.working(f"looking at: {examination.name}"):
                step, blocks = await _examine(examination, patient)
            blocked_by = step.name if blocks else ""
        give_step(report, step)
        steps.append(step)
    return steps


async def _examine(examination: Examination, patient: Patient) -> tuple[Step, bool]:
    """Return what came of a step, and whether those behind it make no sense now."""
    blocks = examination.vital
    try:
        found = await examination.look(patient)
    except Ailment as ailment:
        failure = Failure(ailment.code, told(ailment), ailment.advice)
        blocks = blocks or ailment.vital
    except SpiffeError as error:
        failure = failure_of(error, "doctor")
    else:
        return Step(examination.name, "ok", found.detail, facts=found.facts), False
    about = examination.about() if examination.about is not None else Found("")
    detail = f"{failure.message}\n{about.detail}".rstrip()
    facts = {"code": failure.code, **about.facts}
    return Step(examination.name, "failed", detail, failure.advice, facts), blocks
