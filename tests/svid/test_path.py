"""Certification paths: found among what was sent, and judged by RFC 5280 §6."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.errors import BundleNotFoundError, X509SvidError
from spiffe_client.ids import TrustDomain
from spiffe_client.svid import check_signer, examine_x509_svid, verify_x509_svid
from tests.support.odd_certificates import (
    AT,
    HOUR,
    Signed,
    bundle_of,
    distinguished,
    key_usage,
    patched,
    raw_extension,
    sign_ca,
    sign_certificate,
    sign_leaf,
    uri_sans,
)

SECOND = timedelta(seconds=1)


def verify(chain: list[Signed], *anchors: Signed, at: datetime = AT) -> str:
    return str(verify_x509_svid([s.certificate for s in chain], bundle_of(*anchors), at=at))


def refused(chain: list[Signed], *anchors: Signed, at: datetime = AT) -> str:
    """Why a chain is refused."""
    with pytest.raises(X509SvidError) as e:
        verify(chain, *anchors, at=at)
    return str(e.value)


class TestSearch:
    def test_deep_chains_in_any_order(self) -> None:
        """RFC 5280 §6: what is sent are hints; the path is what signatures say."""
        root = sign_ca()
        cas = [root]
        for n in range(14):
            cas.append(sign_ca(cas[-1], cn=f"ca {n}"))
        leaf = sign_leaf(cas[-1])
        assert "spiffe://a.test/peer" == verify([leaf, *cas[1:]], root)
        assert "spiffe://a.test/peer" == verify([leaf, *cas[:0:-1]], root)

    def test_stale_intermediates_piling_up_at_rotation(self) -> None:
        """Superfluous certificates do no harm, nor does the root sent along."""
        root, old = sign_ca(), sign_ca()
        inner, stale = sign_ca(root, cn="inner"), sign_ca(old, cn="inner")
        assert verify([sign_leaf(inner), stale, root, old, inner], root)

    def test_a_missing_intermediate(self) -> None:
        """RFC 5280 §6.1: no path, whatever the names say."""
        root = sign_ca()
        assert "no authority in the bundle of a.test issued it" in refused(
            [sign_leaf(sign_ca(root, cn="inner"))], root
        )

    def test_cross_signed_intermediates(self) -> None:
        """One intermediate under two roots: it is enough to know one of them."""
        one, two = sign_ca(cn="one"), sign_ca(cn="two")
        inner = sign_ca(one, cn="inner")
        cross = sign_ca(two, cn="inner", key=inner.key)
        for anchor in (one, two):
            assert verify([sign_leaf(inner), inner, cross], anchor)

    def test_a_good_path_behind_a_bad_one(self) -> None:
        """The expired intermediate comes first; the search goes on."""
        root = sign_ca()
        inner = sign_ca(root, cn="inner")
        expired = sign_ca(root, cn="inner", key=inner.key, end=AT - SECOND)
        assert verify([sign_leaf(inner), expired, inner], root)

    def test_circles_end(self) -> None:
        """Two CAs that signed each other lead nowhere, and not forever."""
        one = sign_ca(cn="one")
        two = sign_ca(one, cn="two")
        back = sign_ca(two, cn="one", key=one.key)
        assert "no authority" in refused([sign_leaf(two), two, back], sign_ca(cn="else"))

    def test_look_alikes_do_not_buy_unlimited_work(self) -> None:
        """A bundle, or a peer, with a hundred authorities of one name."""
        root = sign_ca()
        key = ec.generate_private_key(ec.SECP256R1())
        clones = [sign_ca(key=key) for _ in range(100)]
        leaf = sign_leaf(root)
        assert verify([leaf], *clones[:99], root)
        assert "too many look-alikes" in refused([leaf], *clones, root)

    def test_a_good_path_counts_even_if_the_search_gave_up_later(self) -> None:
        """The first good path ends the search."""
        key = ec.generate_private_key(ec.SECP256R1())
        root = sign_ca()
        assert verify([sign_leaf(root)], root, *[sign_ca(key=key) for _ in range(100)])

    def test_too_many_certificates_are_not_looked_at(self) -> None:
        """Sixteen are more than anybody has."""
        root = sign_ca()
        leaf = sign_leaf(root)
        assert verify([leaf, *[root] * 15], root)
        assert "at most 16" in refused([leaf, *[root] * 16], root)

    def test_no_certificates_at_all(self) -> None:
        """A typed error, not an IndexError."""
        assert "empty" in refused([], sign_ca())
        with pytest.raises(X509SvidError):
            examine_x509_svid([], bundle_of(), at=AT)


class TestAnchors:
    def test_a_trust_store_pooled_over_trust_domains(self) -> None:
        """Workload API §4: it would let B's authority speak for A."""
        a, b = sign_ca(cn="a"), sign_ca(cn="b")
        bundles = bundle_of(a).with_bundle(X509Bundle(TrustDomain("b.test"), (b.certificate,)))
        assert verify_x509_svid([sign_leaf(b, "spiffe://b.test/peer").certificate], bundles, at=AT)
        with pytest.raises(X509SvidError):
            verify_x509_svid([sign_leaf(b).certificate, b.certificate, a.certificate], bundles, at=AT)

    def test_unknown_trust_domain(self) -> None:
        """Workload API §4: no bundle, untrusted; the error names the domain."""
        root = sign_ca()
        with pytest.raises(BundleNotFoundError, match=r"c\.test"):
            verify([sign_leaf(root, "spiffe://c.test/peer")], root)

    def test_an_empty_bundle_trusts_nothing(self) -> None:
        """Trust Domain and Bundle §4.1.3: revoked, which is not the same as unknown."""
        assert "is empty" in refused([sign_leaf(sign_ca())])

    def test_the_leaf_itself_is_no_anchor(self) -> None:
        """A leaf that got into the bundle vouches for nobody, not even for itself."""
        root = sign_ca()
        leaf = sign_leaf(root)
        alone = sign_leaf(None)
        assert "no authority" in refused([leaf], leaf)
        assert "the authority: it issued a certificate and is no CA" in refused([alone], alone)

    def test_an_intermediate_is_an_anchor(self) -> None:
        """X509-SVID §5.1: roots or intermediates; what is above it does not matter."""
        root = sign_ca(end=AT - SECOND)
        inner = sign_ca(root, cn="inner")
        assert verify([sign_leaf(inner), inner, root], inner)


