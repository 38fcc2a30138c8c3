"""Bundles by trust domain, one for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from spiffe_client.errors import BundleError, BundleNotFoundError
from spiffe_client.ids import TrustDomain

if TYPE_CHECKING:
    from spiffe_client.bundle._jwt import JwtBundle
    from spiffe_client.bundle._x509 import X509Bundle

__all__ = ["BundleSet", "JwtBundleSource", "X509BundleSource"]


class _OfTrustDomain(Protocol):
    @property
    def trust_domain(self) -> TrustDomain: ...


_B_co = TypeVar("_B_co", bound=_OfTrustDomain, covariant=True)


class BundleSet(Mapping[TrustDomain, _B_co]):
    """Bundles of one kind, at most one for each trust domain; never changes.

    A peer is verified with the bundle of its own trust domain and no other (Workload API §4), which
    is why this is a mapping and offers no pool of all authorities.

    Args:
        bundles: In any order.

    Raises:
        BundleError: Two are for the same trust domain.
    """

    __slots__ = ("_bundles",)

    def __init__(self, bundles: Iterable[_B_co] = ()) -> None:
        by_domain: dict[TrustDomain, _B_co] = {}
        for bundle in bundles:
            if bundle.trust_domain in by_domain:
                raise BundleError(f"two bundles for trust domain {bundle.trust_domain}")
            by_domain[bundle.trust_domain] = bundle
        self._bundles = by_domain

    def __getitem__(self, trust_domain: TrustDomain) -> _B_co:
        """Return the bundle of this trust domain.

        Raises:
            BundleNotFoundError: There is none.
        """
        try:
            return self._bundles[trust_domain]
        except KeyError:
            raise BundleNotFoundError(trust_domain) from None

    def __iter__(self) -> Iterator[TrustDomain]:
        return iter(self._bundles)

    def __len__(self) -> int:
        return len(self._bundles)

    def with_bundle(self, bundle: _B_co) -> BundleSet[_B_co]:  # type: ignore[misc]  # frozen, so covariance is safe
        """Return a set that has this bundle, in place of the one of the same trust domain."""
        return BundleSet({**self._bundles, bundle.trust_domain: bundle}.values())

    @property
    def x509_bundles(self: BundleSet[X509Bundle]) -> BundleSet[X509Bundle]:
        """Itself: a set of X.509 bundles is a source of them."""
        return self

    @property
    def jwt_bundles(self: BundleSet[JwtBundle]) -> BundleSet[JwtBundle]:
        """Itself: a set of JWT bundles is a source of them."""
        return self

    def __repr__(self) -> str:
        return f"BundleSet([{', '.join(map(repr, self._bundles.values()))}])"


class X509BundleSource(Protocol):
    """Whatever always knows the current X.509 bundles."""

    @property
    def x509_bundles(self) -> BundleSet[X509Bundle]:
        """The current bundles, without waiting.

        Raises:
            SourceError: There are none that may be used.
        """
        ...


class JwtBundleSource(Protocol):
    """Whatever always knows the current JWT bundles."""

    @property
    def jwt_bundles(self) -> BundleSet[JwtBundle]:
        """The current bundles, without waiting.

        Raises:
            SourceError: There are none that may be used.
        """
        ...
