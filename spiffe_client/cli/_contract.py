"""`spiffe-client contract`: what agents may do, for those who review it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.cli._contract_lines import contract_lines
from spiffe_client.cli._exit import Exit
from spiffe_client.cli._lines import Line, Style, line, naming
from spiffe_client.cli._report import Report
from spiffe_client.errors import ContractError
from spiffe_client.policy import Change, Contract, Finding, diff, lint, lint_delegations, load_contract

__all__ = ["run"]

_MARKS: Mapping[str, tuple[str, Style]] = {"error": ("✗", "bad"), "warning": ("!", "strong")}


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """Check, show or compare."""
    if arguments.action == "check":
        return _check(arguments, report)
    return _show(arguments, report) if arguments.action == "show" else _diff(arguments, report)


def _now(arguments: argparse.Namespace) -> datetime:
    at: datetime | None = arguments.at
    return SYSTEM_CLOCK.now() if at is None else at


def _check(arguments: argparse.Namespace, report: Report) -> int:
    at = _now(arguments)
    contracts: dict[str, Contract] = {}
    findings: dict[str, list[Finding]] = {}
    for name in dict.fromkeys(arguments.files):
        try:
            contracts[name] = load_contract(name)
            findings[name] = lint(contracts[name], at=at)
        except ContractError as error:
            findings[name] = [_broken(name, error)]
    for name, between in lint_delegations(contracts).items():
        findings[name] += between
    for name, found in findings.items():
        contract = contracts.get(name)
        report.give(_check_record(name, contract, found), _check_lines(name, contract, found))
    worst = {finding.severity for found in findings.values() for finding in found}
    return Exit.FAILED if "error" in worst or (arguments.strict and worst) else Exit.FINE


def _broken(name: str, error: ContractError) -> Finding:
    # File and key are said beside it.
    message = str(error).removeprefix(f"{name}: ").removeprefix(f"{error.path}: ")
    return Finding(error.path, "error", message)


def _check_record(name: str, contract: Contract | None, found: Sequence[Finding]) -> dict[str, object]:
    return {
        "file": name,
        "ok": all(finding.severity != "error" for finding in found),
        "id": "" if contract is None else str(contract.agent.id),
        "digest": "" if contract is None else contract.digest,
        "findings": [{"path": f.path, "severity": f.severity, "message": f.message} for f in found],
    }


def _check_lines(name: str, contract: Contract | None, found: Sequence[Finding]) -> Iterator[Line]:
    mark: tuple[str, Style] = ("✗", "bad") if any(f.severity == "error" for f in found) else ("✓", "good")
    about = "" if contract is None else f": {contract.agent.id}, {_actions(contract)}"
    yield line(mark, " ", (name, "strong"), *naming(about, "plain"), hang=2)
    for finding in found:
        path = f"{finding.path}: " if finding.path else ""
        yield line("  ", _MARKS[finding.severity], " ", (path, "name"), finding.message, hang=4)


def _actions(contract: Contract) -> str:
    count = len(contract.actions)
    return f"{count} action{'' if count == 1 else 's'}"


def _show(arguments: argparse.Namespace, report: Report) -> int:
    contract = load_contract(arguments.file)
    record = {"digest": contract.digest, "contract": contract.to_dict()}
    report.give(record, contract_lines(contract, _now(arguments)))
    return Exit.FINE


def _diff(arguments: argparse.Namespace, report: Report) -> int:
    old, new = load_contract(arguments.old), load_contract(arguments.new)
    changes = diff(old, new)
    wider = [change for change in changes if change.widens]
    record = {
        "id": str(new.agent.id),
        "old_digest": old.digest,
        "new_digest": new.digest,
        "widens": bool(wider),
        "changes": [
            {"path": c.path, "kind": c.kind, "message": c.message, "widens": c.widens} for c in changes
        ],
    }
    report.give(record, _diff_lines(new, changes, wider))
    return Exit.FAILED if wider and arguments.fail_on_widening else Exit.FINE


def _diff_lines(new: Contract, changes: Sequence[Change], wider: Sequence[Change]) -> Iterator[Line]:
    yield line(*naming(str(new.agent.id), "plain"))
    if not changes:
        yield line("  no difference")
        return
    if wider:
        yield line("  ", ("it may do more", "bad"))
        yield from _change_lines(wider, "bad")
    rest = [change for change in changes if not change.widens]
    if rest:
        yield line("  ", ("also changed" if wider else "it may do no more than before", "good"))
        yield from _change_lines(rest, "plain")


def _change_lines(changes: Iterable[Change], style: Style) -> Iterator[Line]:
    signs = {"adds": "+", "removes": "-", "changes": "~"}
    for change in changes:
        yield line(
            "    ", (signs[change.kind], style), " ", (change.path, "name"), f": {change.message}", hang=6
        )
