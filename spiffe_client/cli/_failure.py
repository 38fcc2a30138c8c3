"""An error as a person or a script gets to see it: what happened, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from spiffe_client.cli._lines import without_tokens

if TYPE_CHECKING:
    from spiffe_client.errors import SpiffeError

__all__ = ["Failed", "Failure", "failure_of"]

_LOOK_CLOSER = "`spiffe-client doctor` looks closer"
_MEND_THE_PATH = "is that the right path, and may this user read it?"
_ASK_THE_SYSTEM = "the operating system has refused; if it does so again, its log may say why"
_NEXT = {
    "access_denied": "ask whoever runs the agent why this process is refused; its log says more",
    "bundle_invalid": "get the bundle anew from who publishes it; `spiffe-client verify --help` lists the forms it may have",
    "bundle_not_found": "federate with this trust domain, or name its bundle with --bundle TRUST-DOMAIN=FILE",
    "endpoint_invalid": "say another address with --socket (or SPIFFE_ENDPOINT_SOCKET)",
    "identity_unavailable": _LOOK_CLOSER,
    "invalid_audience": "name whom the token is for",
    "invalid_id": "a SPIFFE ID looks like spiffe://trust-domain/path",
    "invalid_request": "mend what the message names; if nothing is wrong with it, the agent's log says more",
    "jwt_svid_invalid": "nobody will accept it: the agent's log may say why it is issued like this",
    "no_identity_issued": "register this process with the issuer (its user, path or pod), then ask again",
    "protocol_error": "is this the Workload API's socket, and not that of something else?",
    "registration_invalid": "`spiffe-client dev --help` shows an example",
    "stale": _LOOK_CLOSER,
    "svid_invalid": "give a certificate chain (PEM or DER, leaf first) or a JWT-SVID",
    "unavailable": f"is the agent running? {_LOOK_CLOSER}",
    "unexpected_status": "the agent's log says more",
    "unimplemented": "this agent does not offer it; update the agent or use another command",
    "x509_svid_invalid": f"nobody will accept it; {_LOOK_CLOSER}",
}
_NEXT_WHEN_UNAVAILABLE = {
    "missing": "start the agent, or point --socket to where its socket is",
    "forbidden": "run as a user who may reach the socket, or have its folders opened to this one",
    "not_a_socket": "point --socket to the agent's socket; this is something else",
    "busy": "the agent does not accept connections: look at its load and its log",
    "refused": "start the agent, or point --socket to where it listens",
    "timed_out": "the agent is there and too slow: look at its load and log, or give it more with --timeout",
}


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


def failure_of(error: BaseException) -> Failure:
    """Say what an error means. Never shows the text of an error that is not ours to know."""
    from spiffe_client.errors import SpiffeError, find

    if isinstance(error, Failed):
        return error.failure
    known = find(error, SpiffeError)
    if known is not None:
        return _of_ours(known)
    refused = find(error, OSError)
    if refused is not None:
        where = f"{refused.filename}: " if refused.filename else ""
        message = f"{without_tokens(where)}{refused.strerror or type(refused).__name__}"
        return Failure("os_error", message, _MEND_THE_PATH if where else _ASK_THE_SYSTEM)
    return Failure(
        "internal_error",
        f"{type(error).__name__} {_place(error)}",
        "this is a bug of spiffe-client: please report it with this line",
    )


def _of_ours(error: SpiffeError) -> Failure:
    from spiffe_client.errors import FirstUpdateTimeoutError, SpiffeError, UnavailableError

    # Why a first update did not come says what to do better than that it did not.
    reason = error.__cause__ if isinstance(error, FirstUpdateTimeoutError) else error
    advice = _NEXT.get(reason.code, _LOOK_CLOSER) if isinstance(reason, SpiffeError) else _LOOK_CLOSER
    if isinstance(reason, UnavailableError):
        advice = _NEXT_WHEN_UNAVAILABLE.get(reason.cause_kind, advice)
    return Failure(error.code, " ".join(without_tokens(str(error)).split()), advice)


def _place(error: BaseException) -> str:
    """Where it happened: the message may hold anything, the place holds nothing secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "(nowhere)"
    return f"in {PurePath(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}"
