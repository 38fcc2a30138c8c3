"""X.509 bundles hold several authorities, compare by content, and refuse what is damaged."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiffe_client.bundle import X509Bundle
from spiffe_client.errors import BundleError
from spiffe_client.ids import TrustDomain
from tests.support.odd_certificates import sign_ca

A, B = TrustDomain("a.test"), TrustDomain("b.test")
ONE, TWO = sign_ca(cn="one"), sign_ca(cn="two")


class TestParse:
    def test_several_authorities(self) -> None:
        """Workload API §5: a bundle may hold several CAs, and all of them count."""
        bundle = X509Bundle.parse_der(A, ONE.der + TWO.der)
        assert (A, (ONE.certificate, TWO.certificate)) == (bundle.trust_domain, bundle.authorities)
        assert frozenset({ONE.der, TWO.der}) == bundle.ders

    def test_pem_is_the_same(self) -> None:
        """Files hold PEM, the Workload API sends DER."""
        assert X509Bundle.parse_der(A, ONE.der + TWO.der) == X509Bundle.parse_pem(A, ONE.pem + TWO.pem)

    @pytest.mark.parametrize("der", [b"", b"\0", ONE.der[:-1], ONE.der + b"\0", ONE.pem, b"\x30\x00"])
    def test_damaged(self, der: bytes) -> None:
        """Workload API §5: an empty mandatory field is no bundle, and neither is half a bundle."""
        with pytest.raises(BundleError):
            X509Bundle.parse_der(A, der)

    def test_damaged_pem(self) -> None:
        """Neither is a file without certificates."""
        with pytest.raises(BundleError):
            X509Bundle.parse_pem(A, b"")

    def test_too_large(self) -> None:
        """More than a MiB is refused by its size, not by its content."""
        with pytest.raises(BundleError, match="at most 1048576"):
            X509Bundle.parse_der(A, bytes(1 + (1 << 20)))

    @given(st.binary(max_size=100))
    def test_any_bytes_give_a_bundle_or_the_error(self, data: bytes) -> None:
        """Never anything else."""
        for parse in (X509Bundle.parse_der, X509Bundle.parse_pem):
            try:
                parse(A, data)
            except BundleError:
                pass


class TestWrite:
    def test_what_is_written_is_read_again(self) -> None:
        """In both forms, byte by byte."""
        bundle = X509Bundle(A, (ONE.certificate, TWO.certificate))
        assert ONE.der + TWO.der == bundle.to_der()
        assert bundle == X509Bundle.parse_pem(A, bundle.to_pem())


class TestValue:
    def test_order_and_repetition_do_not_matter(self) -> None:
        """An agent that sends the same roots in another order has changed nothing."""
        one_two = X509Bundle(A, (ONE.certificate, TWO.certificate))
        two_one = X509Bundle(A, (TWO.certificate, ONE.certificate, TWO.certificate))
        assert {one_two} == {two_one}
        assert (TWO.certificate, ONE.certificate) == two_one.authorities

    def test_trust_domain_and_content_matter(self) -> None:
        """The same root for two domains is two bundles."""
        bundle = X509Bundle(A, (ONE.certificate,))
        assert bundle != X509Bundle(B, (ONE.certificate,))
        assert bundle != X509Bundle(A, (TWO.certificate,))

    def test_empty_trusts_nothing(self) -> None:
        """It can be made, but not by parsing nothing."""
        assert frozenset() == X509Bundle(A, ()).ders

    def test_frozen(self) -> None:
        """A bundle in use never changes."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            X509Bundle(A, ()).authorities = (ONE.certificate,)

    def test_repr_is_short(self) -> None:
        """A log line, not a page of certificates."""
        assert "X509Bundle(a.test, 1 authorities)" == repr(X509Bundle(A, (ONE.certificate,)))
