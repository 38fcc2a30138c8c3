"""What a workload is told about itself and its peers at one moment: SVIDs and bundles, together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from spiffe_client.bundle import BundleSet, X509Bundle
from spiffe_client.svid import X509Svid

__all__ = ["X509Context", "X509ContextSource"]


@dataclass(frozen=True, slots=True, eq=False)
class X509Context:
    """One immutable snapshot: identities of this workload and the bundles to verify peers with.

    Compared by identity: each snapshot is a generation of its own. A context is a source of
    itself, so static files need no source class.

    Attributes:
        svids: At least one, in the order of the Workload API; the first is the default identity.
        bundles: Of the own trust domains and of all federated ones.
        svid: The identity in use: the default one unless a picker chose another.
    """

    svids: tuple[X509Svid, ...]
    bundles: BundleSet[X509Bundle]
    svid: X509Svid

    @property
    def x509_context(self) -> X509Context:
        """Itself."""
        return self

    @property
    def x509_bundles(self) -> BundleSet[X509Bundle]:
        """The bundles of this snapshot."""
        return self.bundles


class X509ContextSource(Protocol):
    """Whatever always knows the current `X509Context`."""

    @property
    def x509_context(self) -> X509Context:
        """The current snapshot, without waiting.

        Raises:
            SourceError: There is none that may be used: expired, withdrawn, closed.
        """
        ...