class TestLeafAsIssuer:
    def test_a_leaf_accepted_as_an_issuing_ca(self) -> None:
        """X509-SVID §4.1: a workload that signs itself a neighbour's identity."""
        root = sign_ca()
        workload = sign_leaf(root)
        forged = sign_leaf(workload, "spiffe://a.test/victim")
        assert "intermediate 1: it issued a certificate and is no CA" in refused([forged, workload], root)


class TestDates:
    def test_every_certificate_counts(self) -> None:
        """RFC 5280 §6.1.3(a)(2): leaf, intermediate and anchor; the error says which and when."""
        for position, name in enumerate(("the leaf", "intermediate 1", "the authority")):
            ends = [AT - SECOND if n == position else AT + HOUR for n in range(3)]
            root = sign_ca(end=ends[2])
            inner = sign_ca(root, cn="inner", end=ends[1])
            assert f"{name}: expired on 2029-12-31T23:59:59Z" == refused(
                [sign_leaf(inner, end=ends[0]), inner], root
            )

    def test_both_ends_are_included(self) -> None:
        """RFC 5280 §4.1.2.5."""
        root = sign_ca(begin=AT, end=AT + HOUR)
        leaf = sign_leaf(root, begin=AT, end=AT + HOUR)
        assert verify([leaf], root, at=AT)
        assert verify([leaf], root, at=AT + HOUR)
        assert "expired on" in refused([leaf], root, at=AT + HOUR + SECOND)
        assert "the leaf: not valid before 2030-01-01T00:00:00Z" == refused([leaf], root, at=AT - SECOND)

    def test_time_must_have_a_zone(self) -> None:
        """A local time taken for UTC would be hours off."""
        with pytest.raises(ValueError, match="time zone"):
            verify([sign_leaf(sign_ca())], at=AT.replace(tzinfo=None))
        with pytest.raises(ValueError, match="time zone"):
            examine_x509_svid([sign_leaf(sign_ca()).certificate], bundle_of(), at=AT.replace(tzinfo=None))


