"""The certificate authority: what it issues keeps every rule of the standards."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spiffe_client.bundle import BundleSet, JwtBundle, SpiffeBundle, X509Bundle
from spiffe_client.bundle.experimental import WitBundle
from spiffe_client.dev import CertificateAuthority
from spiffe_client.errors import InvalidIdError, X509SvidError
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.svid import verify_jwt_svid
from spiffe_client.svid.experimental import WitSvid, verify_wit_svid
from tests.support.stepping_clock import SteppingClock

NOW = datetime(2030, 1, 1, 12, 0, 0, 250000, tzinfo=UTC)
A = TrustDomain("a.test")
ORDERS = SpiffeId.parse("spiffe://a.test/orders")


@pytest.fixture
def ca() -> CertificateAuthority:
    return CertificateAuthority(A, clock=SteppingClock(NOW))


def extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.Extension[x509.ExtensionType]:
    return certificate.extensions.get_extension_for_class(kind)


class TestX509Svid:
    def test_verifies_against_the_bundle(self, ca: CertificateAuthority) -> None:
        """The whole chain, as a peer verifies it (X509-SVID §5)."""
        svid = ca.issue_x509_svid(ORDERS, hint="internal")

        svid.verify(BundleSet([ca.x509_bundle]), at=NOW)
        assert (ORDERS, "internal", 2) == (svid.id, svid.hint, len(svid.chain))

    def test_without_an_intermediate_the_root_signs(self) -> None:
        """Then the leaf goes alone."""
        ca = CertificateAuthority(A, intermediate=False, clock=SteppingClock(NOW))
        svid = ca.issue_x509_svid(ORDERS)

        svid.verify(BundleSet([ca.x509_bundle]), at=NOW)
        assert 1 == len(svid.chain)
        assert ca.issuer.subject == svid.leaf.issuer

    def test_leaf_extensions(self, ca: CertificateAuthority) -> None:
        """One URI SAN (X509-SVID §2), critical key usage of digitalSignature only (§4.3), both EKUs (§4.4)."""
        leaf = ca.issue_x509_svid(ORDERS, dns_names=["orders.internal", "orders.alt"]).leaf
        names = extension(leaf, x509.SubjectAlternativeName).value
        usage = extension(leaf, x509.KeyUsage)
        constraints = extension(leaf, x509.BasicConstraints)

        assert [str(ORDERS)] == names.get_values_for_type(x509.UniformResourceIdentifier)
        assert ["orders.internal", "orders.alt"] == names.get_values_for_type(x509.DNSName)
        assert usage.critical
        assert usage.value.digital_signature
        assert not (usage.value.key_cert_sign or usage.value.crl_sign)
        assert constraints.critical
        assert not constraints.value.ca
        assert [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH] == list(
            extension(leaf, x509.ExtendedKeyUsage).value
        )
        assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)

    def test_signing_certificates(self, ca: CertificateAuthority) -> None:
        """CA, keyCertSign, and the trust domain's own ID without a path (X509-SVID §3.2, §4)."""
        for certificate in (ca.x509_bundle.authorities[0], ca.issue_x509_svid(ORDERS).chain[1]):
            names = extension(certificate, x509.SubjectAlternativeName).value
            assert ["spiffe://a.test"] == names.get_values_for_type(x509.UniformResourceIdentifier)
            assert extension(certificate, x509.BasicConstraints).value.ca
            assert extension(certificate, x509.BasicConstraints).critical
            assert extension(certificate, x509.KeyUsage).value.key_cert_sign
            assert extension(certificate, x509.KeyUsage).critical

    def test_key_identifiers_chain(self, ca: CertificateAuthority) -> None:
        """So that two roots of the same name are told apart (RFC 5280 §4.2.1.1)."""
        svid = ca.issue_x509_svid(ORDERS)
        links = zip(svid.chain, [*svid.chain[1:], ca.x509_bundle.authorities[0]], strict=True)
        for lower, upper in links:
            assert (
                extension(upper, x509.SubjectKeyIdentifier).value.digest
                == extension(lower, x509.AuthorityKeyIdentifier).value.key_identifier
            )

    @pytest.mark.parametrize(
        ("dns_names", "common_name"), [((), []), (("a.internal",), ["a.internal"]), (("a" * 60 + ".internal",), [])]
    )
    def test_common_name(self, ca: CertificateAuthority, dns_names: tuple[str, ...], common_name: list[str]) -> None:
        """The first DNS name, where it fits into the 64 characters of a common name."""
        subject = ca.issue_x509_svid(ORDERS, dns_names=dns_names).leaf.subject

        assert common_name == [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]

    def test_a_long_trust_domain_fits(self) -> None:
        """A trust domain's name has up to 255 characters, a common name 64 (SPIFFE-ID §2.1)."""
        ca = CertificateAuthority("a" * 255)

        assert ca.issue_x509_svid(f"spiffe://{'a' * 255}/x").id.path == "/x"

    @pytest.mark.parametrize("ttl", [1.0, 0.5, 60.0])
    def test_life_is_never_shorter_than_asked(self, ca: CertificateAuthority, ttl: float) -> None:
        """Certificates count whole seconds: rounded up, or a second would be none."""
        svid = ca.issue_x509_svid(ORDERS, ttl=ttl)

        assert NOW + timedelta(seconds=ttl) <= svid.not_after < NOW + timedelta(seconds=ttl + 1)
        assert svid.not_before < NOW

    def test_whole_seconds_stay(self) -> None:
        """Nothing is added to a time that needs no rounding."""
        now = NOW.replace(microsecond=0)
        svid = CertificateAuthority(A, clock=SteppingClock(now)).issue_x509_svid(ORDERS, ttl=60)

        assert now + timedelta(seconds=60) == svid.not_after

    def test_no_svid_outlives_the_authority(self) -> None:
        """A chain is as good as its shortest-lived part."""
        ca = CertificateAuthority(A, ttl=30, clock=SteppingClock(NOW))

        assert ca.issuer.not_valid_after_utc == ca.issue_x509_svid(ORDERS, ttl=3600).not_after

    def test_every_svid_has_its_own_key_and_serial(self, ca: CertificateAuthority) -> None:
        """A rotated identity shares nothing with the former one."""
        one, two = ca.issue_x509_svid(ORDERS), ca.issue_x509_svid(ORDERS)

        assert one.serial_number != two.serial_number
        assert one.leaf.public_key() != two.leaf.public_key()

    @pytest.mark.parametrize("spiffe_id", ["spiffe://b.test/orders", "spiffe://a.test"])
    def test_nobody_elses_identity_is_issued(self, ca: CertificateAuthority, spiffe_id: str) -> None:
        """Another trust domain's, or the trust domain's own (X509-SVID §2)."""
        with pytest.raises(InvalidIdError, match=f"cannot issue {spiffe_id}"):
            ca.issue_x509_svid(spiffe_id)
        with pytest.raises(InvalidIdError, match=f"cannot issue {spiffe_id}"):
            ca.issue_jwt_svid(spiffe_id, "me")

    def test_a_dns_name_that_is_none(self, ca: CertificateAuthority) -> None:
        """A typed error, not the builder's."""
        with pytest.raises(X509SvidError, match="not a DNS name: 'bücher'"):
            ca.issue_x509_svid(ORDERS, dns_names=["bücher"])

    def test_a_forged_identity_verifies_nowhere(self, ca: CertificateAuthority) -> None:
        """B signs spiffe://a.test: in order but for the authority, and refused (X509-SVID §5)."""
        forger = CertificateAuthority("b.test", clock=SteppingClock(NOW))
        forged = forger.forge_x509_svid(ORDERS, dns_names=["orders.internal"])

        assert ORDERS == forged.id
        with pytest.raises(X509SvidError):
            forged.verify(BundleSet([ca.x509_bundle, forger.x509_bundle]), at=NOW)


