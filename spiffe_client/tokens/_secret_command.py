"""A secret that a program prints."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from spiffe_client._frames import async_border
from spiffe_client._redact import Secret
from spiffe_client.errors import SecretSourceError
from spiffe_client.tokens._secret_sources import MAX_SECRET_BYTES, secret_of

if TYPE_CHECKING:
    from anyio.abc import Process

__all__ = ["SecretCommand"]

#: That a program gets to end after it was killed.
_LAST_SECONDS: Final = 2.0
#: Those that did not, held until they do: they have to be waited for.
_UNENDING: Final[list[Process]] = []


@dataclass(frozen=True, slots=True, init=False)
class SecretCommand:
    """A secret that a program prints; no shell is involved.

    It reads nothing, and what it writes to its standard error is thrown away: it might be the secret.

    Its arguments may be secrets too and are not shown.

    Args:
        argv: The program and its arguments.
        timeout: Seconds it may take; then it and what it started are killed.

    Attributes:
        program: The program.
        timeout: As above.

    Raises:
        SecretSourceError: There is no program, or an argument is not text.
    """

    program: str
    timeout: float
    _argv: Secret[str] = field(repr=False)

    def __init__(self, *argv: str, timeout: float = 10.0) -> None:
        if not argv:
            raise SecretSourceError("SecretCommand() needs a program to run")
        if not all(isinstance(argument, str) for argument in argv):
            raise SecretSourceError("SecretCommand() takes a program and arguments as text")
        object.__setattr__(self, "program", argv[0])
        object.__setattr__(self, "timeout", timeout)
        object.__setattr__(self, "_argv", Secret(json.dumps(argv)))

    @property
    def key(self) -> tuple[str, ...]:
        """See `SecretSource.key`; all arguments count."""
        return ("command", hashlib.sha256(self._argv.reveal().encode()).hexdigest())

    @property
    def name(self) -> str:
        """See `SecretSource.name`; without the arguments."""
        return f"command {self.program}"

    @async_border
    async def read(self) -> Secret[str]:
        """See `SecretSource.read`."""
        process = await self._start()
        output: bytes | None = None
        try:
            with anyio.move_on_after(self.timeout):
                output = await _output(process)
        finally:
            await _end(process, whole=output is None or len(output) > MAX_SECRET_BYTES)
        if output is None:
            raise SecretSourceError(f"{self.name}: did not end within {self.timeout:g} s")
        if process.returncode != 0 and len(output) <= MAX_SECRET_BYTES:
            raise SecretSourceError(f"{self.name}: ended with status {process.returncode}")
        return secret_of(output, self.name)

    async def _start(self) -> Process:
        _UNENDING[:] = [process for process in _UNENDING if process.returncode is None]
        process: Process | None = None
        try:
            # Shielded: one that has begun is to be at hand, or nobody ends what it starts.
            with anyio.CancelScope(shield=True):
                process = await anyio.open_process(
                    json.loads(self._argv.reveal()),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no program name"
            raise SecretSourceError(f"{self.name}: cannot be run: {reason}") from None
        assert process is not None  # nobody cancels the shield
        return process


async def _output(process: Process) -> bytes:
    assert process.stdout is not None
    output = bytearray()
    with contextlib.suppress(anyio.EndOfStream):
        while len(output) <= MAX_SECRET_BYTES:
            output += await process.stdout.receive()
    if len(output) <= MAX_SECRET_BYTES:
        await process.wait()
    return bytes(output)


async def _end(process: Process, *, whole: bool) -> None:
    """Take the process away; the `whole` of what it started is killed first."""
    if whole:
        # Also if it has ended itself: what it left in the background holds its output open.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with anyio.move_on_after(_LAST_SECONDS, shield=True):
        await process.wait()
    with anyio.CancelScope(shield=True):
        if process.returncode is not None:
            await process.aclose()
        else:  # it changed its user, and cannot be killed: closing it would wait for ever
            assert process.stdout is not None
            await process.stdout.aclose()
            _UNENDING.append(process)
