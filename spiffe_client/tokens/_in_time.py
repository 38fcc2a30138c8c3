"""An identity that is not waited for longer than there is time for a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

from spiffe_client.errors import SpiffeError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from spiffe_client.ids import SpiffeId
    from spiffe_client.svid import JwtSvid
    from spiffe_client.tokens._identity import Identity
    from spiffe_client.workload_api import X509Context

__all__ = ["InTime"]

#: Seconds, at most, that are left then to say whose fault it was, before the deadline says it was the
#: token broker's.
_SPARE: Final = 0.25
_SHARE: Final = 0.1


class InTime:
    """An `Identity` for one call of the token broker.

    Args:
        identity: The one.
        issuer: The token broker that is to be called.
        seconds: Until the call's deadline.
    """

    __slots__ = ("_identity", "_issuer", "_seconds", "_until")

    def __init__(self, identity: Identity, *, issuer: str, seconds: float) -> None:
        self._identity = identity
        self._issuer = issuer
        self._seconds = seconds
        self._until = anyio.current_time() + seconds - min(_SPARE, _SHARE * seconds)

    @property
    def id(self) -> SpiffeId:
        """See `Identity.id`."""
        return self._identity.id

    @property
    def x509_context(self) -> X509Context:
        """See `Identity.x509_context`."""
        return self._identity.x509_context

    async def jwt_svid(self, audience: str, /) -> JwtSvid:
        """Return a JWT-SVID for one audience that is valid now.

        Raises:
            UnavailableError: It does not come in time; `__cause__` is what the identity says is wrong.
            SpiffeError: The identity says that it will not come.
        """
        with anyio.CancelScope(deadline=self._until):
            return await self._identity.jwt_svid(audience)
        raise self._late()

    def before_publish(self, prepare: Callable[[X509Context], object]) -> None:
        """See `Identity.before_publish`."""
        self._identity.before_publish(prepare)

    def after_publish(self, notify: Callable[[], object]) -> None:
        """See `Identity.after_publish`."""
        self._identity.after_publish(notify)

    def _late(self) -> UnavailableError:
        # Not every identity says how it is doing; `Workload` does.
        last = getattr(getattr(self._identity, "health", None), "last_error", None)
        known = last if isinstance(last, SpiffeError) else None
        error = UnavailableError(
            f"no token from {self._issuer}: this workload has no JWT-SVID to show within "
            f"{max(0.1, round(self._seconds, 1)):g} s ({known or 'the Workload API did not answer: is the agent running?'})",
            cause_kind=known.cause_kind if isinstance(known, UnavailableError) else "timed_out",
        )
        error.__cause__ = known
        return error
