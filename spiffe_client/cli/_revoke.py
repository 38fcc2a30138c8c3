"""`spiffe-client revoke`: have a token broker take a token back, and see whether it did."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

from spiffe_client._clock import SYSTEM_CLOCK
from spiffe_client.cli._asking_broker import check_broker, open_broker, somebodys
from spiffe_client.cli._exit import Exit
from spiffe_client.cli._failure import failure_of
from spiffe_client.cli._lines import Line, line
from spiffe_client.cli._reading import mention_waiting, read_token
from spiffe_client.cli._report import Report, timestamp
from spiffe_client.tokens import Revocation, RevocationOutcome

__all__ = ["run"]

#: What each outcome means, and what to do.
_MEANING: Mapping[RevocationOutcome, tuple[str, str]] = {
    "revoked": ("it was active, and is not any more", ""),
    "unknown": (
        "the token broker took the request, and that proves nothing (RFC 7009 §2.2)",
        "it cannot say whether the token was active before, or it was not: expired, revoked, unknown there",
    ),
    "unsupported_token_type": (
        "the token broker cannot revoke tokens of this kind",
        "it lives until it expires; have short lives configured there",
    ),
    "failed": ("it is as it was", "try again; until then it lives until it expires"),
}


async def run(arguments: argparse.Namespace, report: Report) -> int:
    """Ask once; what is not proven to be revoked is an answer that is no."""
    check_broker(arguments)
    mention_waiting(arguments.file, report)
    token = await read_token(arguments.file, command="spiffe-client revoke")
    with report.working(f"asking {arguments.token_broker}"):
        async with open_broker(arguments) as broker:
            done = await broker.revoke(somebodys(token, broker))
    report.give(_record(done, arguments.token_broker), _lines(done))
    return Exit.FINE if done.outcome == "revoked" else Exit.FAILED


def _judged(done: Revocation) -> tuple[str, str, str]:
    """Return error code, message and advice."""
    meaning, advice = _MEANING[done.outcome]
    if done.error is None:
        return "", meaning, advice
    failure = failure_of(done.error, "revoke")
    return failure.code, failure.message, advice if done.outcome != "failed" else failure.advice


def _record(done: Revocation, broker: str) -> dict[str, object]:
    code, message, advice = _judged(done)
    return {
        "time": timestamp(SYSTEM_CLOCK.now()),
        "token_broker": broker,
        "fingerprint": done.fingerprint,
        "outcome": done.outcome,
        "detail": message,
        "code": code,
        "advice": advice,
    }


def _lines(done: Revocation) -> Iterator[Line]:
    _, message, advice = _judged(done)
    if done.outcome == "revoked":
        yield line(("revoked: ", "good"), f"{done.fingerprint}…, {message}", hang=9)
        return
    label = {"unknown": "not proven: ", "unsupported_token_type": "not possible: "}.get(
        done.outcome, "failed: "
    )
    yield line((label, "bad"), f"{done.fingerprint}…, {message}", hang=len(label))
    yield line(("next: ", "strong"), advice, hang=6)
