"""An approver at the terminal: shows what is asked, and wants a code that only this question has."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import socket
from datetime import UTC
from typing import Final, TextIO

import anyio
import anyio.to_thread

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.policy._approval import Approval, ApprovalRequest
from spiffe_client.policy._visible import visible

__all__ = ["TerminalApprover"]

#: Without those that look like others.
_LETTERS: Final = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
_CODE_LENGTH: Final = 4
_MAX_LINE: Final = 1024
#: Characters of the arguments that are shown.
_LONGEST_ARGUMENTS: Final = 4100


class TerminalApprover:
    """Asks whoever sits at the terminal, one question at a time.

    What an agent's model chose is shown on one line each, with controls, escape sequences and
    look-alike letters written out. To say yes one types a code that is new for each question: what was
    typed before the question was shown, or for one that is over, approves nothing.

    Args:
        terminal: The terminal's device.
        read: Where to read lines in its place, such as `sys.stdin`; together with `write`. A line is
            waited for in a thread, which goes on waiting after the deadline.
        write: Where to ask.
        name: Who says yes; empty for `user`.
        clock: For when.

    Raises:
        ValueError: One of `read` and `write` was given without the other.
    """

    def __init__(
        self,
        *,
        terminal: str = "/dev/tty",
        read: TextIO | None = None,
        write: TextIO | None = None,
        name: str = "user",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if (read is None) != (write is None):
            raise ValueError("TerminalApprover takes both read and write, or neither")
        self._terminal = terminal
        self._streams = None if read is None or write is None else (read, write)
        self._name = name
        self._clock = clock
        self._turn = anyio.Lock()

    async def approve(self, request: ApprovalRequest) -> Approval | None:
        """See `Approver.approve`.

        Raises:
            OSError: There is no terminal.
        """
        async with self._turn:
            code = "".join(secrets.choice(_LETTERS) for _ in range(_CODE_LENGTH))
            prompt = prompt_of(request, code)
            if self._streams is None:
                line = await _ask_terminal(self._terminal, prompt)
            else:
                line = await anyio.to_thread.run_sync(
                    _ask_streams, *self._streams, prompt, abandon_on_cancel=True
                )
        yes = line.strip().upper() == code
        return request.approve(by=self._name, clock=self._clock) if yes else None


def prompt_of(request: ApprovalRequest, code: str) -> str:
    """Return what is shown: one fact a line, nothing hidden."""
    until = request.expires_at.astimezone(UTC)
    lines = [
        "",
        f"Approval wanted by {visible(str(request.agent), ascii_only=True)}",
        f"  what      {visible(request.text)}",
        f"  action    {visible(request.action, ascii_only=True)}",
        f"  resource  {visible(request.resource, ascii_only=True)}",
        f"  tenant    {visible(request.tenant, ascii_only=True)}",
        f"  purpose   {visible(request.purpose)}",
        f"  arguments {visible(request.shown, longest=_LONGEST_ARGUMENTS) or '(none)'}",
        f"  digest    {visible(request.arguments, ascii_only=True)}",
        f"  until     {until:%Y-%m-%d %H:%M:%S} UTC",
        f"Type {code} to allow it once; anything else refuses: ",
    ]
    return "\n".join(lines)


def _ask_streams(read: TextIO, write: TextIO, prompt: str) -> str:
    write.write(prompt)
    write.flush()
    return read.readline(_MAX_LINE)


async def _ask_terminal(terminal: str, prompt: str) -> str:
    """Ask on a terminal; cancelled, the thread that waits for the line ends, so that it takes no later one."""
    answer: str | OSError = ""
    stop, stopped = socket.socketpair()
    with stop, stopped:
        async with anyio.create_task_group() as group:
            group.start_soon(_stop_when_cancelled, stop)
            answer = await anyio.to_thread.run_sync(_converse, terminal, prompt, stopped)
            group.cancel_scope.cancel()
    if isinstance(answer, OSError):
        raise answer
    return answer


async def _stop_when_cancelled(stop: socket.socket) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        stop.shutdown(socket.SHUT_RDWR)


def _converse(terminal: str, prompt: str, stopped: socket.socket) -> str | OSError:
    try:
        with open(terminal, "r+b", buffering=0) as tty:  # noqa: PTH123 - a device, unbuffered
            _forget_typed(tty.fileno())
            tty.write(prompt.encode(errors="backslashreplace"))
            # select, as it takes terminals on every system; poll and kqueue do not.
            ready, _, _ = select.select([tty.fileno(), stopped.fileno()], [], [])
            if stopped.fileno() in ready:
                return ""
            return os.read(tty.fileno(), _MAX_LINE).decode(errors="replace")
    except OSError as error:
        return error


def _forget_typed(descriptor: int) -> None:
    with contextlib.suppress(ImportError):
        import termios

        termios.tcflush(descriptor, termios.TCIFLUSH)
