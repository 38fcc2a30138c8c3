"""Names are compared as OpenSSL compares them, whose word decides which issuer is tried."""

from __future__ import annotations

import ssl

import pytest
from cryptography import x509
from cryptography.x509.name import _ASN1Type as Kind

from spiffe_client._der import SEQUENCE, SET, Der
from spiffe_client.tls._names import comparable
from tests.support.pki import new_authority
from tests.support.tls_wire import Wire, plain_server

CN, O = x509.NameOID.COMMON_NAME, x509.NameOID.ORGANIZATION_NAME


def dn(*rdns: str | tuple[str, Kind] | list[tuple[x509.ObjectIdentifier, str]]) -> bytes:
    """A name of these; text is one common name."""

    def rdn(part: object) -> x509.RelativeDistinguishedName:
        if isinstance(part, list):
            return x509.RelativeDistinguishedName([x509.NameAttribute(oid, text) for oid, text in part])
        text, kind = part if isinstance(part, tuple) else (part, Kind.UTF8String)
        return x509.RelativeDistinguishedName([x509.NameAttribute(CN, text, _type=kind)])

    return x509.Name(map(rdn, rdns)).public_bytes()


SAME = [
    (dn("The Root"), dn("the root")),
    (dn("The Root"), dn("  The   Root ")),
    (dn("The Root"), dn("The\tRoot\n")),
    (dn("The Root"), dn(("THE ROOT", Kind.PrintableString))),
    (dn("The Root"), dn(("The Root", Kind.IA5String))),
    (dn("The Root"), dn(("The Root", Kind.BMPString))),
    (dn("The Root"), dn(("The Root", Kind.UniversalString))),
    (dn("Ärger"), dn(("Ärger", Kind.BMPString))),
    (dn([(CN, "a"), (O, "b")]), dn([(O, "B"), (CN, "A")])),
    (dn(), dn()),
]
OTHER = [
    (dn("The Root"), dn("TheRoot")),
    (dn("The Root"), dn("The Roof")),
    (dn("Ärger"), dn("ärger")),  # letters beyond ASCII keep their case
    (dn("a", "b"), dn("b", "a")),
    (dn("a", "b"), dn([(CN, "a"), (CN, "b")])),
    (dn([(CN, "a")]), dn([(O, "a")])),
    (dn("a"), dn()),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same(one: bytes, other: bytes) -> None:
    """RFC 5280 §7.1: case, white space at the ends and repeated, and the kind of string do not count."""
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_another(one: bytes, other: bytes) -> None:
    """All else does."""
    assert comparable(one) != comparable(other)


def test_what_is_no_text_counts_by_its_bytes() -> None:
    """Bit strings and the like."""
    plain = dn("ab")
    bits = plain.replace(b"\x0c\x02ab", b"\x03\x02\x00b")
    assert comparable(bits) != comparable(plain)
    assert comparable(bits) == comparable(bits)


@pytest.mark.parametrize(("one", "other"), [*SAME, *OTHER])
def test_openssl_agrees(one: bytes, other: bytes) -> None:
    """A leaf that names its issuer the one way is verified by a root of the same key that is named the other."""
    key = new_authority("a.test").key
    root = new_authority("a.test", key=key, subject=read(one))
    leaf = new_authority("a.test", key=key, subject=read(other)).leaf("spiffe://a.test/peer")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cadata=root.bundle().to_der())
    wire = Wire(client, plain_server(leaf))
    if comparable(one) == comparable(other):
        wire.handshake()
    else:
        with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
            wire.handshake()


def read(name: bytes) -> x509.Name:
    """The name as builders take it; strings keep their kinds."""
    parts: list[x509.RelativeDistinguishedName] = []
    rdns = Der(name).inside(SEQUENCE)
    while rdns.tag is not None:
        attributes = rdns.inside(SET)
        found = []
        while attributes.tag is not None:
            attribute = attributes.inside(SEQUENCE)
            oid, kind = x509.ObjectIdentifier(attribute.oid()), Kind(attribute.tag)
            text = attribute.contents().decode(ENCODINGS.get(kind, "utf-8"))
            found.append(x509.NameAttribute(oid, text, _type=kind))
        parts.append(x509.RelativeDistinguishedName(found))
    return x509.Name(parts)


ENCODINGS = {Kind.BMPString: "utf-16-be", Kind.UniversalString: "utf-32-be"}
