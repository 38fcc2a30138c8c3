"""Who signed a certificate: the usual algorithms by us, all others by `cryptography.x509`."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS

from spiffe_client.bundle import Certificate
from spiffe_client.svid import _signature
from spiffe_client.svid._signature import signed_by, weak_hash
from tests.support.der import assemble
from tests.support.odd_certificates import Signed, distinguished, raw_extension, sign_ca, sign_leaf
from tests.support.tokens import ec_key, rsa_key

SHA = {256: hashes.SHA256(), 384: hashes.SHA384(), 512: hashes.SHA512()}
USUAL = {
    **{f"ECDSA {n}": (ec_key(), {"digest": h}) for n, h in SHA.items()},
    **{f"RSA {n}": (rsa_key(), {"digest": h}) for n, h in SHA.items()},
    "P-521": (ec_key("P-521"), {}),
    "Ed25519": (ed25519.Ed25519PrivateKey.generate(), {}),
}
UNUSUAL = {
    "ECDSA 224": (ec_key(), {"digest": hashes.SHA224()}, "sha224"),
    "Ed448": (ed448.Ed448PrivateKey.generate(), {}, None),
}


def read(signed: Signed) -> Certificate:
    return Certificate(signed.der)


def forged(leaf: Signed) -> Certificate:
    """The same with another signature of the same kind: that of another leaf."""
    der = leaf.der
    place = der.rindex(Certificate(der).signature) + 12
    return Certificate(der[:place] + bytes([der[place] ^ 1]) + der[place + 1 :])


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may need the other reader."""

    def refuse(_: Certificate) -> None:
        raise AssertionError("cryptography.x509 was asked")

    monkeypatch.setattr(Certificate, "x509", property(refuse))


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("kind", USUAL)
def test_usual_algorithms(kind: str) -> None:
    """RFC 5280 §4.1.1.2: the issuer's signature, over every byte, and nobody else's."""
    key, options = USUAL[kind]
    issuer = sign_ca(key=key)
    leaf = sign_leaf(issuer, **options)
    assert signed_by(read(leaf), read(issuer))
    assert not signed_by(forged(leaf), read(issuer))
    assert None is weak_hash(read(leaf))


@pytest.mark.parametrize("kind", UNUSUAL)
def test_unusual_algorithms(kind: str) -> None:
    """Asked of the other reader; an old hash has a name."""
    key, options, weak = UNUSUAL[kind]
    issuer = sign_ca(key=key)
    leaf = sign_leaf(issuer, **options)
    assert signed_by(read(leaf), read(issuer))
    assert not signed_by(forged(leaf), read(issuer))
    assert weak == weak_hash(read(leaf))


def test_pss() -> None:
    """RFC 4055 §3: RSASSA-PSS."""
    issuer = sign_ca(key=rsa_key())
    root = issuer.certificate
    signed = (
        x509.CertificateBuilder()
        .subject_name(distinguished("leaf"))
        .issuer_name(root.subject)
        .public_key(ec_key().public_key())
        .serial_number(5)
        .not_valid_before(root.not_valid_before_utc)
        .not_valid_after(root.not_valid_after_utc)
        .sign(rsa_key(), hashes.SHA256(), rsa_padding=PSS(MGF1(hashes.SHA256()), 32))
    )
    leaf = Signed(ec_key(), signed)
    assert signed_by(read(leaf), read(issuer))
    assert not signed_by(forged(leaf), read(issuer))
    assert None is weak_hash(read(leaf))


def test_another_key_of_the_same_name() -> None:
    """A root that only looks like it."""
    issuer = sign_ca()
    assert not signed_by(read(sign_leaf(issuer)), read(sign_ca()))


def test_a_key_that_cannot_have_signed_it() -> None:
    """An ECDSA signature and an RSA key."""
    issuer = sign_ca()
    other = sign_ca(key=rsa_key())
    assert not signed_by(read(sign_leaf(issuer)), read(other))


def test_an_algorithm_nobody_knows() -> None:
    """It proves nothing, and cannot be judged."""
    odd = Certificate(assemble(algorithm=bytes.fromhex("300306012a")))
    issuer = Certificate(assemble(subject=odd.issuer, key=read(sign_ca()).public_key_info))
    assert not signed_by(odd, issuer)
    with pytest.raises(UnsupportedAlgorithm):
        weak_hash(odd)


def test_curves_of_the_issuer() -> None:
    """Any of the three, with any of the three hashes."""
    for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()):
        issuer = sign_ca(key=ec.generate_private_key(curve))
        for digest in SHA.values():
            assert signed_by(read(sign_leaf(issuer, digest=digest)), read(issuer))


class TestLightEcdsa:
    """The constructor that is left out loads ciphers; what comes of that is nothing but time."""

    def test_one_that_is_not_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A `cryptography` to come may look for what the constructor sets: then it is called."""

        def refuse(_: hashes.HashAlgorithm) -> None:
            raise AttributeError("_algorithm")

        monkeypatch.setattr(_signature, "_LightEcdsa", refuse)
        issuer = sign_ca()
        leaf = sign_leaf(issuer)
        assert signed_by(read(leaf), read(issuer))
        assert not signed_by(forged(leaf), read(issuer))


class TestRemembered:
    """A pair of certificates is verified once; what is remembered is said of all their bytes."""

    def test_verified_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same bytes again, read anew."""
        issuer = sign_ca()
        leaf = sign_leaf(issuer)
        assert signed_by(read(leaf), read(issuer))
        monkeypatch.setattr(_signature, "_verified", None)
        assert signed_by(read(leaf), read(issuer))

    def test_large_ones_are_verified_each_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Memory is bounded by bytes, too."""
        issuer = sign_ca()
        leaf = sign_leaf(issuer, extra=[(raw_extension("1.2.3.4", bytes(4096)), False)])
        assert signed_by(read(leaf), read(issuer))
        monkeypatch.setattr(_signature, "_verified", None)
        assert not signed_by(read(leaf), read(issuer))

    def test_attack_a_remembered_signature_vouches_for_nothing_else(self) -> None:
        """Neither for a certificate that differs in one bit, nor for an issuer that only looks like the true one."""
        issuer = sign_ca()
        leaf = sign_leaf(issuer)
        for _ in range(2):
            assert signed_by(read(leaf), read(issuer))
            assert not signed_by(forged(leaf), read(issuer))
            assert not signed_by(read(leaf), read(sign_ca()))
            assert not signed_by(read(issuer), read(leaf))

    def test_a_failure_is_not_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may have been one of the moment."""
        issuer = sign_ca()
        leaf = sign_leaf(issuer)
        with monkeypatch.context() as patched:
            patched.setattr(_signature, "_verified", None)
            assert not signed_by(read(leaf), read(issuer))
        assert signed_by(read(leaf), read(issuer))