class TestJwtSvid:
    def test_verifies_against_the_bundle(self, ca: CertificateAuthority) -> None:
        """Offline, as a service does it (JWT-SVID §2-5)."""
        token = ca.issue_jwt_svid(ORDERS, "billing", ttl=60)
        svid = verify_jwt_svid(token, BundleSet([ca.jwt_bundle]), audience="billing", at=NOW)

        assert (ORDERS, {"billing"}) == (svid.id, svid.audience)
        assert NOW + timedelta(seconds=60) <= svid.expires_at < NOW + timedelta(seconds=61)

    def test_another_implementation_agrees(self, ca: CertificateAuthority) -> None:
        """PyJWT, from the JWK Set as it is published (JWT-SVID §6)."""
        token = ca.issue_jwt_svid(ORDERS, ["billing", "orders"])
        [jwk] = json.loads(ca.jwt_bundle.to_jwks())["keys"]
        claims = jwt.decode(
            token, jwt.PyJWK(jwk).key, algorithms=["ES256"], audience="orders", options={"verify_exp": False, "verify_iat": False}
        )

        assert {"alg": "ES256", "kid": jwk["kid"], "typ": "JWT"} == jwt.get_unverified_header(token)
        assert {
            "sub": str(ORDERS),
            "aud": ["billing", "orders"],
            "iat": int(NOW.timestamp()),
            "exp": int(NOW.timestamp()) + 301,
        } == claims


class TestWitSvid:
    def test_token_and_key(self, ca: CertificateAuthority) -> None:
        """Signed by a key of the WIT bundle, bound to the key that goes along (WIT-SVID §2-4, experimental)."""
        token, key = ca.issue_wit_svid(ORDERS, ttl=60)
        [jwk] = json.loads(ca.wit_bundle.to_jwks())["keys"]
        claims = jwt.decode(
            token, jwt.PyJWK(jwk).key, algorithms=["ES256"], options={"verify_exp": False, "verify_iat": False}
        )
        private = json.loads(key)

        assert {"alg": "ES256", "kid": jwk["kid"], "typ": "wit+jwt"} == jwt.get_unverified_header(token)
        assert str(ORDERS) == claims["sub"]
        assert "aud" not in claims
        assert {n: v for n, v in private.items() if n != "d"} == claims["cnf"]["jwk"]
        assert "ES256" == claims["cnf"]["jwk"]["alg"]
        assert jwt.PyJWK(private).key.public_key() == jwt.PyJWK(claims["cnf"]["jwk"]).key
        assert WitSvid.parse_unverified(token, key).wit == verify_wit_svid(
            token, BundleSet([ca.wit_bundle]), possession=lambda *_: None, at=NOW
        )
        assert ca.wit_bundle == WitBundle.parse_jwks(A, ca.wit_bundle.to_jwks())


