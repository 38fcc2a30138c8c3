"""JWK Sets: which entries count, which are ignored, and when the set is no good at all.

Unknown key types and uses are ignored (SPIFFE Trust Domain and Bundle §4.2). A broken entry is
left out without losing the rest. Two cases look alike and are opposites: a set without keys
revokes everything and is obeyed, a set of which not one key can be read is damaged and is refused,
so that whoever holds the former one keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from spiffe_client._json import parse_json_object
from spiffe_client.errors import BundleError

__all__ = ["keys_of", "parse_jwk_set", "readable"]

#: Largest document that is parsed, in bytes, and the most entries looked at.
MAX_BYTES = 1 << 20
MAX_KEYS = 1000

_T = TypeVar("_T")


def parse_jwk_set(text: bytes) -> tuple[Mapping[str, object], list[object]]:
    """Parse a JWK Set into its members and its entries.

    Raises:
        BundleError: It is too large, not a JSON object, or has no `keys` array (§4.1.3).
    """
    if len(text) > MAX_BYTES:
        raise BundleError(f"a JWK Set of {len(text)} bytes; at most {MAX_BYTES} are read")
    document = parse_json_object(text, repeated="drop")
    if document is None:
        raise BundleError("not a JSON object with each member once")
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise BundleError("the JWK Set has no `keys` array")
    if len(entries) > MAX_KEYS:
        raise BundleError(f"the JWK Set has {len(entries)} keys; at most {MAX_KEYS} are read")
    return document, entries


def keys_of(
    entries: Iterable[object],
    uses: Collection[str | None],
    *,
    types: Collection[str] = frozenset({"EC", "RSA"}),
) -> list[Mapping[str, object]]:
    """Return the entries of these uses and key types; one that is no object has neither."""
    return [
        entry
        for entry in entries
        if isinstance(entry, dict) and _one_of(uses, entry.get("use")) and _one_of(types, entry.get("kty"))
    ]


def _one_of(known: Collection[str | None], value: object) -> bool:
    return isinstance(value, str | None) and value in known


def readable(
    entries: Collection[Mapping[str, object]], parse: Callable[[Mapping[str, object]], _T]
) -> tuple[_T, ...]:
    """Return what can be parsed of the entries.

    Raises:
        BundleError: There are entries, and not one can be.
    """
    parsed: list[_T] = []
    reason: BundleError | None = None
    for entry in entries:
        try:
            parsed.append(parse(entry))
        except BundleError as error:
            reason = error
    if reason is not None and not parsed:
        raise BundleError(f"none of the {len(entries)} keys can be read; the last one: {reason}") from reason
    return tuple(parsed)
