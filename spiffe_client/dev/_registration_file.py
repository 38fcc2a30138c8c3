"""The file format of registrations, shown at `Registrations`: typed tables, every mistake located."""

from __future__ import annotations

import tomllib

import msgspec

from spiffe_client.dev._registration import Registration, Selectors
from spiffe_client.errors import InvalidIdError, RegistrationError
from spiffe_client.ids import SpiffeId, TrustDomain

__all__ = ["MAX_FILE_BYTES", "read_entries"]

#: Larger files are refused unread.
MAX_FILE_BYTES = 1024 * 1024


class _SelectorTable(msgspec.Struct, forbid_unknown_fields=True):
    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    path: str | None = None


class _EntryTable(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    selectors: _SelectorTable | None = None
    any: bool = False
    ttl: float | None = None
    hint: str = ""
    dns_names: tuple[str, ...] = ()
    federates_with: tuple[str, ...] | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    entry: tuple[_EntryTable, ...] = ()


def _registration(table: _EntryTable, where: str) -> Registration:
    chosen = table.selectors or _SelectorTable()
    domains = table.federates_with
    try:
        return Registration(
            id=SpiffeId.parse(table.id),
            selectors=Selectors(
                any_caller=table.any, uid=chosen.uid, gid=chosen.gid, pid=chosen.pid, path=chosen.path
            ),
            ttl=table.ttl,
            hint=table.hint,
            dns_names=table.dns_names,
            federates_with=None if domains is None else frozenset(map(TrustDomain.parse, domains)),
            where=where,
        )
    except (InvalidIdError, RegistrationError) as error:
        raise RegistrationError(f"{where} ({table.id[:200]}): {error}") from error


def read_entries(text: bytes, name: str) -> tuple[Registration, ...]:
    """Read registrations from the text of a TOML file.

    Args:
        text: UTF-8, at most 1 MiB.
        name: What to call the file in messages.

    Raises:
        RegistrationError: It is malformed; the message names the line or the entry and field.
    """
    if len(text) > MAX_FILE_BYTES:
        raise RegistrationError(f"{name}: larger than {MAX_FILE_BYTES} bytes")
    try:
        # ValueError: not UTF-8, not TOML (with line and column), or a number beyond all measure.
        document = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise RegistrationError(f"{name}: not TOML: {error}") from error
    try:
        tables = msgspec.convert(document, _File).entry
    except msgspec.ValidationError as error:
        raise RegistrationError(f"{name}: {error}") from error
    return tuple(_registration(table, f"{name}: entry {n}") for n, table in enumerate(tables, start=1))
