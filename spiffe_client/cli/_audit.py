"""`spiffe-client audit`: whether audit trails are as they were written, and what they tell."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from typing import TypeVar

import anyio.from_thread
import anyio.to_thread

from spiffe_client.audit import Record, TrailReport, read_trail, render_report, verify_trail
from spiffe_client.audit._story import Story, TaskStory
from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.cli._audit_lines import task_lines, task_record
from spiffe_client.cli._evidence import read_bundles
from spiffe_client.cli._exit import Exit, UsageError
from spiffe_client.cli._failure import Failed, Failure, told
from spiffe_client.cli._lines import Line, line, naming, pair, without_tokens
from spiffe_client.cli._report import Report
from spiffe_client.errors import AuditError, InvalidIdError
from spiffe_client.ids import SpiffeId

__all__ = ["run"]

_T = TypeVar("_T")
#: How often to look whether somebody has pressed Ctrl-C, in records.
_OFTEN = 8192
_COMMAND = "spiffe-client audit"
#: Most reasons on a line.
_MOST_REASONS = 10


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """Verify, show or draw."""
    if arguments.action == "verify":
        return await _verify(arguments, report)
    return await (_show if arguments.action == "show" else _draw)(arguments, report)


async def _reading(report: Report, what: str, work: Callable[[Callable[[int], None]], _T]) -> _T:
    """Do long work beside the loop, which looks after Ctrl-C; it says now and then how far it is."""
    with report.working(what) as say:

        def progress(records: int) -> None:
            anyio.from_thread.check_cancelled()
            say(f"{what}: {records:,} records")

        return await anyio.to_thread.run_sync(work, progress)


def _watched(records: Iterable[Record], progress: Callable[[int], None]) -> Iterator[Record]:
    for number, record in enumerate(records, 1):
        if number % _OFTEN == 0:
            progress(number)
        yield record


def _bundles(arguments: argparse.Namespace) -> BundleSet[X509Bundle] | None:
    return read_bundles(arguments.bundle, command=f"{_COMMAND} {arguments.action}").x509


async def _verify(arguments: argparse.Namespace, report: Report) -> int:
    bundles = _bundles(arguments)
    try:
        workload = None if arguments.id is None else SpiffeId.parse(arguments.id)
    except InvalidIdError as error:
        raise UsageError(f"--id: {error}", command=f"{_COMMAND} verify") from error
    good = True
    for name in dict.fromkeys(arguments.files):
        try:
            found = await _reading(
                report,
                f"verifying {name}",
                lambda progress, name=name: verify_trail(  # type: ignore[misc]
                    name, bundles=bundles, workload=workload, known=arguments.known, progress=progress
                ),
            )
        except AuditError as error:
            good = False
            report.give(_broken_record(name, error), _broken_lines(name, error))
            continue
        whole = found.closed and found.vouched == found.records
        good = good and (whole or not arguments.closed)
        report.give(
            {"file": name, "ok": True, "refused": None, "report": asdict(found)},
            _good_lines(name, found, enough=whole or not arguments.closed),
        )
    return Exit.FINE if good else Exit.FAILED


def _broken_record(name: str, error: AuditError) -> dict[str, object]:
    about = {"code": error.code, "line": error.line, "message": told(error)}
    return {"file": name, "ok": False, "refused": about, "report": None}


def _broken_lines(name: str, error: AuditError) -> Iterator[Line]:
    yield line(("✗ ", "bad"), (name, "strong"), hang=2)
    yield line(("  refused: ", "bad"), *naming(told(error), "plain"), hang=11)


def _good_lines(name: str, found: TrailReport, *, enough: bool) -> Iterator[Line]:
    yield line(("✓ ", "good") if enough else ("✗ ", "bad"), (name, "strong"), hang=2)
    yield pair("workload", found.workload or "nobody named", "name")
    yield pair("records", f"{found.records:,}, {found.denials:,} denials, {found.dropped:,} dropped")
    yield pair("from", f"{found.first_at} to {found.last_at}")
    yield pair("opened", f"{_times(found.runs)}, {_times(found.crashes)} after a crash, {_lines(found.torn)}")
    signatures = "1 checkpoint" if found.checkpoints == 1 else f"{found.checkpoints:,} checkpoints"
    yield pair("signed", f"up to record {found.vouched:,} of {found.records:,}, {signatures}")
    yield pair(
        "end", "closed" if found.closed else "unclosed: its writer lives, has crashed, or the end was cut off"
    )
    yield pair("head", f"{found.records - 1}:{found.head}")
    if not enough:
        yield line(
            ("  refused: ", "bad"), "--closed asks for one that is closed, and signed to its end", hang=11
        )
    if not found.proven:
        yield line(
            ("  next: ", "strong"),
            "say with --bundle whom to trust; without it nobody is proven to have signed",
            hang=8,
        )


def _times(number: int) -> str:
    return {0: "never", 1: "once"}.get(number, f"{number:,} times")


def _lines(torn: int) -> str:
    return "1 torn line" if torn == 1 else f"{torn:,} torn lines"


async def _show(arguments: argparse.Namespace, report: Report) -> int:
    def read(progress: Callable[[int], None]) -> Story:
        return Story.of(_watched(read_trail(arguments.file), progress))

    story = await _reading(report, f"reading {arguments.file}", read)
    if arguments.task is not None and arguments.task not in story.tasks:
        message = f"{arguments.file} has no task {arguments.task!r}; it has {len(story.tasks):,} others"
        raise Failed(Failure("no_task", without_tokens(message), "without --task all of them are shown"))
    tasks = list(story.walk(arguments.task) if arguments.call is None else _of_call(story, arguments.call))
    if arguments.call is not None and not tasks:
        message = f"{arguments.file} tells of no call {arguments.call!r}"
        raise Failed(Failure("no_call", without_tokens(message), "without --call all tasks are shown"))
    report.note("shown as it stands: `spiffe-client audit verify` says whether it was changed")
    if not tasks:
        report.note(f"no task is recorded in {arguments.file}")
    if story.nobodys and arguments.task is None and arguments.call is None:
        report.note(f"denied, and part of no task that is known: {_reasons(story)}")
    for depth, task in tasks:
        report.give(task_record(task), task_lines(task, depth))
    return Exit.FINE


def _reasons(story: Story) -> str:
    """Return why what is shown in no tree was denied, and how often."""
    most = story.nobodys.most_common(_MOST_REASONS)
    return ", ".join(f"{without_tokens(reason)[:60]} {_times(number)}" for reason, number in most)


def _of_call(story: Story, call: str) -> Iterator[tuple[int, TaskStory]]:
    """Yield the task that a call was made in, with the steps of this call alone."""
    for _, task in story.walk():
        if steps := [entry for entry in task.entries if entry.call == call]:
            yield 0, replace(task, entries=steps, children=[])


async def _draw(arguments: argparse.Namespace, report: Report) -> int:
    bundles = _bundles(arguments)
    name, output = arguments.file, arguments.output

    def draw(progress: Callable[[int], None]) -> str:
        found = None if arguments.unverified else verify_trail(name, bundles=bundles, progress=progress)
        return render_report(_watched(read_trail(name), progress), verified=found)

    page = (await _reading(report, f"reading {name}", draw)).encode()
    _write(output, page)
    report.give({"file": output, "bytes": len(page)}, [line("written: ", (output, "strong"))])
    return Exit.FINE


def _write(output: str, page: bytes) -> None:
    # A trail is not for everybody, and neither is what is drawn of it.
    with os.fdopen(
        os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb"
    ) as file:
        file.write(page)