class TestRotation:
    def test_old_and_new_svids_verify_during_the_overlap(self, ca: CertificateAuthority) -> None:
        """Nothing that was issued becomes bad by a rotation."""
        old = ca.issue_x509_svid(ORDERS)
        token = ca.issue_jwt_svid(ORDERS, "me")
        ca.rotate_x509_authority()
        ca.rotate_jwt_authority()
        new = ca.issue_x509_svid(ORDERS)

        bundles = BundleSet([ca.x509_bundle])
        old.verify(bundles, at=NOW)
        new.verify(bundles, at=NOW)
        assert old.leaf.issuer == new.leaf.issuer  # the names are the same, only the keys tell
        for t in (token, ca.issue_jwt_svid(ORDERS, "me")):
            verify_jwt_svid(t, BundleSet([ca.jwt_bundle]), audience="me", at=NOW)

    def test_prepared_authorities_are_published_and_do_not_sign(self, ca: CertificateAuthority) -> None:
        """So that peers know an authority before they meet what it signed."""
        issuer = ca.issuer
        ca.prepare_x509_authority()
        ca.prepare_x509_authority()  # again: it is prepared already
        ca.prepare_jwt_authority()
        published, keys = ca.x509_bundle, ca.jwt_bundle

        assert (2, 2) == (len(published.authorities), len(keys.authorities))
        assert issuer is ca.issuer
        ca.rotate_x509_authority()
        ca.rotate_jwt_authority()
        assert issuer is not ca.issuer
        assert (published, {k.key_id for k in keys.authorities}) == (
            ca.x509_bundle,
            {k.key_id for k in ca.jwt_bundle.authorities},
        )

    def test_retiring_ends_what_old_authorities_signed(self, ca: CertificateAuthority) -> None:
        """And leaves what the new ones sign."""
        old = ca.issue_x509_svid(ORDERS)
        ca.rotate_x509_authority()
        ca.rotate_jwt_authority()
        ca.retire_old_authorities()

        assert (1, 1) == (len(ca.x509_bundle.authorities), len(ca.jwt_bundle.authorities))
        ca.issue_x509_svid(ORDERS).verify(BundleSet([ca.x509_bundle]), at=NOW)
        with pytest.raises(X509SvidError):
            old.verify(BundleSet([ca.x509_bundle]), at=NOW)

    def test_the_document_counts_every_change(self, ca: CertificateAuthority) -> None:
        """spiffe_sequence grows with each one (Trust Domain and Bundle §4.1.1)."""
        sequences = [ca.spiffe_bundle.sequence]
        for change in (
            ca.prepare_x509_authority,
            ca.rotate_x509_authority,
            ca.prepare_jwt_authority,
            ca.rotate_jwt_authority,
            ca.retire_old_authorities,
        ):
            change()
            sequences.append(ca.spiffe_bundle.sequence)

        assert [1, 2, 3, 4, 5, 6] == sequences

    def test_subscribers_are_told_until_they_leave(self, ca: CertificateAuthority) -> None:
        """And nothing of them stays behind."""
        told: list[int | None] = []
        leave = ca.subscribe(lambda: told.append(ca.spiffe_bundle.sequence))
        ca.rotate_x509_authority()
        leave()
        ca.rotate_x509_authority()

        assert [2] == told


class TestBundles:
    def test_the_document_holds_both_kinds(self, ca: CertificateAuthority) -> None:
        """With sequence and refresh hint, as another trust domain reads it (Trust Domain and Bundle §4)."""
        ca.rotate_x509_authority()
        document = SpiffeBundle.parse(A, ca.spiffe_bundle.to_json())

        assert ca.x509_bundle == document.x509_bundle
        assert ca.jwt_bundle == document.jwt_bundle
        assert (2, 60) == (document.sequence, document.refresh_hint)

    def test_bundles_survive_their_encodings(self, ca: CertificateAuthority) -> None:
        """What is sent is what is held."""
        assert ca.x509_bundle == X509Bundle.parse_der(A, ca.x509_bundle.to_der())
        assert ca.jwt_bundle == JwtBundle.parse_jwks(A, ca.jwt_bundle.to_jwks())

    def test_secrets_do_not_show(self, ca: CertificateAuthority) -> None:
        """No key in any repr on the way."""
        assert "key=" not in repr(ca._x509.active)
        assert "key=" not in repr(ca._jwt.active)
