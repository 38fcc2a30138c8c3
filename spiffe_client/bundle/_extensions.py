"""The extensions of a certificate that SPIFFE looks at (RFC 5280 §4.2, X509-SVID §4).

All that are there are gone through, so that none is there twice and none is malformed unnoticed
among those that count; what the others say is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from spiffe_client._der import INTEGER, OCTET_STRING, SEQUENCE, Der, DerError, dotted
from spiffe_client._values import dataclass

__all__ = ["BasicConstraints", "Extension", "Extensions", "KeyUsage", "read_extensions", "split_extensions"]

_SUBJECT_KEY_IDENTIFIER, _KEY_USAGE, _SUBJECT_ALT_NAME = "2.5.29.14", "2.5.29.15", "2.5.29.17"
_BASIC_CONSTRAINTS, _NAME_CONSTRAINTS, _AUTHORITY_KEY_IDENTIFIER = "2.5.29.19", "2.5.29.30", "2.5.29.35"
_CERTIFICATE_POLICIES, _EXTENDED_KEY_USAGE = "2.5.29.32", "2.5.29.37"

#: What may be critical: it is looked at. Any policy will do for an SVID, so none needs a look.
_UNDERSTOOD = frozenset(
    {
        _KEY_USAGE,
        _SUBJECT_ALT_NAME,
        _BASIC_CONSTRAINTS,
        _NAME_CONSTRAINTS,
        _CERTIFICATE_POLICIES,
        _EXTENDED_KEY_USAGE,
    }
)

# Kinds of GeneralName (RFC 5280 §4.2.1.6) that are read; x400Address and ediPartyName nobody reads.
_OTHER_NAME, _RFC822_NAME, _DNS_NAME, _DIRECTORY_NAME, _URI, _IP_ADDRESS, _REGISTERED_ID = (
    0xA0,
    0x81,
    0x82,
    0xA4,
    0x86,
    0x87,
    0x88,
)

#: The OID of an extension, whether it is critical, and what it holds.
Extension: TypeAlias = tuple[str, bool, bytes]


@dataclass(frozen=True, slots=True)
class BasicConstraints:
    """Whether it is a CA, and for how many CAs below it (RFC 5280 §4.2.1.9).

    Attributes:
        ca: Whether it is one.
        path_length: The most intermediates below it; None sets no limit.
    """

    ca: bool
    path_length: int | None


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """What a key is for (RFC 5280 §4.2.1.3), as far as SPIFFE asks.

    Attributes:
        digital_signature: Whether it may authenticate.
        key_cert_sign: Whether it may sign certificates.
        crl_sign: Whether it may sign revocation lists.
    """

    digital_signature: bool
    key_cert_sign: bool
    crl_sign: bool


@dataclass(frozen=True, slots=True)
class Extensions:
    """What the extensions of a certificate say.

    Attributes:
        uris: Its names that are URIs, in their order.
        basic_constraints: None if it has none.
        key_usage: As above.
        purposes: The OIDs of its extended key usage; None if it has none.
        key_identifier: Of its subject's key; None if it has none.
        authority_key_identifier: Of its issuer's key; None if it has none.
        name_constraints: Whether it has any.
        critical: The OIDs of those that are critical, in their order.
    """

    uris: tuple[str, ...] = ()
    basic_constraints: BasicConstraints | None = None
    key_usage: KeyUsage | None = None
    purposes: frozenset[str] | None = None
    key_identifier: bytes | None = None
    authority_key_identifier: bytes | None = None
    name_constraints: bool = False
    critical: tuple[str, ...] = ()

    @property
    def key_usage_critical(self) -> bool:
        """Whether key usage is there and critical."""
        return _KEY_USAGE in self.critical

    @property
    def not_understood(self) -> tuple[str, ...]:
        """The OIDs of critical ones that nobody here looks at."""
        return tuple(oid for oid in self.critical if oid not in _UNDERSTOOD)


def split_extensions(rest: Der) -> Iterator[Extension]:
    """Take elements `Extension`, all that there are.

    Raises:
        DerError: One is none.
    """
    while rest.tag is not None:
        extension = rest.inside(SEQUENCE)
        yield extension.oid(), extension.flag(), extension.contents(OCTET_STRING)
        extension.end()


def read_extensions(extensions: Iterable[Extension]) -> Extensions:
    """Read the extensions of a certificate.

    Args:
        extensions: All that it has.

    Raises:
        DerError: One is malformed, or there twice (RFC 5280 §4.2).
    """
    found: dict[str, object] = {}
    seen: set[str] = set()
    marked: list[str] = []
    for oid, critical, octets in extensions:
        if oid in seen:
            raise DerError(f"the extension {oid} is there twice")
        seen.add(oid)
        if critical:
            marked.append(oid)
        if oid in _READERS:
            name, reader = _READERS[oid]
            value = Der(octets)
            found[name] = reader(value)
            value.end()
    # By name, so that what is not there keeps its default.
    return Extensions(**found, critical=tuple(marked))  # type: ignore[arg-type]  # by the table below


def _uris(value: Der) -> tuple[str, ...]:
    names = value.inside(SEQUENCE)
    uris: list[str] = []
    while names.tag is not None:
        kind = names.tag
        read = _KINDS_OF_NAME.get(kind)
        if read is None:
            raise DerError(f"a name of the kind {kind:#04x}, which cannot be read")
        name = read(names.contents())
        if kind == _URI:
            uris.append(str(name))
    return tuple(uris)


def _ascii(octets: bytes) -> str:
    try:
        return octets.decode("ascii")
    except UnicodeDecodeError as error:
        raise DerError("a name with bytes that are not ASCII") from error


def _other_name(octets: bytes) -> None:
    name = Der(octets)
    name.oid()
    name.inside(0xA0).element()
    name.end()


def _directory_name(octets: bytes) -> None:
    name = Der(octets)
    name.element(SEQUENCE)
    name.end()


def _ip_address(octets: bytes) -> None:
    if len(octets) not in (4, 16):
        raise DerError(f"an IP address of {len(octets)} bytes")


_KINDS_OF_NAME: Mapping[int, Callable[[bytes], str | None]] = {
    _OTHER_NAME: _other_name,
    _RFC822_NAME: _ascii,
    _DNS_NAME: _ascii,
    _DIRECTORY_NAME: _directory_name,
    _URI: _ascii,
    _IP_ADDRESS: _ip_address,
    _REGISTERED_ID: dotted,
}


def _basic_constraints(value: Der) -> BasicConstraints:
    inside = value.inside(SEQUENCE)
    ca = inside.flag()
    limit = inside.integer() if inside.tag == INTEGER else None
    inside.end()
    if limit is not None and (not ca or limit < 0):
        raise DerError("a path length below zero, or of a certificate that is no CA")
    return BasicConstraints(ca, limit)


def _key_usage(value: Der) -> KeyUsage:
    octets, _ = value.bits()
    first = octets[0] if octets else 0
    # RFC 5280 §4.2.1.3 counts bits from the left: 0 digitalSignature, 5 keyCertSign, 6 cRLSign.
    return KeyUsage(bool(first & 0x80), bool(first & 0x04), bool(first & 0x02))


def _purposes(value: Der) -> frozenset[str]:
    inside = value.inside(SEQUENCE)
    purposes: set[str] = set()
    while inside.tag is not None:
        purposes.add(inside.oid())
    return frozenset(purposes)


def _key_identifier(value: Der) -> bytes:
    return value.contents(OCTET_STRING)


def _authority_key_identifier(value: Der) -> bytes | None:
    inside = value.inside(SEQUENCE)
    identifier = inside.optional(_KEY_IDENTIFIER)
    for tag in (_AUTHORITY_CERT_ISSUER, _AUTHORITY_CERT_SERIAL):
        inside.optional(tag)
    inside.end()
    return identifier


def _is_there(value: Der) -> bool:
    value.element(SEQUENCE)
    return True


# RFC 5280 §4.2.1.1.
_KEY_IDENTIFIER, _AUTHORITY_CERT_ISSUER, _AUTHORITY_CERT_SERIAL = 0x80, 0xA1, 0x82

_READERS: Mapping[str, tuple[str, Callable[[Der], object]]] = {
    _SUBJECT_KEY_IDENTIFIER: ("key_identifier", _key_identifier),
    _KEY_USAGE: ("key_usage", _key_usage),
    _SUBJECT_ALT_NAME: ("uris", _uris),
    _BASIC_CONSTRAINTS: ("basic_constraints", _basic_constraints),
    _NAME_CONSTRAINTS: ("name_constraints", _is_there),
    _EXTENDED_KEY_USAGE: ("purposes", _purposes),
    _AUTHORITY_KEY_IDENTIFIER: ("authority_key_identifier", _authority_key_identifier),
}
