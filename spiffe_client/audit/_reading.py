"""Reading an audit trail, line by line, however long it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from spiffe_client.audit._record import MAX_LINE_BYTES, Record, parse_record
from spiffe_client.errors import AuditError

__all__ = ["Trail", "lines_of", "read_trail"]

#: A trail: the file, or its lines, with their line feeds.
Trail: TypeAlias = "str | os.PathLike[str] | Iterable[bytes]"


def lines_of(trail: Trail) -> Iterator[bytes]:
    """Yield the lines of a trail, with their line feeds; what is too long for a line, in pieces.

    Raises:
        OSError: It cannot be read.
    """
    if not isinstance(trail, str | os.PathLike):
        yield from trail
        return
    with Path(trail).open("rb", buffering=1 << 20) as file:
        while text := file.readline(MAX_LINE_BYTES):
            yield text


def read_trail(trail: Trail) -> Iterator[Record]:
    """Yield what a trail says, nothing of which is verified: that is for `verify_trail`.

    Lines that a crash left unfinished are passed over, as the record behind them says.

    Args:
        trail: The file, or its lines.

    Raises:
        AuditError: A line is no record.
        OSError: It cannot be read.
    """
    torn: AuditError | None = None
    text = b""
    for number, text in enumerate(lines_of(trail), 1):
        try:
            record = parse_record(text.removesuffix(b"\n"), line=number)
        except AuditError as error:
            if torn is not None:
                raise torn from None
            torn = error
            continue
        if torn is not None and "torn_bytes" not in record.facts:
            raise torn
        torn = None
        yield record
    if torn is not None and text.endswith(b"\n"):
        raise torn