class TestSigners:
    def through(self, *extensions: tuple[x509.ExtensionType, bool]) -> str:
        """Why a path through an intermediate with just these extensions is refused, or the ID."""
        root = sign_ca()
        inner = sign_certificate(extensions, issuer=root, subject=distinguished("inner"))
        leaf = sign_leaf(inner)
        try:
            check_signer(inner.certificate)
        except X509SvidError as error:
            assert str(error) in refused([leaf, inner], root)
            return str(error)
        return verify([leaf, inner], root)

    CA = (x509.BasicConstraints(ca=True, path_length=None), True)
    SIGN = (key_usage("key_cert_sign"), True)

    def test_a_ca_with_key_cert_sign(self) -> None:
        """X509-SVID §4.1, §4.3: cRLSign is optional, and so is the ID (§3.2)."""
        assert "spiffe://a.test/peer" == self.through(self.CA, self.SIGN)

    def test_no_ca(self) -> None:
        """X509-SVID §4.1: `cA` must be true, and basic constraints must be there to say so."""
        assert "no CA" in self.through(self.SIGN)
        assert "no CA" in self.through((x509.BasicConstraints(ca=False, path_length=None), True), self.SIGN)

    def test_no_key_cert_sign(self) -> None:
        """X509-SVID §4.3: key usage must be there and have it."""
        assert "without keyCertSign" in self.through(self.CA)
        assert "without keyCertSign" in self.through(
            self.CA, (key_usage("crl_sign", "digital_signature"), True)
        )

    def test_a_root_without_key_usage(self) -> None:
        """RFC 5280 §6.1.1(d): nobody asks an anchor for it; one that has it must allow signing."""
        bare = sign_certificate([self.CA], subject=distinguished("root"))
        assert verify([sign_leaf(bare)], bare)
        check_signer(bare.certificate, anchor=True)
        other = sign_certificate([self.CA, (key_usage("crl_sign"), True)], subject=distinguished("root"))
        assert "the authority: it issued a certificate without keyCertSign" in refused(
            [sign_leaf(other)], other
        )
        with pytest.raises(X509SvidError, match="keyCertSign"):
            check_signer(other.certificate, anchor=True)

    @pytest.mark.parametrize("uri", ["spiffe://a.test", "https://a.test/cps", "urn:x"])
    def test_ids_without_a_path(self, uri: str) -> None:
        """X509-SVID §3.2: of its own trust domain; other URIs are no ID."""
        assert "spiffe://a.test/peer" == self.through(self.CA, self.SIGN, (uri_sans(uri), False))

    def test_a_signer_of_another_trust_domain(self) -> None:
        """X509-SVID §3.2: b.test's key in the bundle of a.test, or below its root, issues no leaf of a.test."""
        foreign = (uri_sans("spiffe://b.test"), False)
        root = sign_ca(extra=[foreign])
        words = "the certificate of spiffe://b.test issued a leaf of a.test"
        assert f"the authority: {words}" == refused([sign_leaf(root)], root)
        top = sign_ca()
        inner = sign_ca(top, cn="inner", extra=[foreign])
        assert f"intermediate 1: {words}" == refused([sign_leaf(inner), inner], top)
        check_signer(inner.certificate)
        with pytest.raises(X509SvidError, match=words):
            check_signer(inner.certificate, trust_domain=TrustDomain("a.test"))
        check_signer(inner.certificate, trust_domain=TrustDomain("b.test"))

    def test_trust_domains_that_share_a_root(self) -> None:
        """X509-SVID §3.2: a signing certificate may issue signing certificates in other trust domains."""
        root = sign_ca(extra=[(uri_sans("spiffe://b.test"), False)])
        inner = sign_ca(root, cn="inner", extra=[(uri_sans("spiffe://a.test"), False)])
        assert verify([sign_leaf(inner), inner], root)

    @pytest.mark.parametrize("uri", ["spiffe://a.test/ca", "SPIFFE://a.test/ca"])
    def test_the_id_of_a_workload(self, uri: str) -> None:
        """X509-SVID §3.2: a signing certificate's SPIFFE ID must not have a path."""
        assert "has the SPIFFE ID of a workload" in self.through(self.CA, self.SIGN, (uri_sans(uri), False))

    def test_a_malformed_id(self) -> None:
        """X509-SVID §3.2: what begins like an ID must be one."""
        assert "is no SPIFFE ID" in self.through(self.CA, self.SIGN, (uri_sans("spiffe://a.test/"), False))

    def test_the_anchor_is_a_signer_too(self) -> None:
        """X509-SVID §3.2: being in the bundle does not make a CA."""
        root = sign_certificate([self.SIGN], subject=distinguished("root"))
        assert "the authority: it issued a certificate and is no CA" == refused([sign_leaf(root)], root)


