"""The list of checks that people see, from the same rules as verification."""

from __future__ import annotations

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.errors import BundleNotFoundError, X509SvidError
from spiffe_client.svid import Check, examine_x509_svid, verify_x509_svid
from tests.support.odd_certificates import (
    AT,
    HOUR,
    bundle_of,
    key_usage,
    raw_extension,
    sign_ca,
    sign_certificate,
    sign_leaf,
    uri_sans,
)

ROOT = sign_ca()
LEAF_NAMES = [
    "extensions",
    "uri_san",
    "spiffe_id",
    "not_a_ca",
    "key_usage",
    "no_signing",
    "extended_key_usage",
]
PATH_NAMES = [
    "certificates",
    "dates",
    "critical_extensions",
    "signers_are_cas",
    "signers_key_usage",
    "signers_ids",
    "path_length",
    "name_constraints",
    "keys",
    "signatures",
]


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.ok}


class TestExamine:
    def test_a_good_chain(self) -> None:
        """Each check by name and section, in order, in the words of the rule."""
        checks = examine_x509_svid([sign_leaf(ROOT).certificate], bundle_of(ROOT), at=AT)
        assert [*LEAF_NAMES, "bundle", "signed", *PATH_NAMES] == [check.name for check in checks]
        assert all(check.ok and check.section and check.detail for check in checks)
        assert (
            Check("uri_san", "X509-SVID §2", ok=True, detail="the leaf has exactly one URI SAN") == checks[1]
        )

    def test_all_that_is_wrong_is_listed(self) -> None:
        """Not just the first thing; verification raises the first."""
        leaf = sign_certificate(
            [(uri_sans("spiffe://a.test/peer"), False), (key_usage("crl_sign"), True)],
            issuer=ROOT,
            end=AT - HOUR / 2,
        ).certificate
        checks = examine_x509_svid([leaf], bundle_of(ROOT), at=AT)
        assert ["key_usage", "no_signing", "dates"] == list(failed(checks))
        with pytest.raises(X509SvidError, match=failed(checks)["key_usage"]):
            verify_x509_svid([leaf], bundle_of(ROOT), at=AT)

    def test_without_an_id_there_is_no_bundle_to_ask_for(self) -> None:
        """Checks that make no sense are left out."""
        leaf = sign_certificate([(key_usage("digital_signature"), True)], issuer=ROOT).certificate
        checks = examine_x509_svid([leaf], bundle_of(ROOT), at=AT)
        assert {"uri_san": "the leaf has 0 URI SANs, an X509-SVID has exactly one"} == failed(checks)
        assert [n for n in LEAF_NAMES if n != "spiffe_id"] == [check.name for check in checks]

    def test_unreadable_leaf(self) -> None:
        """One check, and nothing about extensions nobody could read."""
        leaf = sign_certificate([(raw_extension("2.5.29.17"), False)], issuer=ROOT).certificate
        assert ["extensions"] == [c.name for c in examine_x509_svid([leaf], bundle_of(ROOT), at=AT)]

    def test_no_path(self) -> None:
        """Nothing is said about the dates of a path that is none."""
        checks = examine_x509_svid([sign_leaf(sign_ca()).certificate], bundle_of(ROOT), at=AT)
        assert ("signed", False) == (checks[-1].name, checks[-1].ok)

    def test_no_bundle(self) -> None:
        """The trust domain is named."""
        checks = examine_x509_svid(
            [sign_leaf(ROOT, "spiffe://b.test/peer").certificate], bundle_of(ROOT), at=AT
        )
        assert ["bundle"] == list(failed(checks))
        assert "b.test" in failed(checks)["bundle"]

    def test_the_path_that_gets_farthest_is_shown(self) -> None:
        """Of an expired and a good twin the good one; of two bad ones the better."""
        expired = sign_ca(key=ROOT.key, end=AT - HOUR / 2)
        leaf = sign_leaf(ROOT).certificate
        assert {} == failed(examine_x509_svid([leaf], bundle_of(expired, ROOT), at=AT))
        limits = [(x509.PolicyConstraints(0, None), True)]
        worse = sign_ca(key=ROOT.key, end=AT - HOUR / 2, extra=limits)
        for pair in ((expired, worse), (worse, expired)):
            assert ["dates"] == list(failed(examine_x509_svid([leaf], bundle_of(*pair), at=AT)))


CERTIFICATES = [
    ROOT,
    sign_ca(ROOT, cn="inner"),
    sign_ca(ROOT, cn="inner", pathlen=0),
    sign_ca(key=ROOT.key, end=AT - HOUR / 2),
    sign_ca(),
    sign_leaf(ROOT),
    sign_leaf(ROOT, "spiffe://b.test/peer"),
    sign_leaf(ROOT, extra=[(raw_extension("1.2.3.4"), True)]),
    sign_certificate([(uri_sans("spiffe://a.test/peer"), False)], issuer=ROOT),
]
CERTIFICATES += [sign_leaf(CERTIFICATES[1]), sign_leaf(CERTIFICATES[2])]


@given(
    st.lists(st.sampled_from([c.certificate for c in CERTIFICATES]), min_size=1, max_size=5),
    st.lists(st.sampled_from(CERTIFICATES), max_size=3),
)
def test_it_never_disagrees_with_verification(chain: list[x509.Certificate], anchors: list) -> None:
    """Good by every check is verified, and the other way round; whatever is sent and trusted."""
    checks = examine_x509_svid(chain, bundle_of(*anchors), at=AT)
    try:
        verify_x509_svid(chain, bundle_of(*anchors), at=AT)
    except (X509SvidError, BundleNotFoundError) as error:
        assert str(error) == next(check.detail for check in checks if not check.ok)
    else:
        assert all(check.ok for check in checks)
