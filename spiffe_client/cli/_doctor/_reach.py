"""Steps of `doctor` from an address to a Workload API that answers as it must."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio

from spiffe_client._grpc import Status, StatusError, server_stream
from spiffe_client.cli._doctor._patient import Ailment, Found, Patient
from spiffe_client.cli._failure import failure_of
from spiffe_client.errors import EndpointError, ProtocolError, UnavailableError
from spiffe_client.workload_api import ENDPOINT_VARIABLE, Endpoint
from spiffe_client.workload_api._connect import connect

__all__ = ["look_at_endpoint", "look_at_header", "look_at_socket"]

_METHOD = "/SpiffeWorkloadAPI/FetchX509SVID"


async def look_at_endpoint(patient: Patient) -> Found:
    """Where is the Workload API said to be (Workload Endpoint §4)?"""
    if patient.address is not None:
        patient.endpoint, source = Endpoint.parse(patient.address), "--socket"
    else:
        patient.endpoint, source = _from_environment(patient.advice), ENDPOINT_VARIABLE
    return Found(f"{patient.endpoint}, says {source}", {"endpoint": str(patient.endpoint), "source": source})


def _from_environment(advice: str) -> Endpoint:
    try:
        return Endpoint.from_environment(os.environ)
    except EndpointError as error:
        raise Ailment(str(error), code=error.code, advice=advice) from error


async def look_at_socket(patient: Patient) -> Found:
    """Is there something that this user can connect to?"""
    try:
        with anyio.fail_after(patient.timeout):
            stream = await connect(patient.endpoint)
    except TimeoutError:
        raise UnavailableError(
            f"no connection to {patient.endpoint} within {patient.timeout:g} s", cause_kind="timed_out"
        ) from None
    except UnavailableError as error:
        if error.cause_kind == "forbidden":
            where, advice = _barrier(patient.endpoint.path)
            raise Ailment(f"{error}; {where}", code="socket_forbidden", advice=advice) from error
        raise
    await stream.aclose()
    return _listening(patient.endpoint)


def _listening(endpoint: Endpoint) -> Found:
    if endpoint.kind == "unix":
        with suppress(OSError):  # it went in the meantime
            about = Path(endpoint.path).stat()
            mode = f"{stat.S_IMODE(about.st_mode):o}"
            return Found(
                f"somebody listens there; owned by uid {about.st_uid}, mode {mode}",
                {"uid": about.st_uid, "mode": mode},
            )
    return Found("somebody listens there")


def _barrier(path: str) -> tuple[str, str]:
    """Find what keeps this user from the socket, and how to lift it."""
    folders = [p for p in reversed(Path(path).parents) if not os.access(p, os.X_OK)]
    for folder in folders[:1]:
        with suppress(OSError):
            about = folder.stat()
            return (
                f"the folder {folder} (uid {about.st_uid}, mode {stat.S_IMODE(about.st_mode):o}) keeps uid {os.getuid()} out",
                f"let this user enter it (chmod o+x {folder}), or run as uid {about.st_uid}",
            )
    return (
        f"uid {os.getuid()} may not write to it",
        "have the agent's socket opened to this user, or run as one who may",
    )


async def look_at_header(patient: Patient) -> Found:
    """Are requests without the mandatory header refused (Workload Endpoint §3)?"""
    try:
        stream = server_stream(
            partial(connect, patient.endpoint), _METHOD, b"", timeout_first=patient.timeout, keepalive=None
        )
        async with stream as messages:
            async for _ in messages:
                break
    except StatusError as error:
        return _judge_status(error)
    except ProtocolError as error:
        raise Ailment(
            f"what listens there does not speak the Workload API: {error}",
            code=error.code,
            advice="it is no gRPC server: say the address of the agent's socket, this is that of something else",
            vital=True,
        ) from error
    except UnavailableError as error:
        # Who does not answer this does not answer the next question, either.
        raise Ailment(
            str(error), code=error.code, advice=failure_of(error, "doctor").advice, vital=True
        ) from error
    raise Ailment(
        "the Workload API answers requests without the header workload.spiffe.io",
        code="header_not_demanded",
        advice="report it to who makes the agent: a service here that can be tricked into a request gives away keys",
    )


def _judge_status(error: StatusError) -> Found:
    if error.status == Status.INVALID_ARGUMENT:
        return Found("a request without workload.spiffe.io is refused, as it must be")
    # Refused all the same, for a reason that is looked at next.
    name = error.status.name if isinstance(error.status, Status) else str(error.status)
    return Found(f"a request without workload.spiffe.io is refused ({name})")
