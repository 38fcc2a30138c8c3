"""The bundles of other trust domains, as their bundle documents say (SPIFFE Federation §5)."""

from __future__ import annotations

from collections.abc import Callable

from spiffe_client.bundle import SpiffeBundle
from spiffe_client.dev._authority import CertificateAuthority
from spiffe_client.errors import BundleError, BundleNotFoundError
from spiffe_client.ids import TrustDomain

__all__ = ["Federation"]


class Federation:
    """What one trust domain knows of others, always by their latest document.

    One-sided, as in the standard: that A holds B's bundle gives B nothing.

    Args:
        trust_domain: Whose view this is.
        changed: Called when a bundle came, changed or went.
    """

    def __init__(self, trust_domain: TrustDomain, changed: Callable[[], None]) -> None:
        self._trust_domain = trust_domain
        self._changed = changed
        self._bundles: dict[TrustDomain, SpiffeBundle] = {}
        self._ends: dict[TrustDomain, Callable[[], None]] = {}

    @property
    def bundles(self) -> tuple[SpiffeBundle, ...]:
        """The other trust domains' latest bundles."""
        return tuple(self._bundles.values())

    def add(self, other: CertificateAuthority) -> None:
        """Follow another trust domain's bundle document from now on.

        Raises:
            BundleError: It is this trust domain itself, or followed already.
        """
        name = other.trust_domain
        if name == self._trust_domain:
            raise BundleError(f"{name} cannot federate with itself")
        if name in self._ends:
            raise BundleError(f"{self._trust_domain} is federated with {name} already")

        def refresh() -> None:
            # Over the document, as between strangers: what it cannot say is not known here either.
            self._bundles[name] = SpiffeBundle.parse(name, other.spiffe_bundle.to_json())
            self._changed()

        self._ends[name] = other.subscribe(refresh)
        refresh()

    def remove(self, name: TrustDomain) -> None:
        """Forget another trust domain's bundle, and so cease to trust it.

        Raises:
            BundleNotFoundError: There is no federation with it.
        """
        if name not in self._ends:
            raise BundleNotFoundError(name)
        self._ends.pop(name)()
        del self._bundles[name]
        self._changed()

    def clear(self) -> None:
        """Follow nobody any more; the others forget this one."""
        for end in self._ends.values():
            end()
        self._ends.clear()
        self._bundles.clear()
