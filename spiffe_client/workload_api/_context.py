"""What a workload is told about itself and its peers at one moment: SVIDs and bundles, together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from spiffe_client._values import dataclass

if TYPE_CHECKING:
    from spiffe_client.bundle import BundleSet, X509Bundle
    from spiffe_client.svid import X509Svid

__all__ = ["RotatingX509Source", "X509Context", "X509ContextSource", "any_thread", "is_any_thread"]

_F = TypeVar("_F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, eq=False)
class X509Context:
    """One immutable snapshot: identities of this workload and the bundles to verify peers with.

    Compared by identity: each snapshot is a generation of its own. A context is a source of
    itself, so static files need no source class.

    Attributes:
        svids: At least one, in the order of the Workload API; the first is the default identity.
        bundles: Of the own trust domains and of all federated ones.
        svid: The identity in use: the default one unless a picker chose another.
        crls: DER certificate revocation lists as the Workload API sent them; nothing here reads
            them, SPIFFE revokes by short lifetimes.
    """

    svids: tuple[X509Svid, ...]
    bundles: BundleSet[X509Bundle]
    svid: X509Svid
    crls: tuple[bytes, ...] = ()

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


if TYPE_CHECKING:
    _Source = X509ContextSource
else:
    # Python 3.11's isinstance() reads every property of a protocol, and `x509_context` raises
    # where there is nothing to serve: at run time the methods alone tell a rotating source.
    class _Source(Protocol):
        pass


@runtime_checkable
class RotatingX509Source(_Source, Protocol):
    """A source that replaces its context and says so; `isinstance` tells it from a static one."""

    def before_publish(self, prepare: Callable[[X509Context], None]) -> None:
        """Have each new context shown to `prepare` in a worker thread before anybody else sees it.

        Args:
            prepare: Held weakly. One that raises refuses the update.
        """
        ...

    def after_publish(self, notify: Callable[[], None]) -> None:
        """Have `notify` called on the event loop after each publication and each withdrawal.

        When the source is stopped in another thread, one that is `any_thread` is called there, too.

        Args:
            notify: Held weakly; neither blocks nor raises.
        """
        ...


def any_thread(method: _F) -> _F:
    """Mark a method for `after_publish` as safe in any thread, so that a stop need not wait for the event loop."""
    vars(method)["any_thread"] = True
    return method


def is_any_thread(method: Callable[..., object]) -> bool:
    """Whether `any_thread` marked it."""
    return getattr(method, "any_thread", False)
