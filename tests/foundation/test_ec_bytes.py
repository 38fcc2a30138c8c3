"""EC keys as bytes, against `cryptography`'s."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client._ec import load_private_der, load_public_der, public_der
from tests.support.case_ids import kind_of
from tests.support.der import oid, tlv
from tests.support.tokens import rsa_key

KEYS = {curve.name: ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())}
OTHERS = {
    "secp256k1": ec.generate_private_key(ec.SECP256K1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "RSA": rsa_key(),
}
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
P256 = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")


def spki(key: Key, point: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, point)


def pkcs8(key: Key) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("curve", KEYS)
def test_the_same_as_cryptography(curve: str) -> None:
    """RFC 5480 §2, RFC 5958 §2: read and written."""
    key = KEYS[curve]
    assert spki(key) == public_der(key.public_key())
    assert key.public_key() == load_public_der(spki(key))
    loaded = load_private_der(pkcs8(key))
    assert loaded is not None
    assert key.private_numbers() == loaded.private_numbers()


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_are_left_to_others(kind: str) -> None:
    """None is no refusal."""
    key = OTHERS[kind]
    assert (None, None, None) == (public_der(key.public_key()), load_public_der(spki(key)), load_private_der(pkcs8(key)))


def test_a_compressed_point_is_left_to_others() -> None:
    """RFC 5480 §2.2: allowed, and hardly ever seen."""
    key = KEYS["secp256r1"]
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    assert None is load_public_der(tlv(0x30, P256, tlv(0x03, b"\0", point)))
    whole = spki(key)
    assert None is load_public_der(whole[:26] + b"\x06" + whole[27:])  # the hybrid form


def test_a_point_off_its_curve() -> None:
    """An error, as of `cryptography`."""
    whole = spki(KEYS["secp256r1"])
    with pytest.raises(ValueError):
        load_public_der(whole[:-1] + bytes([whole[-1] ^ 1]))


def private(version: int = 0, algorithm: bytes = P256, first: int = 1, scalar: bytes = b"\1" * 32, more: bytes = b"") -> bytes:
    inside = tlv(0x30, tlv(0x02, bytes([first])), tlv(0x04, scalar))
    return tlv(0x30, tlv(0x02, bytes([version])), algorithm, tlv(0x04, inside), more)


def test_made_by_hand() -> None:
    """RFC 5915 §3: without the public key; what follows changes one part of it."""
    loaded = load_private_der(private())
    assert loaded is not None
    assert int("01" * 32, 16) == loaded.private_numbers().private_value


@pytest.mark.parametrize(
    "der",
    [
        b"",
        private()[:-1],
        private() + b"\0",
        private(version=1),
        private(first=2),
        private(algorithm=tlv(0x30, oid("1.2.3"))),
        private(scalar=bytes(32)),  # zero is no key
        private(scalar=b"\xff" * 32),  # nor is what is larger than the order
        private(scalar=b"\1" * 31),
        private(scalar=b"\1" * 33),
        private(more=tlv(0xA0)),  # attributes
        KEYS["secp256r1"].private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
        KEYS["secp256r1"].private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    ],
    ids=kind_of,
)
def test_unusual_keys_are_left_to_others(der: bytes) -> None:
    """Which read them or do not."""
    assert None is load_private_der(der)


@given(st.data())
def test_a_damaged_key_is_read_the_same_or_not_at_all(data: st.DataObject) -> None:
    """Never as another key than `cryptography` reads, but for a public key that does not belong to it."""
    der = bytearray(pkcs8(KEYS[data.draw(st.sampled_from(sorted(KEYS)))]))
    der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    mine = load_private_der(bytes(der))
    if mine is None:
        return
    try:
        theirs = load_der_private_key(bytes(der), None)
    except ValueError:
        return
    assert isinstance(theirs, ec.EllipticCurvePrivateKey)
    assert theirs.private_numbers().private_value == mine.private_numbers().private_value
