"""Distinguished names as OpenSSL compares them: by their letters, not by their bytes.

To it `CN=Root`, `CN=ROOT` and `CN= root ` are one name, in whatever kind of string (RFC 5280 §7.1).
What tells names apart by their bytes can be walked past with a capital letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from spiffe_client._der import SEQUENCE, SET, Der

__all__ = ["Comparable", "comparable"]

#: Equal for names that OpenSSL takes for the same.
Comparable: TypeAlias = tuple[frozenset[tuple[str, object]], ...]

_ENCODINGS: Mapping[int, str] = {
    0x0C: "utf-8",  # UTF8String
    0x13: "latin-1",  # PrintableString
    0x14: "latin-1",  # T61String, as OpenSSL reads it
    0x16: "latin-1",  # IA5String
    0x1A: "latin-1",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}
# ASCII alone, as OpenSSL does it.
_LOWER = {ord(upper): upper.lower() for upper in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_SPACES = " \t\n\r\v\f"


def comparable(name: bytes) -> Comparable:
    """Return what tells whether two names are the same.

    Args:
        name: A Name as a certificate has it, DER.
    """
    rdns, each = Der(name).inside(SEQUENCE), []
    while rdns.tag is not None:
        each.append(frozenset(_attributes(rdns.inside(SET))))
    return tuple(filter(None, each))  # OpenSSL reads past empty ones


def _attributes(attributes: Der) -> Iterator[tuple[str, object]]:
    while attributes.tag is not None:
        attribute = attributes.inside(SEQUENCE)
        oid, kind = attribute.oid(), attribute.tag
        yield oid, _value(kind, attribute.contents())


def _value(kind: int | None, octets: bytes) -> object:
    encoding = _ENCODINGS.get(kind or 0)
    if encoding is None:
        return kind, octets
    # What does not decode is as good as any other: OpenSSL would not load the certificate.
    text = octets.decode(encoding, "replace").translate(_LOWER)
    for space in _SPACES:
        text = text.replace(space, " ")
    return " ".join(filter(None, text.split(" ")))
