"""Our reading of certificates against `cryptography`'s: where both read one, they read the same."""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku
from hypothesis import given, settings
from hypothesis import strategies as st

from spiffe_client.bundle import Certificate, _certificate, certificate_of, parse_certificate
from spiffe_client.errors import BundleError
from tests.support.der import assemble, dn, extension, extensions, oid, tlv
from tests.support.odd_certificates import (
    AT,
    Signed,
    distinguished,
    raw_extension,
    sans,
    sign_ca,
    sign_certificate,
    sign_leaf,
    uri_sans,
)
from tests.support.tokens import rsa_key

ROOT = sign_ca()
NAMES = sans(
    x509.DNSName("a.test"),
    x509.IPAddress(ip_address("192.0.2.1")),
    x509.IPAddress(ip_address("2001:db8::1")),
    x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
    x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"),
    x509.RFC822Name("a@a.test"),
    x509.DirectoryName(distinguished("x")),
    *uri_sans("spiffe://a.test/peer", "https://a.test/"),
)
SEVERAL = x509.RelativeDistinguishedName(
    [x509.NameAttribute(x509.NameOID.COMMON_NAME, "a"), x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE")]
)
KINDS: dict[str, Signed] = {
    "root": ROOT,
    "leaf": sign_leaf(ROOT),
    "all of it": sign_leaf(
        ROOT,
        extra=[
            (x509.SubjectKeyIdentifier(b"id"), False),
            (x509.AuthorityKeyIdentifier(b"root", [x509.DirectoryName(distinguished("x"))], 5), False),
            (x509.ExtendedKeyUsage([Eku.CLIENT_AUTH, Eku.SERVER_AUTH]), True),
            (x509.NameConstraints([x509.UniformResourceIdentifier("a.test")], None), True),
            (raw_extension("1.3.6.1.4.1.99999.1"), True),
        ],
    ),
    "all kinds of names": sign_certificate([(NAMES, True)], issuer=ROOT),
    "several names in one": sign_certificate([], subject=x509.Name([SEVERAL])),
    "no name": sign_certificate([], subject=distinguished(None)),
    "from 1951 until 2055": sign_certificate(
        [(x509.BasicConstraints(ca=True, path_length=3), False)],
        begin=datetime(1951, 2, 3, 4, 5, 6, tzinfo=UTC),
        end=datetime(2055, 12, 31, 23, 59, 59, tzinfo=UTC),
    ),
    "P-384": sign_leaf(None, key=ec.generate_private_key(ec.SECP384R1())),
    "P-521": sign_leaf(None, key=ec.generate_private_key(ec.SECP521R1())),
    "secp256k1": sign_leaf(None, key=ec.generate_private_key(ec.SECP256K1())),
    "Ed25519": sign_leaf(None, key=ed25519.Ed25519PrivateKey.generate()),
    "Ed448": sign_leaf(None, key=ed448.Ed448PrivateKey.generate()),
    "RSA": sign_leaf(None, key=rsa_key()),
}
#: What is read of extensions where they do not say otherwise.
NOTHING = dict.fromkeys(("key_usage", "basic_constraints", "purposes", "key_identifier", "authority_key_identifier"))


def ours(certificate: Certificate) -> Mapping[str, object]:
    """What our reading makes of the extensions."""
    read = certificate.extensions
    return {f.name: getattr(read, f.name) for f in dataclasses.fields(read)}


def theirs(certificate: x509.Certificate) -> Mapping[str, object]:
    """The same out of `cryptography`'s."""
    said: dict[str, object] = {**NOTHING, "uris": (), "name_constraints": False}
    for extension in certificate.extensions:
        match extension.value:
            case x509.SubjectAlternativeName() as names:
                said["uris"] = tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
            case x509.KeyUsage() as usage:
                said["key_usage"] = (usage.digital_signature, usage.key_cert_sign, usage.crl_sign)
            case x509.BasicConstraints() as constraints:
                said["basic_constraints"] = (constraints.ca, constraints.path_length)
            case x509.ExtendedKeyUsage() as purposes:
                said["purposes"] = frozenset(p.dotted_string for p in purposes)
            case x509.SubjectKeyIdentifier() as identifier:
                said["key_identifier"] = identifier.digest
            case x509.AuthorityKeyIdentifier() as identifier:
                said["authority_key_identifier"] = identifier.key_identifier
            case x509.NameConstraints():
                said["name_constraints"] = True
    return {**said, "critical": tuple(e.oid.dotted_string for e in certificate.extensions if e.critical)}


def plain(said: Mapping[str, object]) -> Mapping[str, object]:
    """Values of ours as tuples."""
    return {
        name: tuple(getattr(value, f.name) for f in dataclasses.fields(value))
        if dataclasses.is_dataclass(value)
        else value
        for name, value in said.items()
    }


def check_same(mine: Certificate, other: x509.Certificate) -> None:
    """All that is read, but for extensions and key."""
    assert (other.serial_number, other.not_valid_before_utc, other.not_valid_after_utc) == (
        mine.serial_number,
        mine.not_before,
        mine.not_after,
    )
    assert (other.tbs_certificate_bytes, other.signature) == (mine.tbs, mine.signature)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_cryptography(kind: str) -> None:
    """Every attribute of every kind of certificate."""
    der, other = KINDS[kind].der, KINDS[kind].certificate
    mine = Certificate(der)
    check_same(mine, other)
    assert (other.subject.public_bytes(), other.issuer.public_bytes()) == (mine.subject, mine.issuer)
    assert theirs(other) == plain(ours(mine))
    spki = other.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert (spki, other.public_key()) == (mine.public_key_info, mine.public_key())
    assert (other, KINDS[kind].pem) == (mine.x509, mine.pem)


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_one_is_read_the_same_or_not_at_all(data: st.DataObject) -> None:
    """Two readers that see different things in the same bytes are how certificates are forged."""
    der = bytearray(KINDS[data.draw(st.sampled_from(sorted(KINDS)))].der)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(der) - 1))
        match data.draw(st.sampled_from(("change", "cut", "add", "copy"))):
            case "change":
                der[place] = data.draw(st.integers(0, 255))
            case "cut":
                del der[place]
            case "add":
                der.insert(place, data.draw(st.integers(0, 255)))
            case "copy":
                other = data.draw(st.integers(0, len(der) - 1))
                der[place : place + 4] = der[other : other + 4]
    try:
        mine = Certificate(bytes(der))
        other = mine.x509
    except BundleError:
        return
    check_same(mine, other)
    try:
        said, expected = plain(ours(mine)), theirs(other)
    except (BundleError, ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return
    assert expected == said
    try:
        key = mine.public_key()
    except BundleError:
        return
    assert other.public_key() == key


def unread(**parts: bytes) -> str:
    with pytest.raises(BundleError) as e:
        Certificate(assemble(**parts))
    return str(e.value)


def unread_extension(dotted: str, *value: bytes) -> str:
    certificate = Certificate(assemble(extensions=extensions(extension(dotted, *value))))
    with pytest.raises(BundleError, match="the certificate's extensions cannot be read: ") as e:
        _ = certificate.extensions
    return str(e.value)


def test_assembled_by_hand() -> None:
    """What the tests below change one part of."""
    certificate = Certificate(assemble())
    assert (5, dn("root"), dn("leaf")) == (certificate.serial_number, certificate.issuer, certificate.subject)
    assert datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC) == certificate.not_before
    assert datetime(2055, 1, 2, 3, 4, 5, tzinfo=UTC) == certificate.not_after
    assert certificate.x509.serial_number == 5