class TestPathLength:
    def chain(self, *limits: int | None, names: str = "abcdef") -> tuple[list[Signed], Signed]:
        cas: list[Signed] = []
        for limit, name in zip(limits, names, strict=False):
            cas.append(sign_ca(cas[-1] if cas else None, cn=name, pathlen=limit))
        return [sign_leaf(cas[-1]), *cas[1:]], cas[0]

    @pytest.mark.parametrize("limits", [(0,), (1, 0), (2, None, 0), (None, None, None), (1, None), (5, 5)])
    def test_kept(self, limits: tuple[int | None, ...]) -> None:
        """RFC 5280 §4.2.1.9: intermediates below, the leaf does not count."""
        chain, root = self.chain(*limits)
        assert verify(chain, root)

    @pytest.mark.parametrize(
        ("limits", "which"),
        [
            ((0, None), "the authority: 1 intermediates"),
            ((1, 0, None), "intermediate 2: 1"),
            ((1, None, None), "the authority: 2"),
        ],
    )
    def test_violated(self, limits: tuple[int | None, ...], which: str) -> None:
        """RFC 5280 §6.1.4(m): by whichever CA, the anchor included."""
        chain, root = self.chain(*limits)
        assert which in refused(chain, root)

    def test_self_issued_intermediates_do_not_count(self) -> None:
        """RFC 5280 §4.2.1.9: a CA that renews its own key."""
        chain, root = self.chain(0, 0, 0, names="aaa")
        assert verify(chain, root)


class TestExtensions:
    UNKNOWN = (raw_extension("1.3.6.1.4.1.99999.1"), True)

    def test_unknown_critical_extensions(self) -> None:
        """RFC 5280 §6.1.4(o), §6.1.5(f): refused anywhere on the path."""
        for position, name in enumerate(("the leaf", "intermediate 1", "the authority")):
            extra = [[self.UNKNOWN] if n == position else [] for n in range(3)]
            root = sign_ca(extra=extra[2])
            inner = sign_ca(root, cn="inner", extra=extra[1])
            assert f"{name}: the critical extension 1.3.6.1.4.1.99999.1 is not understood" == refused(
                [sign_leaf(inner, extra=extra[0]), inner], root
            )

    def test_unknown_extensions_that_are_not(self) -> None:
        """RFC 5280 §4.2: are ignored."""
        root = sign_ca()
        assert verify([sign_leaf(root, extra=[(self.UNKNOWN[0], False)])], root)

    def test_policies_may_be_critical(self) -> None:
        """RFC 5280 §6.1.1(c): any policy will do, none is required."""
        policy = x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.4"), None)
        root = sign_ca()
        assert verify([sign_leaf(root, extra=[(x509.CertificatePolicies([policy]), True)])], root)

    def test_limits_on_policies_are_not_overlooked(self) -> None:
        """RFC 5280 §4.2.1.11: critical, and not processed here."""
        root = sign_ca(extra=[(x509.PolicyConstraints(0, None), True)])
        assert "2.5.29.36 is not understood" in refused([sign_leaf(root)], root)


