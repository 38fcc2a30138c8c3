"""The file format of registrations, shown at `Registrations`: typed tables, every mistake located."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import cast

import msgspec

from spiffe_client.dev._registration import Registration, Selectors
from spiffe_client.errors import InvalidIdError, RegistrationError
from spiffe_client.ids import SpiffeId, TrustDomain

__all__ = ["MAX_FILE_BYTES", "read_entries"]

#: Larger files are refused unread.
MAX_FILE_BYTES = 1024 * 1024

_FIELDS: Mapping[str, str] = {
    "id": "a SPIFFE ID as text",
    "selectors": "a table, for example { uid = 1000 }",
    "any": "true or false",
    "ttl": "a number of seconds",
    "hint": "text",
    "dns_names": "a list of names",
    "federates_with": "a list of trust domains",
}
_SELECTORS: Mapping[str, str] = {
    "uid": "a whole number",
    "gid": "a whole number",
    "pid": "a whole number",
    "path": "text: an absolute path",
}
_OF_THE_TOKEN_BROKER = ("client", "issuer")
# How msgspec says what is wrong, and where.
_WHERE = re.compile(r"(?s)(?P<what>.*?)(?: - at `\$\.entry(?:\[(?P<entry>\d+)\](?P<field>.*))?`)?")
_NAMED = re.compile(r"Object (?P<how>contains unknown|missing required) field `(?P<name>.*)`", re.DOTALL)


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
    if not table.any and chosen == _SelectorTable():
        raise RegistrationError(
            f"{where} ({table.id[:200]}): an entry without selectors would match nobody: "
            "add selectors = {uid = …} or any = true"
        )
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


def _in_our_words(error: str) -> str:
    """Say what is wrong in the words and with the counting of the file, where msgspec has its own."""
    match = cast("re.Match[str]", _WHERE.fullmatch(error))  # all of it is optional
    entry = "" if match["entry"] is None else f"entry {int(match['entry']) + 1}"
    path = re.findall(r"\w+", match["field"] or "")
    names = _SELECTORS if path[:1] == ["selectors"] else _FIELDS
    if named := _NAMED.fullmatch(match["what"]):
        shown = ", ".join(filter(None, (entry, f"field {'.'.join([*path, named['name'][:80]])!r}")))
        if named["how"] == "missing required":
            return f"{shown}: it is missing"
        known = (
            ", ".join(names)
            if entry
            else "[[entry]] tables, and for a token broker [[client]] and [[issuer]] tables"
        )
        return f"{shown}: there is no such field; there are {known}"
    if not path:
        return f"{entry or 'field entry'}: each entry is a table under [[entry]]"
    field = path[1] if names is _SELECTORS and path[1:] else path[0]
    wanted = names.get(field, _FIELDS["selectors"])
    return f"{entry}, field {'.'.join(path[:2] if names is _SELECTORS else path[:1])!r}: must be {wanted}"


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
    for others in _OF_THE_TOKEN_BROKER:  # it reads them from the same file
        document.pop(others, None)
    try:
        tables = msgspec.convert(document, _File).entry
    except msgspec.ValidationError as error:
        raise RegistrationError(f"{name}: {_in_our_words(str(error))}") from error
    return tuple(_registration(table, f"{name}: entry {n}") for n, table in enumerate(tables, start=1))
