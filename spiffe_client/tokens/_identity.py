"""Who asks the token broker: what this room needs of a workload's identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from spiffe_client.ids import SpiffeId
    from spiffe_client.svid import JwtSvid
    from spiffe_client.workload_api import X509Context

__all__ = ["Identity"]


class Identity(Protocol):
    """A workload's identity, kept fresh elsewhere; `Workload` is one."""

    @property
    def id(self) -> SpiffeId:
        """Who it is; raises a `SourceError` if it has no identity now."""
        ...

    @property
    def x509_context(self) -> X509Context:
        """Its current X.509 identity; raises a `SourceError` if it has none now."""
        ...

    async def jwt_svid(self, audience: str, /) -> JwtSvid:
        """Return a JWT-SVID for one audience that is valid now."""
        ...

    def before_publish(self, prepare: Callable[[X509Context], object]) -> None:
        """Have a bound method called with each new X.509 context before it is published."""
        ...

    def after_publish(self, notify: Callable[[], object]) -> None:
        """Have a bound method called after each change."""
        ...
