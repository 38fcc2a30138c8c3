"""What commands are given to read: files and standard input, bounded; tokens never from the command line."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio

from spiffe_client._frames import async_border
from spiffe_client._redact import Secret
from spiffe_client.cli._exit import UsageError
from spiffe_client.errors import SvidError, TokenRequestError

if TYPE_CHECKING:
    from io import BufferedReader

    from spiffe_client.cli._report import Report

__all__ = ["mention_waiting", "read_file", "read_input", "read_token", "refuse_token"]

#: Larger files are refused unparsed: no chain, token or bundle comes near it.
MAX_FILE_BYTES = 2 << 20
_PIECE = 1 << 16

_LOOKS_LIKE_A_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]*\.")
#: One token and nothing else.
_TOKEN = re.compile(rb"[\x21-\x7e]+")


def mention_waiting(name: str | None, report: Report) -> None:
    """Say at a terminal that standard input is read, if it is: nothing else would show what is waited for."""
    if name == "-" and sys.stdin.isatty():
        report.note("reading standard input, until Ctrl-D")


def refuse_token(word: str, *, command: str) -> None:
    """Refuse a token in place of the name of its file.

    Raises:
        UsageError: It is one.
    """
    if _LOOKS_LIKE_A_TOKEN.match(word):
        raise UsageError(
            "every process can see a token on the command line: put it in a file or pipe it in",
            command=command,
        )


@async_border
async def read_token(name: str, *, command: str) -> Secret[str]:
    """Read a token from a file, or from standard input for `-`; white space around it does not count.

    Raises:
        UsageError: The token itself was given in place of a file.
        TokenRequestError: There is none in it.
        OSError: It cannot be read.
    """
    refuse_token(name, command=command)
    content = await read_input() if name == "-" else read_file(name, command=command)
    token = content.strip()
    if not _TOKEN.fullmatch(token):
        shown = "standard input" if name == "-" else name
        raise TokenRequestError(f"{shown} holds no token: one word is expected ({len(content)} bytes)")
    return Secret(token.decode())


def read_file(name: str, *, command: str) -> bytes:
    """Read a file.

    Raises:
        UsageError: It is no file name.
        SvidError: It is too large.
        OSError: It cannot be read.
    """
    try:
        with Path(name).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except ValueError as error:  # a NUL in it
        raise UsageError(f"{name!r} is no file name: {error}", command=command) from error
    return _bounded(content, name)


async def read_input() -> bytes:
    """Read standard input to its end without blocking the loop, which also looks after Ctrl-C.

    Raises:
        SvidError: It is too large.
    """
    content = b""
    while len(content) <= MAX_FILE_BYTES:
        with suppress(OSError, ValueError):  # a regular file, which never blocks, cannot be waited for
            await anyio.wait_readable(sys.stdin)
        piece = cast("BufferedReader", sys.stdin.buffer).read1(_PIECE)
        if not piece:
            break
        content += piece
    return _bounded(content, "standard input")


def _bounded(content: bytes, shown: str) -> bytes:
    if len(content) > MAX_FILE_BYTES:
        raise SvidError(f"{shown} is larger than {MAX_FILE_BYTES >> 20} MiB: it is read no further")
    return content
