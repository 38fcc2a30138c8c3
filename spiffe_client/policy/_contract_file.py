"""Reading contracts: TOML or JSON, bounded, strict, with every mistake located."""

from __future__ import annotations

import re
import tomllib
from os import PathLike
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from spiffe_client._json import parse_json_object
from spiffe_client.errors import ContractError
from spiffe_client.policy._contract import Contract
from spiffe_client.policy._contract_parts import Action, Agent, Delegate, Limits, Window, Workflow
from spiffe_client.policy._contract_rules import key

__all__ = ["MAX_FILE_BYTES", "read_contract", "read_file"]

#: Larger contracts are refused unread.
MAX_FILE_BYTES: Final = 1 << 20

_T = TypeVar("_T")
# How msgspec says what is wrong, and where.
_WHERE = re.compile(r"(?s)(?P<what>.*?)(?: - at `\$(?P<where>.*)`)?\Z")
_NAMED = re.compile(r"(?s)Object (?P<how>contains unknown|missing required) field `(?P<name>.*)`\Z")
_TABLES: Final = ("agent", "limits", "actions", "workflow", "delegates")


def read_file(path: str | PathLike[str]) -> Contract:
    """See `load_contract`."""
    name = str(path)
    format_ = {".toml": "toml", ".json": "json"}.get(Path(name).suffix)
    if format_ is None:
        here = ", and this is a folder: name the files in it" if Path(name).is_dir() else ""
        raise ContractError(f"{name}: a contract is a .toml or a .json file{here}")
    try:
        with Path(name).open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in its name
        why = getattr(error, "strerror", None) or str(error)
        raise ContractError(f"{name}: cannot be read: {why}") from error
    return read_contract(text, "json" if format_ == "json" else "toml", name)


def read_contract(text: bytes, format_: Literal["toml", "json"], name: str) -> Contract:
    """See `Contract.parse`."""
    if len(text) > MAX_FILE_BYTES:
        raise ContractError(f"{name}: larger than {MAX_FILE_BYTES} bytes")
    try:
        return _contract(_document(text, format_))
    except ContractError as error:
        where = f"{name}: {error.path}" if error.path else name
        raise ContractError(f"{where}: {error}", path=error.path) from error.__cause__


def _document(text: bytes, format_: str) -> dict[str, object]:
    if format_ == "json":
        document = parse_json_object(text)
        if document is None:
            raise ContractError("not a JSON object, or one in which a name is given twice")
        return document
    if format_ != "toml":
        raise ContractError(f"a contract is TOML or JSON, not {format_!r}")
    try:
        # ValueError: not UTF-8, not TOML (with line and column), or a number beyond all measure.
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ContractError(f"not TOML: {error}") from error


def _contract(document: dict[str, object]) -> Contract:
    for name in document:
        if name not in _TABLES:
            raise ContractError(f"there is no such table; there are {', '.join(_TABLES)}", path=key(name))
    for name in ("agent", "actions"):
        if name not in document:
            raise ContractError("it is missing", path=name)
    return Contract(
        agent=_convert(document["agent"], Agent, "agent"),
        limits=_convert(document.get("limits", {}), Limits, "limits"),
        actions=_each(document["actions"], Action, "actions"),
        workflow=None if document.get("workflow") is None else _workflow(document["workflow"]),
        delegates=_each(document.get("delegates", {}), Delegate, "delegates"),
    )


def _each(table: object, kind: type[_T], path: str) -> dict[str, _T]:
    return {
        name: _convert(inside, kind, f"{path}.{key(name)}") for name, inside in _table(table, path).items()
    }


def _workflow(table: object) -> Workflow:
    # The lists one by one: msgspec does not say under which name a wrong one is.
    whole = dict(_table(table, "workflow"))
    follows = _each(whole.pop("follows", {}), tuple[str, ...], "workflow.follows")
    return msgspec.structs.replace(_convert(whole, Workflow, "workflow"), follows=follows)


def _table(value: object, path: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ContractError("a table is expected", path=path)
    return value


def _convert(value: object, kind: type[_T], path: str) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, ContractError):  # a part's own word, and which of its keys
            raise ContractError(str(error.__cause__), path=f"{path}.{error.__cause__.path}") from error
        raise _in_our_words(str(error), path, kind) from error


def _in_our_words(error: str, path: str, kind: object) -> ContractError:
    """Say what is wrong in the words of the file, where msgspec has its own."""
    match = _WHERE.match(error)
    what, where = (match["what"], match["where"] or "") if match else (error, "")
    path += where
    if named := _NAMED.match(what):
        path = f"{path}.{key(named['name'])}"
        if named["how"] == "missing required":
            return ContractError("it is missing", path=path)
        known = ", ".join(_keys_at(kind, where))
        return ContractError(f"there is no such key; there are {known}", path=path)
    return ContractError(what[:1].lower() + what[1:].replace("`", ""), path=path)


def _keys_at(kind: object, where: str) -> tuple[str, ...]:
    """Return the keys of a table, which is the kind's own or the only one within it."""
    struct: Any = Window if where == ".window" else kind
    keys: tuple[str, ...] = struct.__struct_encode_fields__
    return keys
