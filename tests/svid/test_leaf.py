"""What makes a certificate an X509-SVID that may authenticate somebody."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.errors import X509SvidError
from spiffe_client.svid import check_leaf, leaf_id
from tests.support.odd_certificates import (
    distinguished,
    key_usage,
    patched,
    raw_extension,
    sans,
    sign_ca,
    sign_certificate,
    sign_leaf,
    uri_sans,
)

ROOT = sign_ca()
ID = "spiffe://a.test/peer"
USAGE = (key_usage("digital_signature"), True)
SAN = (uri_sans(ID), False)


def refused(*extensions: tuple[x509.ExtensionType, bool]) -> str:
    """Why a leaf with just these extensions is refused."""
    with pytest.raises(X509SvidError) as e:
        check_leaf(sign_certificate(extensions, issuer=ROOT).certificate)
    return str(e.value)


def passes(*extensions: tuple[x509.ExtensionType, bool], **options: object) -> None:
    certificate = sign_certificate(extensions, issuer=ROOT, **options).certificate
    assert ID == str(check_leaf(certificate)) == str(leaf_id(certificate))


class TestSpiffeId:
    def test_one_uri_with_a_path(self) -> None:
        """X509-SVID §2, §3.1."""
        passes(SAN, USAGE)

    @pytest.mark.parametrize("uris", [(), (ID, ID), (ID, "spiffe://a.test/other"), (ID, "https://a.test/")])
    def test_two_uri_sans_accepted(self, uris: tuple[str, ...]) -> None:
        """X509-SVID §2, §5.2: they are not; exactly one, even if the other is the same or no SPIFFE ID."""
        assert f"{len(uris)} URI SANs" in refused(
            (sans(x509.DNSName("a.test"), *uri_sans(*uris)), False), USAGE
        )

    def test_without_any_san(self) -> None:
        """X509-SVID §2: the common name is nobody's identity."""
        assert "0 URI SANs" in refused(USAGE)

    @pytest.mark.parametrize(
        "name",
        [x509.DNSName("peer.a.test"), x509.RFC822Name("a@a.test"), x509.DirectoryName(distinguished("x"))],
        ids=lambda name: type(name).__name__,
    )
    def test_other_kinds_of_san_are_allowed(self, name: x509.GeneralName) -> None:
        """X509-SVID §2: any number of them."""
        passes((sans(name, *uri_sans(ID)), False), USAGE)

    @pytest.mark.parametrize(
        "uri",
        [
            "https://a.test/peer",
            "spiffe:a.test/peer",
            "spiffe:///peer",
            "spiffe://a.test:80/peer",
            "spiffe://user@a.test/peer",
            "spiffe://a.test/../peer",
            "spiffe://a.test//peer",
            "spiffe://a.test/peer/",
            "spiffe://a.test/%70eer",
            "spiffe://a.test/peer?x",
            "spiffe://a.test/peer#x",
            "spiffe://a.test/" + "x" * 2048,
        ],
    )
    def test_ids_with_dots_double_slashes_or_percent_signs_accepted(self, uri: str) -> None:
        """X509-SVID §5.2, SPIFFE-ID §2: they are not, nor is anything else that is no SPIFFE ID."""
        assert "not a SPIFFE ID" in refused((uri_sans(uri), False), USAGE)

    @pytest.mark.parametrize("uri", ["spiffe://a.test", "SPIFFE://A.TEST"])
    def test_a_trust_domain_is_no_workload(self, uri: str) -> None:
        """X509-SVID §3.1: a leaf has a path that is not the root."""
        assert "no path" in refused((uri_sans(uri), False), USAGE)

    def test_case_is_folded_where_the_standard_says(self) -> None:
        """SPIFFE-ID §2.4: scheme and trust domain; never the path."""
        leaf = sign_leaf(ROOT, "SPIFFE://A.Test/Peer").certificate
        assert "spiffe://a.test/Peer" == str(check_leaf(leaf))


class TestSubject:
    @pytest.mark.parametrize("critical", [True, False])
    def test_empty_subject(self, critical: bool) -> None:
        """X509-SVID §3.1: allowed; that the SAN is critical then is the issuer's duty, not our test."""
        passes((uri_sans(ID), critical), USAGE, subject=distinguished(None))


