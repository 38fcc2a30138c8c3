"""An error as a person or a script gets to see it: what happened, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from spiffe_client.cli._advice import ASK_THE_SYSTEM, advice_on, in_options
from spiffe_client.cli._lines import without_tokens

if TYPE_CHECKING:
    from spiffe_client.errors import SpiffeError

__all__ = ["Failed", "Failure", "failure_of", "told"]

_MEND_THE_PATH = "is that the right path, and may this user read it?"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer.

    Attributes:
        code: Stable, snake_case; the error's own where it is one of ours.
        message: What happened, to what.
        advice: What to do next.
    """

    code: str
    message: str
    advice: str


class Failed(Exception):  # noqa: N818 - an error by which its border says what to do next
    """There is no answer, and who noticed knows better what to do next than the error's code says.

    Attributes:
        failure: What to say.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def told(error: BaseException) -> str:
    """Return the message of an error of ours, without tokens and in the words of the command line."""
    return in_options(without_tokens(str(error)))


def failure_of(error: BaseException, command: str = "") -> Failure:
    """Say what an error means. Never shows the text of an error that is not ours to know.

    Args:
        error: What happened.
        command: Which one met it, such as `jwt`: advice is in its options.
    """
    from spiffe_client.errors import SpiffeError, find

    if isinstance(error, Failed):
        return error.failure
    known = find(error, SpiffeError)
    if known is not None:
        return _of_ours(known, command)
    refused = find(error, OSError)
    if refused is not None:
        where = f"{refused.filename}: " if refused.filename else ""
        message = f"{without_tokens(where)}{refused.strerror or type(refused).__name__}"
        return Failure("os_error", message, _MEND_THE_PATH if where else ASK_THE_SYSTEM)
    return Failure(
        "internal_error",
        f"{type(error).__name__} {_place(error)}",
        "this is a bug of spiffe-client: please report it with this line",
    )


def _of_ours(error: SpiffeError, command: str) -> Failure:
    from spiffe_client.errors import (
        FirstUpdateTimeoutError,
        SpiffeError,
        TokenBrokerUnavailableError,
        UnavailableError,
    )

    # Why a first update did not come says what to do better than that it did not.
    reason = error.__cause__ if isinstance(error, FirstUpdateTimeoutError) else error
    code = reason.code if isinstance(reason, SpiffeError) else ""
    kind = reason.cause_kind if isinstance(reason, UnavailableError) else ""
    advice = advice_on(code, command, unavailable=kind)
    if isinstance(reason, TokenBrokerUnavailableError):
        from spiffe_client.cli._broker_trouble import trouble_with

        _, advice = trouble_with(reason) or ("", advice)
    return Failure(error.code, " ".join(told(error).split()), advice)


def _place(error: BaseException) -> str:
    """Where it happened: the message may hold anything, the place holds nothing secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "(nowhere)"
    return f"in {PurePath(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}"