class TestUnreadable:
    def test_malformed_extensions_of_a_ca(self) -> None:
        """RFC 5280 §4.2: a typed error that says where."""
        root = sign_ca()
        inner = sign_ca(root, cn="inner", extra=[(raw_extension("2.5.29.17"), False)])
        assert "intermediate 1: the certificate's extensions cannot be read" in refused(
            [sign_leaf(inner), inner], root
        )

    def test_an_authority_signed_by_nobody_knows_what(self) -> None:
        """How it signed itself does not count, but that it cannot be read does."""
        root = sign_ca()
        sha256, unknown = bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d04036f")
        bundle = X509Bundle.parse_der(TrustDomain("a.test"), root.der.replace(sha256, unknown))
        with pytest.raises(X509SvidError, match="the authority: cannot be read"):
            verify_x509_svid([sign_leaf(root).certificate], BundleSet([bundle]), at=AT)

    def test_a_key_of_an_unknown_curve(self) -> None:
        """What the parser does not know it must not fall over."""
        root = sign_ca()
        prime256v1, unknown = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03016f")
        leaf = patched(sign_leaf(root).certificate, prime256v1, unknown, root)
        with pytest.raises(X509SvidError, match="the leaf: cannot be read"):
            verify_x509_svid([leaf], bundle_of(root), at=AT)


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [
            ec.generate_private_key(ec.SECP384R1()),
            ec.generate_private_key(ec.SECP521R1()),
            ed25519.Ed25519PrivateKey.generate(),
            rsa.generate_private_key(65537, 2048),
        ],
        ids=lambda key: type(key).__name__,
    )
    def test_kinds_in_use(self, key: ec.EllipticCurvePrivateKey) -> None:
        """On leaf and authority."""
        root = sign_ca(key=key)
        assert verify([sign_leaf(root, key=key)], root)

    @pytest.mark.parametrize(
        ("key", "why"),
        [
            (ec.generate_private_key(ec.SECP256K1()), "curve secp256k1"),
            (rsa.generate_private_key(65537, 1024), "RSA key has 1024 bits"),
            (ed448.Ed448PrivateKey.generate(), "neither EC, RSA nor Ed25519"),
        ],
        ids=["secp256k1", "rsa1024", "ed448"],
    )
    def test_kinds_not_in_use(self, key: ec.EllipticCurvePrivateKey, why: str) -> None:
        """Too weak, or nobody's: on leaf and authority."""
        good = sign_ca()
        weak = sign_ca(key=key)
        leaf, authority = refused([sign_leaf(good, key=key)], good), refused([sign_leaf(weak)], weak)
        assert leaf.startswith("the leaf: ")
        assert authority.startswith("the authority: ")
        assert why in leaf
        assert why in authority

    def test_weak_hashes(self) -> None:
        """A collision forges a certificate; the anchor is trusted for being in the bundle."""
        root = sign_ca(digest=hashes.SHA224())
        assert verify([sign_leaf(root)], root)
        assert "the leaf: signed with sha224" == refused([sign_leaf(root, digest=hashes.SHA224())], root)


class TestBestPath:
    def test_the_error_is_of_the_path_that_gets_farthest(self) -> None:
        """Of two roots of one name and key, the one that is merely too strict is the one to explain."""
        root = sign_ca(extra=[(x509.NameConstraints([x509.UniformResourceIdentifier("b.test")], None), True)])
        worse = sign_certificate([], subject=distinguished("root"), key=root.key, end=AT - SECOND)
        for anchors in ((root, worse), (worse, root)):
            assert "name constraints" in refused([sign_leaf(root)], *anchors)


class TestSets:
    def test_an_empty_set(self) -> None:
        """Nobody is trusted."""
        with pytest.raises(BundleNotFoundError):
            verify_x509_svid([sign_leaf(sign_ca()).certificate], BundleSet[X509Bundle](), at=AT)
