"""DER put together by hand, right and wrong."""

from __future__ import annotations

__all__ = ["EC_SHA256", "assemble", "dn", "extension", "extensions", "oid", "tlv"]

#: ecdsa-with-SHA256 as an AlgorithmIdentifier (RFC 5758 §3.2).
EC_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_P256 = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")


def tlv(tag: int, *contents: bytes) -> bytes:
    """One element."""
    body = b"".join(contents)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    octets = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 + len(octets)]) + octets + body


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER of small arcs."""
    first, second, *rest = map(int, dotted.split("."))
    octets = bytes([40 * first + second])
    for arc in rest:
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.insert(0, arc & 0x7F | 0x80)
        octets += bytes(septets)
    return tlv(0x06, octets)


def dn(common_name: str) -> bytes:
    """A name of one common name."""
    return tlv(0x30, tlv(0x31, tlv(0x30, oid("2.5.4.3"), tlv(0x0C, common_name.encode()))))


def extension(dotted: str, *value: bytes, critical: bytes = b"") -> bytes:
    """An Extension; `critical` is what stands in that place."""
    return tlv(0x30, oid(dotted), critical, tlv(0x04, *value))


def extensions(*each: bytes) -> bytes:
    """The extensions of a certificate."""
    return tlv(0xA3, tlv(0x30, *each))


def assemble(**parts: bytes) -> bytes:
    """A certificate that nobody has signed, of these parts and usual ones.

    Parts: version, serial, algorithm, issuer, validity, subject, key, unique, extensions, more (all
    within what is signed), outer_algorithm, signature, rest.
    """
    algorithm = parts.get("algorithm", EC_SHA256)
    usual = {
        "version": tlv(0xA0, tlv(0x02, b"\x02")),
        "serial": tlv(0x02, b"\x05"),
        "algorithm": algorithm,
        "issuer": dn("root"),
        "validity": tlv(0x30, tlv(0x17, b"250102030405Z"), tlv(0x18, b"20550102030405Z")),
        "subject": dn("leaf"),
        "key": tlv(0x30, _P256, tlv(0x03, b"\x00\x04", bytes(64))),
        "unique": b"",
        "extensions": b"",
        "more": b"",
        "outer_algorithm": algorithm,
        "signature": tlv(0x03, b"\x00signature"),
        "rest": b"",
    }
    assert parts.keys() <= usual.keys()
    every = {**usual, **parts}
    outer = ("outer_algorithm", "signature", "rest")
    tbs = tlv(0x30, *(value for name, value in every.items() if name not in outer))
    return tlv(0x30, tbs, *(every[name] for name in outer))
