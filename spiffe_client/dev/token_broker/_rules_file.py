"""The file format of rules, shown at `Rules`: typed tables, every mistake located."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import msgspec

from spiffe_client.dev._registration_file import MAX_FILE_BYTES
from spiffe_client.dev.token_broker._rules import Client, ForeignIssuer, Rules, SenderConstraint
from spiffe_client.errors import InvalidIdError, RegistrationError

__all__ = ["read_rules"]

_T = TypeVar("_T")
_CLIENT: Mapping[str, str] = {
    "id": "text: a SPIFFE ID, or a name",
    "spiffe_id": "a SPIFFE ID as text",
    "secret": "text",
    "secret_sha256": "64 hexadecimal digits",
    "jwk": "a table: a public JSON Web Key",
    "public": "true or false",
    "audiences": "a list of text",
    "scopes": "a list of text",
    "details": "a list of text",
    "serves": "a list of text",
    "may_delegate_to": "a list of text",
    "ttl": "a number of seconds",
    "binding": "any, dpop, mtls or bearer",
}
_ISSUER: Mapping[str, str] = {"id": "text: an issuer identifier", "jwks": "a list of public JSON Web Keys"}
# How msgspec says what is wrong, and where.
_WHERE = re.compile(r"(?s)(?P<what>.*?)(?: - at `\$\.?(?P<field>.*)`)?")
_NAMED = re.compile(r"Object (?P<how>contains unknown|missing required) field `(?P<name>.*)`", re.DOTALL)


class _ClientTable(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    spiffe_id: str | None = None
    secret: str | None = None
    secret_sha256: str | None = None
    jwk: dict[str, Any] | None = None
    public: bool = False
    audiences: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    serves: tuple[str, ...] = ()
    may_delegate_to: tuple[str, ...] = ()
    ttl: float | None = None
    binding: SenderConstraint = "any"


class _IssuerTable(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    jwks: tuple[dict[str, Any], ...]


def _client(table: _ClientTable, where: str) -> Client:
    fields = msgspec.structs.asdict(table)
    hashed = fields.pop("secret_sha256")
    if hashed is not None and table.secret is not None:
        raise RegistrationError(f"{where}: give secret or secret_sha256, not both")
    for name in ("secret", "secret_sha256"):
        if getattr(table, name) == "":
            raise RegistrationError(f"{where}, field {name!r}: must not be empty")
    try:
        return Client.of(
            fields.pop("id"),
            **{**fields, "secret": table.secret or ""},
            secret_sha256=hashed or "",
            where=where,
        )
    except (InvalidIdError, RegistrationError) as error:
        raise RegistrationError(f"{where} ({table.id[:200]}): {error}") from error


def _issuer(table: _IssuerTable, where: str) -> ForeignIssuer:
    try:
        return ForeignIssuer.of(table.id, *table.jwks)
    except RegistrationError as error:
        raise RegistrationError(f"{where} ({table.id[:200]}): {error}") from error


def _in_our_words(error: str, where: str, fields: Mapping[str, str]) -> str:
    """Say what is wrong in the words of the file, where msgspec has its own."""
    match = cast("re.Match[str]", _WHERE.fullmatch(error))  # all of it is optional
    field = re.split(r"[.\[]", match["field"] or "")[0]
    if named := _NAMED.fullmatch(match["what"]):
        name = named["name"][:80]
        if named["how"] == "missing required":
            return f"{where}, field {name!r}: it is missing"
        return f"{where}, field {name!r}: there is no such field; there are {', '.join(fields)}"
    if field not in fields:
        return f"{where}: it must be a table"
    return f"{where}, field {field!r}: must be {fields[field]}"


def _tables(
    document: Mapping[str, object], kind: str, model: type[_T], fields: Mapping[str, str], name: str
) -> list[tuple[_T, str]]:
    tables = document.get(kind, [])
    if not isinstance(tables, list):
        raise RegistrationError(f"{name}: field {kind}: each {kind} is a table under [[{kind}]]")
    found = []
    for number, table in enumerate(tables, start=1):
        where = f"{name}: {kind} {number}"
        try:
            found.append((msgspec.convert(table, model), where))
        except msgspec.ValidationError as error:
            raise RegistrationError(_in_our_words(str(error), where, fields)) from error
    return found


def read_rules(text: bytes, name: str) -> Rules:
    """Read rules from the text of a TOML file.

    Args:
        text: UTF-8, at most 1 MiB.
        name: What to call the file in messages.

    Raises:
        RegistrationError: It is malformed; the message names the line, or the table and field.
    """
    if len(text) > MAX_FILE_BYTES:
        raise RegistrationError(f"{name}: larger than {MAX_FILE_BYTES} bytes")
    try:
        # ValueError: not UTF-8, not TOML (with line and column), or a number beyond all measure.
        document = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise RegistrationError(f"{name}: not TOML: {error}") from error
    for other in document.keys() - {"client", "entry", "issuer"}:
        raise RegistrationError(
            f"{name}: field {other[:80]!r}: there is no such field; there are [[client]], [[issuer]] "
            "and [[entry]] tables"
        )
    clients = _tables(document, "client", _ClientTable, _CLIENT, name)
    issuers = _tables(document, "issuer", _IssuerTable, _ISSUER, name)
    try:
        return Rules(
            tuple(_client(table, where) for table, where in clients),
            tuple(_issuer(table, where) for table, where in issuers),
        )
    except RegistrationError as error:
        text_of = str(error)
        raise RegistrationError(text_of if text_of.startswith(name) else f"{name}: {text_of}") from error
