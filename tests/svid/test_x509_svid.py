"""The X509-SVID of a workload: parsed whole or refused, and its key stays out of sight."""

from __future__ import annotations

import dataclasses
import pickle
import traceback
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.errors import BundleNotFoundError, X509SvidError
from spiffe_client.svid import X509Svid
from tests.support.case_ids import kind_of
from tests.support.odd_certificates import (
    AT,
    HOUR,
    bundle_of,
    patched,
    private_der,
    sign_ca,
    sign_leaf,
)
from tests.support.tokens import ec_key, rsa_key

ROOT = sign_ca()
INNER = sign_ca(ROOT, cn="inner")
LEAF = sign_leaf(INNER)
CHAIN = LEAF.der + INNER.der
KEY = private_der(LEAF.key)
PEM = LEAF.pem + INNER.pem
SVID = X509Svid.parse_der(CHAIN, KEY, hint="internal")


def refused(chain: bytes = CHAIN, key: bytes = KEY) -> str:
    with pytest.raises(X509SvidError) as e:
        X509Svid.parse_der(chain, key)
    return str(e.value)


def pem_of(key: ec.EllipticCurvePrivateKey, format: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, format, NoEncryption())


class TestParse:
    def test_der(self) -> None:
        """Workload API §5: DER chain concatenated, leaf first; PKCS#8 key."""
        assert "spiffe://a.test/peer" == str(SVID.id)
        assert (LEAF.certificate, INNER.certificate) == SVID.chain
        assert LEAF.certificate == SVID.leaf
        assert (LEAF.der, INNER.der) == SVID.ders
        assert (AT - HOUR, AT + HOUR) == (SVID.not_before, SVID.not_after)
        assert LEAF.certificate.serial_number == SVID.serial_number
        assert "internal" == SVID.hint

    def test_pem(self) -> None:
        """The same out of files, whose keys may be in the older forms too."""
        for format in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            assert dataclasses.replace(SVID, hint="") == X509Svid.load_pem(PEM, pem_of(LEAF.key, format))

    @pytest.mark.parametrize(
        "key",
        [ec_key(), ec_key("P-384"), ec_key("P-521"), rsa_key(), ed25519.Ed25519PrivateKey.generate()],
        ids=kind_of,
    )
    def test_kinds_of_key(self, key: ec.EllipticCurvePrivateKey) -> None:
        """X.509 allows Ed25519, which JWT-SVIDs do not."""
        svid = X509Svid.parse_der(sign_leaf(ROOT, key=key).der, private_der(key))
        assert key.public_key() == svid.private_key.public_key()

    def test_what_is_written_is_read_again(self) -> None:
        """PEM in memory, for a TLS stack that takes nothing else."""
        again = X509Svid.load_pem(SVID.chain_pem(), SVID.key_pem().reveal(), hint="internal")
        assert SVID == again
        assert PEM == SVID.chain_pem()
        assert isinstance(load_pem_private_key(SVID.key_pem().reveal(), None), ec.EllipticCurvePrivateKey)


class TestChainRefused:
    @pytest.mark.parametrize("chain", [b"", b"\0", CHAIN[:-1], CHAIN + b"\0", PEM, b"\x30\x00"])
    def test_damaged(self, chain: bytes) -> None:
        """Workload API §5: an empty mandatory field, half a chain, trailing garbage."""
        refused(chain)

    def test_limits(self) -> None:
        """64 KiB and 16 certificates, counted before they are parsed."""
        assert "at most 65536" in refused(bytes(65537))
        assert "more than 16" in refused(LEAF.der + ROOT.der * 16)
        with pytest.raises(X509SvidError, match="at most 131072"):
            X509Svid.load_pem(bytes(131073), b"")
        with pytest.raises(X509SvidError, match="more than 16"):
            X509Svid.load_pem(PEM + ROOT.pem * 15, b"")

    def test_leaf_rules_hold(self) -> None:
        """X509-SVID §2-4: what peers would refuse is not served."""
        two = sign_leaf(ROOT, "spiffe://a.test/one", "spiffe://a.test/two")
        assert "2 URI SANs" in refused(two.der, private_der(two.key))
        assert "0 URI SANs" in refused(ROOT.der, private_der(ROOT.key))

    def test_the_leaf_must_come_first(self) -> None:
        """Workload API §5."""
        refused(INNER.der + LEAF.der)

    def test_a_leaf_with_a_weak_key(self) -> None:
        """RSA of 1024 bits."""
        leaf = sign_leaf(ROOT, key=rsa_key(1024))
        assert "1024 bits" in refused(leaf.der, private_der(leaf.key))

    def test_a_leaf_whose_key_cannot_be_read(self) -> None:
        """An unknown curve is a typed error."""
        old, new = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03016f")
        leaf = patched(sign_leaf(ROOT).certificate, old, new, ROOT)
        assert "public key cannot be read" in refused(leaf.public_bytes(Encoding.DER))

    def test_no_certificates(self) -> None:
        """The constructor keeps the same rules as the parsers."""
        with pytest.raises(X509SvidError, match="without certificates"):
            X509Svid((), LEAF.key)
        with pytest.raises(X509SvidError, match="does not belong"):
            X509Svid((LEAF.certificate,), ROOT.key)


