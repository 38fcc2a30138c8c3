"""Where a trust domain's bundle is served, and how that server proves itself.

Every parameter is configured; none is guessed from another (SPIFFE Federation §5.1, §7).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import httpx

from spiffe_client.bundle import SpiffeBundle
from spiffe_client.errors import BundleEndpointError
from spiffe_client.ids import SpiffeId, TrustDomain

__all__ = ["BundleEndpoint", "SpiffeEndpoint", "WebEndpoint", "check_url"]


def check_url(url: str) -> str:
    """Return a URL that a bundle may be fetched from (SPIFFE Federation §5.2.1.1, §5.2.2.1).

    Raises:
        BundleEndpointError: It is not `https`, has no host, or has userinfo or a fragment.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise BundleEndpointError(f"a bundle endpoint needs a URL: {error}") from error
    if parsed.scheme != "https" or not parsed.host:
        raise BundleEndpointError("the URL of a bundle endpoint must begin with https:// and a host")
    # The parser drops an empty userinfo, which is one all the same.
    if parsed.userinfo or "@" in str(url).partition("://")[2].partition("/")[0]:
        raise BundleEndpointError("the URL of a bundle endpoint must not hold a user name or password")
    if parsed.fragment or "#" in str(url):
        raise BundleEndpointError("the URL of a bundle endpoint must not have a fragment")
    return url


def _check_trust_domain(value: object) -> None:
    if not isinstance(value, TrustDomain):
        raise BundleEndpointError(
            f"a bundle endpoint is for a TrustDomain, not for a {type(value).__name__}: "
            f"the document does not say whose it is"
        )


@dataclass(frozen=True, slots=True)
class WebEndpoint:
    """A bundle endpoint of the profile `https_web`: its server proves a host name (§5.2.1).

    Attributes:
        trust_domain: Whose bundle it serves.
        url: Where: `https://host[:port]/path`.

    Raises:
        BundleEndpointError: `url` is not valid, or `trust_domain` is none.
    """

    trust_domain: TrustDomain
    url: str

    def __post_init__(self) -> None:
        _check_trust_domain(self.trust_domain)
        check_url(self.url)


@dataclass(frozen=True, slots=True)
class SpiffeEndpoint:
    """A bundle endpoint of the profile `https_spiffe`: its server proves a SPIFFE ID (§5.2.2).

    Attributes:
        trust_domain: Whose bundle it serves.
        url: Where: `https://host[:port]/path`; the host only says where to connect to.
        server_id: Who the server must be, exactly; of this trust domain or of another one.
        bundle: Of the server's trust domain, obtained safely: what the first connection is
            verified with. It vouches for nobody else.

    Raises:
        BundleEndpointError: `url` is not valid, `trust_domain` is none, `server_id` is no
            workload's ID, or `bundle` is of another trust domain than `server_id`.
    """

    trust_domain: TrustDomain
    url: str
    server_id: SpiffeId
    bundle: SpiffeBundle = field(repr=False)

    def __post_init__(self) -> None:
        _check_trust_domain(self.trust_domain)
        check_url(self.url)
        if not isinstance(self.server_id, SpiffeId) or not self.server_id.path:
            raise BundleEndpointError(f"server_id must be the SpiffeId of a workload, got {self.server_id!s}")
        if self.bundle.trust_domain != self.server_id.trust_domain:
            raise BundleEndpointError(
                f"{self.server_id} cannot be verified with a bundle of {self.bundle.trust_domain}: "
                f"bundle= must be of the server's own trust domain"
            )

    @property
    def self_serving(self) -> bool:
        """Whether the server belongs to the trust domain whose bundle it serves (§5.2.2.2)."""
        return self.server_id.trust_domain == self.trust_domain


#: Either profile.
BundleEndpoint: TypeAlias = WebEndpoint | SpiffeEndpoint
