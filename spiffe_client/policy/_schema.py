"""The form of contracts as a JSON Schema, for editors and for tools that write contracts."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from spiffe_client.policy._contract import Contract

__all__ = ["contract_schema"]


def contract_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a contract; `docs/contract.schema.json` is this.

    It holds the form: what no schema can say, such as which time zones there are, `Contract.parse` holds.
    """
    (reference,), parts = msgspec.json.schema_components([Contract], ref_template="#/$defs/{name}")
    root = parts.pop(str(reference["$ref"]).rpartition("/")[2])
    for part in (root, *parts.values()):
        # What docstrings say is for readers of the code; the page about contracts is for those of the schema.
        part.pop("description", None)
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An agent's contract",
        "description": "What an agent is for, whose it is, what it may do, and within which bounds (docs/contracts.md).",
        **{name: value for name, value in root.items() if name != "title"},
        "$defs": parts,
    }
    plain: dict[str, Any] = json.loads(json.dumps(whole))  # lists, where a default is a tuple
    return plain
