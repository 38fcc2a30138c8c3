"""Looks at one bundle endpoint again and again, and keeps the last good answer."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TypeAlias

from spiffe_client._latest import Latest
from spiffe_client.bundle import DEFAULT_REFRESH_HINT, SpiffeBundle
from spiffe_client.errors import BundleError, PeerError, SourceError, SpiffeError
from spiffe_client.http.federation._endpoints import BundleEndpoint
from spiffe_client.http.federation._fetch import fetch_bundle
from spiffe_client.sources._holding import Holding
from spiffe_client.sources._reporter import Reporter
from spiffe_client.sources._terms import Terms

__all__ = ["Jitter", "Poll"]

#: Picks a number between two.
Jitter: TypeAlias = Callable[[float, float], float]

#: Seconds between two looks, whatever a hint says: not so often that it hurts the endpoint, and
#: never so rarely that a revocation is missed for days.
_FLOOR, _CEILING = 10.0, 86400.0
#: Of the interval, so that not everybody comes at once; never later than the hint asks for.
_EARLIEST = 0.9


class Poll:
    """Fills a holding from an endpoint.

    Args:
        endpoint: Which one.
        terms: What the user decided; `timeout` is that of one look.
        ssl_context: For `fetch_bundle`.
        jitter: Spreads the looks.
        current: Gives the endpoint as it is to be asked now, with the latest bundle for its server.
        changed: Called after the holding has changed.

    Attributes:
        endpoint: As configured.
        holding: The last good bundle.
    """

    def __init__(
        self,
        endpoint: BundleEndpoint,
        *,
        terms: Terms,
        ssl_context: ssl.SSLContext | None,
        jitter: Jitter,
        current: Callable[[BundleEndpoint], BundleEndpoint],
        changed: Callable[[], None],
    ) -> None:
        what = f"the bundle of {endpoint.trust_domain}"
        self.endpoint = endpoint
        self.holding: Holding[SpiffeBundle] = Holding(what, terms.clock)
        self._terms = terms
        self._ssl_context = ssl_context
        self._jitter = jitter
        self._current = current
        self._changed = changed
        self._reporter = Reporter(what, terms.sink)
        self._tried: Latest[None] = Latest(None)

    async def wait_first(self, until: float) -> None:  # noqa: ARG002 - each look has its own deadline
        """Wait until the endpoint was looked at once, with whatever result.

        Raises:
            SourceClosedError: The source is closed, or was meanwhile.
        """
        await self._tried.wait_newer(0)
        self.holding.refuse_unopened()

    async def run(self) -> None:
        """Poll until cancelled; after a failure too, the next look is at the next interval (§4.1)."""
        while True:
            await self._look()
            await self._terms.clock.sleep(self._interval())

    def stop(self, reason: str) -> bool:
        """Serve nothing from now on, for good; from any thread."""
        return self.holding.stop(reason)

    def close(self, why: str, *, crash: SourceError | None = None) -> None:
        """Serve nothing any more; the background task is stopped by its owner."""
        self.holding.close(why, crash=crash)
        self._tried.close()
        self._changed()

    async def _look(self) -> None:
        try:
            bundle = await fetch_bundle(
                self._current(self.endpoint),
                held=self.holding.value,
                timeout=self._terms.timeout,
                ssl_context=self._ssl_context,
            )
        except SpiffeError as error:
            self._failed(error)
        else:
            self._received(bundle)
        self._tried.set(None)

    def _received(self, bundle: SpiffeBundle) -> None:
        if bundle == self.holding.value:
            self.holding.confirm(flaw=None)
        else:
            self.holding.publish(bundle, None, flaw=None)
            self._changed()
            facts: dict[str, str | int] = {
                "trust_domain": str(bundle.trust_domain),
                "x509_authorities": len(bundle.x509_authorities),
                "jwt_authorities": len(bundle.jwt_authorities),
            }
            self._reporter.tell("bundle.updated", f"a new bundle of {bundle.trust_domain}", facts)
        self._reporter.well()

    def _failed(self, error: SpiffeError) -> None:
        self.holding.trouble(error, attempt=True)
        kept = "there is none yet" if self.holding.value is None else "the last good one is kept"
        self._reporter.trouble(
            _event_of(error), f"no fresh bundle of {self.endpoint.trust_domain}, {kept}", error
        )

    def _interval(self) -> float:
        held = self.holding.value
        seconds = DEFAULT_REFRESH_HINT if held is None else held.refresh_interval
        return self._jitter(_EARLIEST, 1.0) * min(max(seconds, _FLOOR), _CEILING)


def _event_of(error: SpiffeError) -> str:
    if isinstance(error, PeerError):
        return "peer.refused"
    return "bundle.refused" if isinstance(error, BundleError) else "source.unavailable"
