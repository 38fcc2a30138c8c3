"""A secret that a program prints."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from typing import Final

import anyio

from spiffe_client._frames import async_border
from spiffe_client._redact import Secret
from spiffe_client.errors import SecretSourceError
from spiffe_client.tokens._secret_sources import MAX_SECRET_BYTES, secret_of

__all__ = ["SecretCommand"]

#: That a program gets to end after it was killed.
_LAST_SECONDS: Final = 2.0
#: Between two looks at whether it has ended, from the first to the last.
_PAUSES: Final = (0.001, 0.05)
#: Nobody can say how it ended: its status was thrown away, or taken by somebody else.
_UNKNOWN_STATUS: Final = 255
#: Those that were given up, held until they end: they have to be waited for.
_UNENDING: Final[set[subprocess.Popen[bytes]]] = set()


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
        process = self._start()
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

    def _start(self) -> subprocess.Popen[bytes]:
        for process in tuple(_UNENDING):
            if _status(process) is not None:
                _UNENDING.discard(process)
        try:
            # Not by the event loop: it waits before it hands over what has begun. Whoever is cancelled there,
            # and asyncio's `Task.cancel` minds no shield, leaves behind what the program has started.
            return subprocess.Popen(  # noqa: S603 - the host says what to run
                json.loads(self._argv.reveal()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no program name"
            raise SecretSourceError(f"{self.name}: cannot be run: {reason}") from None


async def _output(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    output = bytearray()
    while len(output) <= MAX_SECRET_BYTES:
        await anyio.wait_readable(process.stdout)
        if (read := process.stdout.read(MAX_SECRET_BYTES)) == b"":
            await _ended(process)
            break
        output += read or b""
    return bytes(output)


def _status(process: subprocess.Popen[bytes]) -> int | None:
    # Not by `Popen.poll`: it takes a status that nobody knows for success.
    if process.returncode is None:
        try:
            pid, status = os.waitpid(process.pid, os.WNOHANG)
        except ChildProcessError:
            process.returncode = _UNKNOWN_STATUS
        else:
            process.returncode = os.waitstatus_to_exitcode(status) if pid else None
    return process.returncode


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Wait until it has; mostly it has, as its output has ended."""
    pause, longest = _PAUSES
    while _status(process) is None:
        await anyio.sleep(pause)
        pause = min(2 * pause, longest)


async def _end(process: subprocess.Popen[bytes], *, whole: bool) -> None:
    """Take the process away; the `whole` of what it started is killed first."""
    assert process.stdout is not None
    if whole:
        # Also if it has ended itself: what it left in the background holds its output open.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    try:
        with anyio.move_on_after(_LAST_SECONDS, shield=True):
            await _ended(process)
    finally:  # it changed its user, and cannot be killed; or nobody lets us wait
        if process.returncode is None:
            _UNENDING.add(process)
