"""Bundles are found by trust domain, and are never pooled."""

from __future__ import annotations

import pytest

from spiffe_client.bundle import BundleSet, JwtBundle, X509Bundle
from spiffe_client.errors import BundleError, BundleNotFoundError
from spiffe_client.ids import TrustDomain
from tests.support.odd_certificates import sign_ca

A, B, C = map(TrustDomain, ("a.test", "b.test", "c.test"))
ONE = X509Bundle(A, (sign_ca().certificate,))
TWO = X509Bundle(B, (sign_ca().certificate,))


class TestBundleSet:
    def test_lookup(self) -> None:
        """Workload API §4: the bundle of this trust domain, by its name."""
        bundles = BundleSet([ONE, TWO])
        assert ONE is bundles[A] is bundles.get(A)
        assert TWO is bundles[TrustDomain("B.TEST")]
        assert (A, B) == tuple(bundles)
        assert [ONE, TWO] == list(bundles.values())
        assert 2 == len(bundles)
        assert A in bundles

    def test_unknown_trust_domain(self) -> None:
        """Workload API §4: no bundle, nothing to trust; the error names the domain."""
        bundles = BundleSet([ONE])
        with pytest.raises(BundleNotFoundError, match="b.test") as e:
            bundles[B]
        assert B == e.value.trust_domain
        assert None is bundles.get(B)
        assert B not in bundles

    def test_two_bundles_of_one_domain_are_a_mistake(self) -> None:
        """Which of them is meant nobody can say; joining them would be a pool."""
        with pytest.raises(BundleError, match="two bundles for trust domain a.test"):
            BundleSet([ONE, X509Bundle(A, ())])
        with pytest.raises(BundleError):
            BundleSet([ONE, ONE])

    def test_with_bundle_replaces_whole(self) -> None:
        """Workload API §4: nothing of the former one is kept; the set itself stays as it is."""
        bundles = BundleSet([ONE, TWO])
        renewed = X509Bundle(A, ())
        assert BundleSet([renewed, TWO]) == bundles.with_bundle(renewed)
        assert ONE is bundles[A]
        assert {A, B, C} == set(bundles.with_bundle(X509Bundle(C, ())))

    def test_equal_by_content(self) -> None:
        """An update without a change can be told from one with."""
        assert BundleSet([ONE, TWO]) == BundleSet([TWO, X509Bundle(A, ONE.authorities)])
        assert BundleSet([ONE]) != BundleSet([ONE, TWO])

    def test_a_set_is_a_source_of_itself(self) -> None:
        """Static bundles need no source class."""
        x509 = BundleSet([ONE])
        jwt = BundleSet([JwtBundle(A, ())])
        assert x509 is x509.x509_bundles
        assert jwt is jwt.jwt_bundles

    def test_frozen(self) -> None:
        """No item can be set, no attribute added."""
        bundles = BundleSet([ONE])
        with pytest.raises(TypeError):
            bundles[B] = TWO
        with pytest.raises(AttributeError):
            bundles.more = TWO

    def test_repr_is_short(self) -> None:
        """Each domain with a count."""
        assert "BundleSet([X509Bundle(a.test, 1 authorities)])" == repr(BundleSet([ONE]))

    def test_empty(self) -> None:
        """Nobody is trusted."""
        assert not BundleSet()
