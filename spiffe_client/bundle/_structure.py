"""How a certificate is put together (RFC 5280 §4.1), read from front to back; nothing in it is judged."""

from __future__ import annotations

from datetime import datetime

from spiffe_client._der import BIT_STRING, SEQUENCE, SET, Der, DerError
from spiffe_client.bundle._extensions import Extension, split_extensions

__all__ = ["read_parts"]

_VERSION, _ISSUER_UNIQUE_ID, _SUBJECT_UNIQUE_ID, _EXTENSIONS = 0xA0, 0x81, 0x82, 0xA3
_V1, _V3 = 0, 2  # as they are written (RFC 5280 §4.1.2.1)
_CONSTRUCTED_OR_NOT_UNIVERSAL = 0xE0


def read_parts(der: bytes) -> dict[str, object]:
    """Return the parts of a certificate by the names that `Certificate` gives them.

    Args:
        der: One certificate and nothing else.

    Raises:
        DerError: It is malformed.
    """
    whole = Der(der)
    certificate = whole.inside(SEQUENCE)
    whole.end()
    tbs, algorithm, (signature, unused) = (
        certificate.element(SEQUENCE),
        _algorithm(certificate),
        certificate.bits(),
    )
    certificate.end()
    if unused:
        raise DerError("a signature that is not whole bytes")
    signed = Der(tbs).inside(SEQUENCE)
    return {
        "der": der,
        "tbs": tbs,
        "signature_algorithm": algorithm,
        "signature": signature,
        **_signed_parts(signed, algorithm),
    }


def _signed_parts(tbs: Der, algorithm: bytes) -> dict[str, object]:
    version, serial_number = _version(tbs), tbs.integer()
    if _algorithm(tbs) != algorithm:  # RFC 5280 §4.1.1.2
        raise DerError("it names two algorithms for its signature")
    issuer, (not_before, not_after), subject = _name(tbs), _validity(tbs), _name(tbs)
    public_key_info = _public_key_info(tbs)
    for unique_id in (_ISSUER_UNIQUE_ID, _SUBJECT_UNIQUE_ID):  # nobody has used them since 1999
        if tbs.tag == unique_id:
            tbs.bits(unique_id)
    extensions = _explicit_extensions(tbs.optional(_EXTENSIONS), version)
    tbs.end()
    return {
        "serial_number": serial_number,
        "issuer": issuer,
        "subject": subject,
        "not_before": not_before,
        "not_after": not_after,
        "public_key_info": public_key_info,
        "_extensions": extensions,
    }


def _version(tbs: Der) -> int:
    if tbs.tag != _VERSION:
        return _V1  # left out, for DER writes no default
    explicit = tbs.inside(_VERSION)
    version = explicit.integer()
    explicit.end()
    if version != _V3:
        raise DerError(f"a version that is neither left out nor 2, for version 3, but {version:#x}")
    return version


def _algorithm(parts: Der) -> bytes:
    whole = parts.element(SEQUENCE)
    inside = Der(whole).inside(SEQUENCE)
    inside.oid()
    if inside.tag is not None:
        inside.element()
    inside.end()
    return whole


def _validity(tbs: Der) -> tuple[datetime, datetime]:
    validity = tbs.inside(SEQUENCE)
    begin, end = validity.time(), validity.time()
    validity.end()
    return begin, end


def _explicit_extensions(extensions: bytes | None, version: int) -> tuple[Extension, ...]:
    if extensions is None:
        return ()
    if version != _V3:
        raise DerError("extensions in a certificate that is not of version 3")
    explicit = Der(extensions)
    each = tuple(split_extensions(explicit.inside(SEQUENCE)))
    explicit.end()
    return each


def _name(tbs: Der) -> bytes:
    whole = tbs.element(SEQUENCE)
    name = Der(whole).inside(SEQUENCE)
    while name.tag is not None:
        _attributes(name.inside(SET))
    return whole


def _attributes(attributes: Der) -> None:
    before = b""
    if attributes.tag is None:  # OpenSSL reads past it, so a name would have a twin
        raise DerError("a part of a name that is empty")
    while attributes.tag is not None:
        attribute = attributes.element(SEQUENCE)
        if attribute < before:  # X.690 §11.6
            raise DerError("attributes of a name that are not in order")
        before = attribute
        inside = Der(attribute).inside(SEQUENCE)
        inside.oid()
        _attribute_value(inside)
        inside.end()


def _attribute_value(inside: Der) -> None:
    # OpenSSL puts BER's pieces together and looks past unused bits: one name, many encodings.
    tag = inside.tag or 0
    if tag == BIT_STRING:
        inside.bits()
    elif tag & _CONSTRUCTED_OR_NOT_UNIVERSAL and tag != SEQUENCE:
        raise DerError(f"a value of a name that is no plain string, tag {tag:#04x}")
    else:
        inside.element()


def _public_key_info(tbs: Der) -> bytes:
    whole = tbs.element(SEQUENCE)
    inside = Der(whole).inside(SEQUENCE)
    _algorithm(inside)
    inside.bits()
    inside.end()
    return whole