class TestKeyRefused:
    @pytest.mark.parametrize("key", [b"", b"\0", KEY[:-1], b"\x30\x00", LEAF.der, pem_of(LEAF.key)])
    def test_damaged(self, key: bytes) -> None:
        """Workload API §5: PKCS#8, DER."""
        assert "the private key cannot be read: PKCS#8 without encryption is expected" == refused(key=key)

    @pytest.mark.parametrize("tail", [b"\0", b"\x30\x00", KEY])
    def test_trailing_bytes(self, tail: bytes) -> None:
        """One key and nothing after it."""
        assert "cannot be read" in refused(key=KEY + tail)

    def test_encrypted(self) -> None:
        """Workload API §5: unencrypted."""
        locked = LEAF.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
        assert "without encryption" in refused(key=locked)

    def test_too_large(self) -> None:
        """16 KiB."""
        assert "at most 16384" in refused(key=bytes(16385))
        assert "cannot be read" in refused(key=bytes(16384))

    def test_another_key(self) -> None:
        """H: the key matches the certificate; of the same kind or not."""
        for other in (ec_key(), ec_key("P-384"), rsa_key(), ed25519.Ed25519PrivateKey.generate()):
            assert "the private key does not belong to the leaf" == refused(key=private_der(other))

    @pytest.mark.parametrize(
        "key", [x25519.X25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()], ids=kind_of
    )
    def test_other_kinds(self, key: object) -> None:
        """Keys that no SVID has."""
        assert "neither EC, RSA nor Ed25519" in refused(key=private_der(key))


class TestSecrecy:
    def test_the_key_is_nowhere_to_be_seen(self) -> None:
        """Not in repr, str, or what `key_pem` returns."""
        secret = format(LEAF.key.private_numbers().private_value, "x")
        for shown in (repr(SVID), str(SVID), repr(SVID.key_pem())):
            assert "private" not in shown.lower()
            assert secret not in shown
        assert "PRIVATE" not in f"{SVID.key_pem()}"

    def test_not_in_pickles(self) -> None:
        """Keys do not travel between processes by accident."""
        with pytest.raises(TypeError):
            pickle.dumps(SVID)

    def test_errors_say_nothing_about_the_key(self) -> None:
        """Nor do their causes and contexts."""
        damaged = KEY[:-1] + bytes([KEY[-1] ^ 1])
        try:
            X509Svid.parse_der(CHAIN, damaged[:-4] + b"abcd")
        except X509SvidError as error:
            assert KEY[40:50].hex() not in "".join(traceback.format_exception(error))
            assert None is error.__context__


class TestValue:
    def test_equal_by_content(self) -> None:
        """The same SVID parsed twice is the same; another hint is another."""
        again = X509Svid.parse_der(CHAIN, KEY, hint="internal")
        assert {SVID} == {again}
        assert SVID != dataclasses.replace(SVID, hint="")

    def test_frozen(self) -> None:
        """An SVID in use never changes."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            SVID.hint = "x"


class TestVerify:
    def test_against_its_own_bundle(self) -> None:
        """H: a received SVID leads to the bundle of the same message, and has not expired."""
        SVID.verify(bundle_of(ROOT), at=AT)
        with pytest.raises(X509SvidError):
            SVID.verify(bundle_of(sign_ca()), at=AT)
        with pytest.raises(BundleNotFoundError):
            SVID.verify(bundle_of(ROOT, trust_domain="b.test"), at=AT)
        with pytest.raises(X509SvidError, match="expired"):
            SVID.verify(bundle_of(ROOT), at=AT + HOUR + timedelta(seconds=1))


class TestAnyBytes:
    @given(st.binary(max_size=100), st.binary(max_size=100))
    def test_give_the_error(self, chain: bytes, key: bytes) -> None:
        """Nothing else, whatever is broken."""
        for bad_chain, bad_key in ((chain, key), (CHAIN, key), (chain, KEY)):
            for parse in (X509Svid.parse_der, X509Svid.load_pem):
                with pytest.raises(X509SvidError):
                    parse(bad_chain, bad_key)

    # A serial number that a flipped bit makes negative: cryptography warns of it still, and will refuse it.
    @pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
    @given(st.data())
    def test_a_flipped_byte_gives_an_svid_or_the_error(self, data: st.DataObject) -> None:
        """In the chain or in the key."""
        chain, key = bytearray(CHAIN), bytearray(KEY)
        which = data.draw(st.sampled_from([chain, key]))
        which[data.draw(st.integers(0, len(which) - 1))] ^= data.draw(st.integers(1, 255))
        try:
            assert isinstance(X509Svid.parse_der(bytes(chain), bytes(key)).leaf, x509.Certificate)
        except X509SvidError:
            pass
