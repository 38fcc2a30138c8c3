"""`spiffe-client verify`: is this chain or token good, check by check."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.bundle import parse_certificates_der, parse_certificates_pem
from spiffe_client.cli._asking import client_for
from spiffe_client.cli._evidence import Evidence, read_bundles, read_evidence
from spiffe_client.cli._exit import Exit, UsageError
from spiffe_client.cli._lines import Line, line
from spiffe_client.cli._reading import mention_waiting
from spiffe_client.cli._report import Report, timestamp
from spiffe_client.errors import SpiffeError, X509SvidError
from spiffe_client.ids import SpiffeId
from spiffe_client.svid import Check, JwtSvid, examine_jwt_svid, examine_x509_svid, leaf_id

__all__ = ["run"]

Kind: TypeAlias = Literal["x509_svid", "jwt_svid"]

_HANG = 23
_COMMAND = "spiffe-client verify"
#: How many checks there are if none is left out because of another that failed.
_ALL: Mapping[Kind, int] = {"x509_svid": 19, "jwt_svid": 14}
_TOO_LATE = "have a new one issued; or is this machine's clock wrong? --at judges as of another time"
#: What to do about a check that failed, whatever the bundle.
_NEXT: Mapping[str, str] = {
    "dates": _TOO_LATE,
    "in_time": _TOO_LATE,
    "for_us": "who sent it has to ask for one for this audience; or say with --audience who you are",
}


@dataclass(frozen=True, slots=True)
class _Verdict:
    kind: Kind
    checks: Sequence[Check]
    #: Whom it claims to be about, if it can be read at all; nobody has proven it if a check fails.
    claimed: str | None
    #: Whether it was judged by bundles from files.
    by_files: bool

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def advice(self) -> str:
        """What to do next about the first failed check for which that is clear."""
        broken = (check.name for check in self.checks if not check.ok)
        said = (self._advice_on(name) for name in broken)
        return next(filter(None, said), "")

    def _advice_on(self, name: str) -> str:
        if name in ("signed", "signature", "bundle"):
            return "" if self.claimed is None else self._about_bundle(name)
        return _NEXT.get(name, "")

    def _about_bundle(self, name: str) -> str:
        domain = SpiffeId.parse(str(self.claimed)).trust_domain
        if name == "bundle":
            option = f"give --bundle {domain}=FILE"
            return option if self.by_files else f"federate with {domain}, or {option}"
        if self.by_files:
            return (
                f"the bundle may be old, or of another trust domain of this name: where {domain} is trusted, "
                f"`spiffe-client bundles --document --trust-domain {domain}` prints the current one"
            )
        return f"it may be of another trust domain of this name, or older than the authorities of {domain}: ask for a new one"


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """Judge one file."""
    at = _moment(arguments.at)
    mention_waiting(arguments.file, report)
    evidence = await read_evidence(arguments.file)
    judge = _judge_token if evidence.kind == "jwt" else _judge_chain
    verdict = await judge(evidence, arguments, at, report)
    report.give(_record(verdict, at), _lines(verdict))
    return Exit.FINE if verdict.ok else Exit.FAILED


def _moment(text: str | None) -> datetime:
    if text is None:
        return SYSTEM_CLOCK.now()
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):  # not a date, or beyond the calendar in UTC
        pass
    raise UsageError(f"--at {text!r} is no moment; write it like 2026-11-21T23:36:17Z", command=_COMMAND)


def _noting(report: Report) -> Callable[[SpiffeError], None]:
    return lambda error: report.note(f"left out: {error}")


async def _judge_chain(
    evidence: Evidence, arguments: argparse.Namespace, at: datetime, report: Report
) -> _Verdict:
    if arguments.audience is not None:
        raise UsageError("--audience is for a JWT-SVID, and this is a certificate chain", command=_COMMAND)
    parse = parse_certificates_pem if evidence.kind == "pem" else parse_certificates_der
    chain = parse(evidence.content, error=X509SvidError)
    bundles = read_bundles(arguments.bundle).x509
    if bundles is None:
        with report.working("asking the Workload API"):
            bundles = await client_for(arguments).fetch_x509_bundles(refused=_noting(report))
    try:
        claimed = str(leaf_id(chain[0]))
    except X509SvidError:
        claimed = None
    return _Verdict("x509_svid", examine_x509_svid(chain, bundles, at=at), claimed, bool(arguments.bundle))


async def _judge_token(
    evidence: Evidence, arguments: argparse.Namespace, at: datetime, report: Report
) -> _Verdict:
    if not arguments.audience:
        raise UsageError(
            "a JWT-SVID is judged for somebody: say who accepts it with --audience", command=_COMMAND
        )
    token = evidence.content.decode()
    bundles = read_bundles(arguments.bundle, jwt=True).jwt
    if bundles is None:
        with report.working("asking the Workload API"):
            bundles = await client_for(arguments).fetch_jwt_bundles(refused=_noting(report))
    try:
        claimed = str(JwtSvid.parse_unverified(token).id)
    except SpiffeError:
        claimed = None
    checks = examine_jwt_svid(token, bundles, audience=arguments.audience, at=at)
    return _Verdict("jwt_svid", checks, claimed, bool(arguments.bundle))


def _record(verdict: _Verdict, at: datetime) -> dict[str, object]:
    return {
        "type": verdict.kind,
        "ok": verdict.ok,
        "id": verdict.claimed if verdict.ok else None,
        "claimed_id": verdict.claimed,
        "at": timestamp(at),
        "checks": [
            {"name": c.name, "section": c.section, "ok": c.ok, "detail": c.detail} for c in verdict.checks
        ],
        "advice": verdict.advice,
    }


def _lines(verdict: _Verdict) -> Iterator[Line]:
    for check in verdict.checks:
        mark = line(("✓ ", "good")) if check.ok else line(("✗ ", "bad"))
        name = line(f"{check.name:<20} ", check.detail, (f"  {check.section}", "faint"))
        yield Line(mark.parts + name.parts, _HANG)
    if verdict.ok:
        yield line(("good: ", "good"), (verdict.claimed or "", "name"))
    else:
        broken = sum(not check.ok for check in verdict.checks)
        left_out = len(verdict.checks) < _ALL[verdict.kind]
        behind = ", those that need them were not made" if left_out else ""
        yield line(("refused: ", "bad"), f"{broken} of {len(verdict.checks)} checks failed{behind}", hang=9)
        if verdict.advice:
            yield line(("next: ", "strong"), verdict.advice, hang=6)