class TestMalformed:
    @pytest.mark.parametrize("der", [b"", b"\0", b"\x30\x00", ROOT.der[:-1], ROOT.der + b"\0", ROOT.pem])
    def test_no_certificate(self, der: bytes) -> None:
        """RFC 5280 §4.1: one SEQUENCE and nothing after it."""
        with pytest.raises(BundleError, match="not a certificate: "):
            Certificate(der)

    @pytest.mark.parametrize("version", [0, 1, 3])
    def test_versions(self, version: int) -> None:
        """RFC 5280 §4.1.2.1: 1 is left out, for DER writes no default; 3 is written as 2; nobody has 2."""
        assert (f"but {version:#x}" if version else "but 0x0") in unread(version=tlv(0xA0, tlv(0x02, bytes([version]))))

    def test_version_1(self) -> None:
        """RFC 5280 §4.1.2.9: an old root has no extensions, or is malformed."""
        assert () == Certificate(assemble(version=b"")).extensions.uris
        assert "not of version 3" in unread(version=b"", extensions=extensions())

    def test_two_algorithms(self) -> None:
        """RFC 5280 §4.1.1.2: how it is signed is said twice, and must be the same."""
        other = bytes.fromhex("300a06082a8648ce3d040303")
        assert "two algorithms" in unread(outer_algorithm=other)

    def test_a_signature_of_some_bits(self) -> None:
        """A BIT STRING may be of any length, a signature is whole bytes."""
        assert "whole bytes" in unread(signature=tlv(0x03, b"\x01\x02"))

    @pytest.mark.parametrize(
        "parts",
        [
            {"rest": b"\x05\x00"},
            {"more": b"\x05\x00"},
            {"extensions": tlv(0xA3, tlv(0x30), b"\x05\x00")},
            {"extensions": extensions(b"\x05\x00")},
            {"extensions": extensions(tlv(0x30, oid("1.2.3"), tlv(0x04), b"\x05\x00"))},
            {"extensions": extensions(extension("1.2.3", critical=b"\x01\x01\x00"))},
            {"validity": tlv(0x30, *[tlv(0x17, b"250102030405Z")] * 3)},
            {"validity": tlv(0x30, tlv(0x17, b"250102030405Z"))},
            {"algorithm": tlv(0x30, oid("1.2.3"), b"\x05\x00\x05\x00")},
            {"issuer": tlv(0x30, tlv(0x31, tlv(0x30, oid("2.5.4.3"))))},
            {"subject": tlv(0x30, tlv(0x31, tlv(0x30, oid("2.5.4.3"), b"\x05\x00\x05\x00")))},
            {"key": tlv(0x30, tlv(0x30, oid("1.2.3")), tlv(0x03, b"\x00"), b"\x05\x00")},
            {"unique": tlv(0x81)},
            {"serial": b""},
        ],
        ids=str,
    )
    def test_more_or_less_than_belongs(self, parts: dict[str, bytes]) -> None:
        """RFC 5280 §4.1: wherever it is, and `cryptography` says so, too."""
        assert unread(**parts).startswith("not a certificate: ")
        with pytest.raises(ValueError, match="parsing"):
            x509.load_der_x509_certificate(assemble(**parts))

    def test_names_whose_parts_are_out_of_order(self) -> None:
        """X.690 §11.6: a set has one order, so a name has one encoding."""
        parts = sorted(tlv(0x30, oid(f"2.5.4.{n}"), tlv(0x0C, b"x")) for n in (3, 6))
        assert Certificate(assemble(subject=tlv(0x30, tlv(0x31, *parts))))
        assert "in order" in unread(subject=tlv(0x30, tlv(0x31, *reversed(parts))))

    @pytest.mark.parametrize(
        "subject",
        [
            tlv(0x30, tlv(0x31)),
            tlv(0x30, tlv(0x31), tlv(0x31, tlv(0x30, oid("2.5.4.3"), tlv(0x0C, b"x")))),
            *(tlv(0x30, tlv(0x31, tlv(0x30, oid("2.5.4.3"), value))) for value in (
                tlv(0x2C, tlv(0x0C, b"x")),  # BER: a string in pieces
                tlv(0x33, tlv(0x04, b"x")),
                tlv(0x31, tlv(0x0C, b"x")),
                tlv(0x8C, b"x"),
                tlv(0x03, b"\x01\x03"),  # unused bits that are set
                tlv(0x23, tlv(0x03, b"\x00x")),
            )),
        ],
        ids=bytes.hex,
    )  # fmt: skip
    def test_another_encoding_of_a_name(self, subject: bytes) -> None:
        """Attack: a federated authority called like ours to OpenSSL, which reads BER, and to nobody else."""
        assert unread(subject=subject).startswith("not a certificate: ")

    def test_numbers_of_any_size(self) -> None:
        """Attack: a number that takes Python too many digits to say, in a bundle of somebody else's."""
        for octets in (b"\x01" * 1800, b"\x01" * 65):
            assert f"an INTEGER of {len(octets)} bytes" in unread(version=tlv(0xA0, tlv(0x02, octets)))
            assert f"an INTEGER of {len(octets)} bytes" in unread(serial=tlv(0x02, octets))
        assert "but 0x1" in unread(version=tlv(0xA0, tlv(0x02, b"\x01" * 64)))

    def test_what_nobody_foresaw(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A bug of the reader is a refused certificate, and nothing worse."""

        def fall_over(*_: object) -> None:
            raise RecursionError("deep")

        certificate = Certificate(ROOT.der)
        monkeypatch.setattr(_certificate, "read_extensions", fall_over)
        with pytest.raises(BundleError, match="extensions cannot be read: deep"):
            _ = certificate.extensions
        monkeypatch.setattr(_certificate, "read_parts", fall_over)
        with pytest.raises(BundleError, match="not a certificate: deep"):
            Certificate(ROOT.der)

    def test_bytes_that_change(self) -> None:
        """What was read stays, whatever becomes of the buffer."""
        buffer = bytearray(ROOT.der)
        certificate = Certificate(buffer)
        buffer[:] = bytes(len(buffer))
        assert (bytes, ROOT.der) == (type(certificate.der), certificate.der)

    def test_unique_identifiers_are_read_past(self) -> None:
        """RFC 5280 §4.1.2.8: long out of use, and no reason to fall over."""
        unique = tlv(0x81, b"\x00one") + tlv(0x82, b"\x00two")
        more = extension("2.5.29.14", tlv(0x04, b"id"))
        assert b"id" == Certificate(assemble(unique=unique, extensions=extensions(more))).extensions.key_identifier


class TestExtensionsMalformed:
    def test_there_twice(self) -> None:
        """RFC 5280 §4.2: two of a kind, of which a careless reader sees one; also if it is of no interest."""
        for dotted in ("2.5.29.99", "2.5.29.17"):
            twice = extensions(*[extension(dotted, tlv(0x30))] * 2)
            with pytest.raises(BundleError, match=f"the extension {dotted} is there twice"):
                _ = Certificate(assemble(extensions=twice)).extensions

    @pytest.mark.parametrize("dotted", ["2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.35", "2.5.29.37"])
    @pytest.mark.parametrize("value", [b"", b"\xff\xff", b"\x05\x00"], ids=repr)
    def test_another_type(self, dotted: str, value: bytes) -> None:
        """RFC 5280 §4.2: those that are looked at must be what they are."""
        unread_extension(dotted, value)

    @pytest.mark.parametrize(
        ("dotted", "good"),
        [
            ("2.5.29.14", tlv(0x04, b"id")),
            ("2.5.29.15", tlv(0x03, b"\x07\x80")),
            ("2.5.29.17", tlv(0x30)),
            ("2.5.29.19", tlv(0x30)),
            ("2.5.29.30", tlv(0x30)),
            ("2.5.29.35", tlv(0x30, tlv(0x80, b"id"))),
            ("2.5.29.37", tlv(0x30)),
        ],
    )
    def test_trailing_bytes(self, dotted: str, good: bytes) -> None:
        """X.690: nothing after it."""
        assert "nothing more belongs" in unread_extension(dotted, good, b"\x05\x00")

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            (tlv(0x86, b"spiffe://\xe4.test/x"), "not ASCII"),
            (tlv(0x82, "ä".encode()), "not ASCII"),
            (tlv(0x87, b"123"), "an IP address of 3 bytes"),
            (tlv(0x88, b""), "OBJECT IDENTIFIER"),
            (tlv(0x88, bytes(200)), "OBJECT IDENTIFIER"),
            (tlv(0xA3, b"\x05\x00"), "which cannot be read"),
            (tlv(0xA5, b"\x05\x00"), "which cannot be read"),
            (tlv(0x0C, b"spiffe://a.test/x"), "which cannot be read"),
            (tlv(0xA0, oid("1.2.3")), "none at byte"),
            (tlv(0xA0, oid("1.2.3"), tlv(0xA0, b"\x05\x00"), b"\x05\x00"), "nothing more belongs"),
            (tlv(0xA4, tlv(0x30), b"\x05\x00"), "nothing more belongs"),
            (tlv(0xA4, tlv(0x31)), "tag 0x31"),
        ],
        ids=repr,
    )
    def test_names(self, name: bytes, why: str) -> None:
        """RFC 5280 §4.2.1.6: of eight kinds; two of these nobody has ever read."""
        assert re.search(why, unread_extension("2.5.29.17", tlv(0x30, name)))

    @pytest.mark.parametrize(
        "inside",
        [
            tlv(0x02, b"\x01"),  # of no CA
            tlv(0x01, b"\xff") + tlv(0x02, b"\xff"),  # below zero
            tlv(0x01, b"\x00"),  # a default that is written down
            tlv(0x01, b"\x01"),
            tlv(0x01, b"\xff") + tlv(0x02, b"\x01") + b"\x05\x00",
        ],
        ids=repr,
    )
    def test_basic_constraints(self, inside: bytes) -> None:
        """RFC 5280 §4.2.1.9: a path length is of a CA and not negative; X.690 §11.1, §11.5."""
        unread_extension("2.5.29.19", tlv(0x30, inside))

    def test_a_key_usage_of_nothing(self) -> None:
        """A BIT STRING without bits: the key is for nothing."""
        usage = Certificate(assemble(extensions=extensions(extension("2.5.29.15", tlv(0x03, b"\x00")))))
        assert (False, False, False) == plain(ours(usage))["key_usage"]


class TestValue:
    CERTIFICATE = Certificate(ROOT.der)

    def test_equal_by_bytes(self) -> None:
        """And nothing else."""
        assert {self.CERTIFICATE} == {Certificate(ROOT.der)}
        assert self.CERTIFICATE != Certificate(KINDS["leaf"].der)

    def test_frozen(self) -> None:
        """What was read stays."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            self.CERTIFICATE.not_after = AT

    def test_travels_by_its_bytes(self) -> None:
        """Also after `cryptography` has read it, whose objects do not travel."""
        assert self.CERTIFICATE.x509
        assert self.CERTIFICATE == pickle.loads(pickle.dumps(self.CERTIFICATE))

    def test_repr_is_short(self) -> None:
        """For a log line."""
        assert f"<Certificate {ROOT.certificate.serial_number:x}, until 2030-01-01T01:00:00Z>" == repr(self.CERTIFICATE)

    def test_of_either_kind(self) -> None:
        """Ours stays the same object, theirs is read."""
        assert self.CERTIFICATE is certificate_of(self.CERTIFICATE)
        assert self.CERTIFICATE == certificate_of(ROOT.certificate)

    def test_what_cryptography_does_not_read(self) -> None:
        """A typed error, when somebody asks for it: a PrintableString with an asterisk."""
        odd = Certificate(assemble(subject=tlv(0x30, tlv(0x31, tlv(0x30, oid("2.5.4.3"), tlv(0x13, b"*"))))))
        with pytest.raises(BundleError, match="cryptography cannot read the certificate"):
            _ = odd.x509

    def test_a_key_off_its_curve(self) -> None:
        """A typed error, too."""
        with pytest.raises(BundleError, match="public key cannot be read"):
            Certificate(assemble()).public_key()

    def test_remembered_if_it_is_small(self) -> None:
        """Authorities come again with each update; what a stranger sends fills no memory."""
        assert parse_certificate(ROOT.der) is parse_certificate(bytes(bytearray(ROOT.der)))
        large = sign_leaf(None, extra=[(raw_extension("1.2.3.4", bytes(4096)), False)]).der
        assert parse_certificate(large) == parse_certificate(large)
        assert parse_certificate(large) is not parse_certificate(large)
