"""The parameters of a bundle endpoint are explicit and checked when they are given."""

from __future__ import annotations

import pytest

from spiffe_client.dev import CertificateAuthority
from spiffe_client.errors import BundleEndpointError, FederationError
from spiffe_client.http.federation import SpiffeEndpoint, WebEndpoint
from spiffe_client.ids import SpiffeId, TrustDomain

B = TrustDomain("b.test")
SERVER = SpiffeId.parse("spiffe://b.test/bundle-server")
URL = "https://bundles.b.test:8443/prod/bundle.json?v=1"


@pytest.fixture(scope="module")
def bundle():
    return CertificateAuthority("b.test").spiffe_bundle


class TestUrl:
    """FD §5.2.1.1, §5.2.2.1: https, no userinfo; the rest of the URL is free."""

    def test_valid(self, bundle) -> None:
        """A port, a path and a query are nobody's business."""
        assert URL == WebEndpoint(B, URL).url
        assert URL == SpiffeEndpoint(B, URL, SERVER, bundle).url

    @pytest.mark.parametrize(
        ("url", "why"),
        [
            ("http://b.test/bundle", "https://"),
            ("spiffe://b.test/bundle", "https://"),
            ("b.test/bundle", "https://"),
            ("", "https://"),
            ("https:///bundle", "https://"),
            ("https://me:secret@b.test/bundle", "user name"),
            ("https://me@b.test/bundle", "user name"),
            ("https://@b.test/bundle", "user name"),
            ("https://b.test/bundle#part", "fragment"),
            ("https://b.test/bundle#", "fragment"),
            ("https://b.test:port/", "needs a URL"),
            ("https://b.test/\x00", "needs a URL"),
            (b"https://b.test/", "needs a URL"),
            (None, "needs a URL"),
        ],
    )
    def test_invalid(self, bundle, url, why) -> None:
        """Refused when configured, for both profiles, and without repeating a password."""
        for make in (lambda: WebEndpoint(B, url), lambda: SpiffeEndpoint(B, url, SERVER, bundle)):
            with pytest.raises(BundleEndpointError, match=why) as e:
                make()
            assert "secret" not in str(e.value)


class TestParameters:
    def test_nothing_is_inferred(self, bundle) -> None:
        """FD §5.1, §7: host, trust domain and server ID may all differ."""
        other = TrustDomain("prod.other.test")
        endpoint = SpiffeEndpoint(other, URL, SERVER, bundle)
        assert other == endpoint.trust_domain
        assert not endpoint.self_serving
        assert SpiffeEndpoint(B, URL, SERVER, bundle).self_serving

    def test_trust_domain_by_type(self, bundle) -> None:
        """FD §5.1: a bundle without the name of its trust domain is worth nothing."""
        with pytest.raises(BundleEndpointError, match="TrustDomain, not for a str"):
            WebEndpoint("b.test", URL)
        with pytest.raises(BundleEndpointError, match="TrustDomain, not for a SpiffeId"):
            SpiffeEndpoint(SERVER, URL, SERVER, bundle)

    @pytest.mark.parametrize("server_id", [B.id, "spiffe://b.test/bundle-server", None])
    def test_server_is_one_workload(self, bundle, server_id) -> None:
        """FD §5.2.2.2: the server's SPIFFE ID, not a whole trust domain."""
        with pytest.raises(BundleEndpointError, match="must be the SpiffeId of a workload"):
            SpiffeEndpoint(B, URL, server_id, bundle)

    def test_bundle_of_another_trust_domain(self) -> None:
        """FD §5.2.2.2: the bundle is that of the server's own trust domain."""
        foreign = CertificateAuthority("stranger.test").spiffe_bundle
        with pytest.raises(BundleEndpointError, match="must be of the server's own trust domain"):
            SpiffeEndpoint(B, URL, SERVER, foreign)

    def test_frozen_and_typed(self, bundle) -> None:
        """A value; its error is a FederationError that no retry mends, and a ValueError."""
        with pytest.raises(AttributeError):
            WebEndpoint(B, URL).url = "https://a.test/"
        assert "authorities" not in repr(SpiffeEndpoint(B, URL, SERVER, bundle))
        assert issubclass(BundleEndpointError, FederationError)
        assert issubclass(BundleEndpointError, ValueError)
        assert FederationError.retryable
        assert not BundleEndpointError.retryable