class TestConstraints:
    @pytest.mark.parametrize("path_length", [None, 0])
    def test_a_ca_authenticates_nobody(self, path_length: int | None) -> None:
        """X509-SVID §4.1, §5.2: a signing certificate is validation material only."""
        rules = (x509.BasicConstraints(ca=True, path_length=path_length), True)
        assert "is a CA" in refused(SAN, USAGE, rules)

    def test_basic_constraints_are_optional(self) -> None:
        """RFC 5280 §4.2.1.9: absent means no CA."""
        passes(SAN, USAGE)
        passes(SAN, USAGE, (x509.BasicConstraints(ca=False, path_length=None), False))


class TestKeyUsage:
    def test_must_be_there(self) -> None:
        """X509-SVID §4.3: set on all SVIDs."""
        assert "no key usage" in refused(SAN)

    def test_must_be_critical(self) -> None:
        """X509-SVID §4.3."""
        assert "not critical" in refused(SAN, (USAGE[0], False))

    def test_must_sign(self) -> None:
        """X509-SVID §4.3: digitalSignature is what authenticates."""
        assert "lacks digitalSignature" in refused(SAN, (key_usage("key_encipherment"), True))

    @pytest.mark.parametrize("use", ["key_cert_sign", "crl_sign"])
    def test_must_not_sign_certificates(self, use: str) -> None:
        """X509-SVID §4.3, §5.2: a leaf accepted as an issuing CA."""
        assert "allows signing" in refused(SAN, (key_usage("digital_signature", use), True))

    @pytest.mark.parametrize("use", ["key_encipherment", "key_agreement"])
    def test_may_encipher(self, use: str) -> None:
        """X509-SVID §4.3."""
        passes(SAN, (key_usage("digital_signature", use), True))


class TestExtendedKeyUsage:
    def test_both_or_none(self) -> None:
        """X509-SVID §4.4: if it is there, it holds both, and may hold more."""
        passes(
            SAN, USAGE, (x509.ExtendedKeyUsage([Eku.CLIENT_AUTH, Eku.SERVER_AUTH, Eku.CODE_SIGNING]), True)
        )

    @pytest.mark.parametrize(
        ("purposes", "missing"),
        [
            ([Eku.CLIENT_AUTH], "lacks serverAuth"),
            ([Eku.SERVER_AUTH], "lacks clientAuth"),
            ([Eku.CODE_SIGNING], "lacks serverAuth and clientAuth"),
            ([Eku.ANY_EXTENDED_KEY_USAGE], "lacks serverAuth and clientAuth"),
        ],
    )
    @pytest.mark.parametrize("role", [None, "server", "client"])
    def test_one_alone_is_refused(
        self, purposes: list[x509.ObjectIdentifier], missing: str, role: object
    ) -> None:
        """X509-SVID §4.4: whichever end presents it; the error says which end that was."""
        leaf = sign_certificate(
            [SAN, USAGE, (x509.ExtendedKeyUsage(purposes), False)], issuer=ROOT
        ).certificate
        with pytest.raises(X509SvidError, match=missing) as e:
            check_leaf(leaf, role=role)
        assert (role is not None) == (f"presented by a {role}" in str(e.value))


class TestUnreadable:
    @pytest.mark.parametrize("oid", ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37"])
    def test_malformed_extensions(self, oid: str) -> None:
        """RFC 5280 §4.2: a typed error, whatever the parser made of it."""
        good = [(e, c) for e, c in (SAN, USAGE) if e.oid.dotted_string != oid]
        assert "extensions cannot be read" in refused((raw_extension(oid), False), *good)

    def test_an_extension_that_is_there_twice(self) -> None:
        """RFC 5280 §4.2: two SAN extensions, of which a careless reader sees one."""
        other = uri_sans("spiffe://a.test/victim").public_bytes()
        leaf = sign_certificate([SAN, USAGE, (raw_extension("2.5.29.99", other), False)], issuer=ROOT)
        twice = patched(leaf.certificate, b"\x06\x03\x55\x1d\x63", b"\x06\x03\x55\x1d\x11", ROOT)
        with pytest.raises(X509SvidError, match="extensions cannot be read"):
            check_leaf(twice)

    @given(st.data())
    def test_a_flipped_byte_gives_an_id_or_the_error(self, data: st.DataObject) -> None:
        """Whatever was damaged, or forged."""
        der = bytearray(LEAF.der)
        der[data.draw(st.integers(0, len(der) - 1))] ^= data.draw(st.integers(1, 255))
        try:
            certificate = x509.load_der_x509_certificate(bytes(der))
        except Exception:
            return
        try:
            check_leaf(certificate)
        except X509SvidError:
            pass


LEAF = sign_leaf(ROOT, extra=[(x509.ExtendedKeyUsage([Eku.CLIENT_AUTH, Eku.SERVER_AUTH]), False)])
