"""The bundles of other trust domains, kept fresh over the network."""

from __future__ import annotations

import random
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Self

import httpx

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._latest import Latest
from spiffe_client.audit import EventSink, safe_sink
from spiffe_client.bundle import BundleSet, JwtBundle, SpiffeBundle, X509Bundle
from spiffe_client.errors import BundleEndpointError, TlsConfigurationError
from spiffe_client.http.federation._endpoints import BundleEndpoint, SpiffeEndpoint, WebEndpoint
from spiffe_client.http.federation._fetch import TIMEOUT, check_web_context
from spiffe_client.http.federation._poll import Poll
from spiffe_client.ids import TrustDomain
from spiffe_client.sources import Health
from spiffe_client.sources._lifetime import Lifetime
from spiffe_client.sources._source import Source
from spiffe_client.sources._terms import Terms

__all__ = ["FederatedBundleSource"]


class _Shelf:
    """What all polls have fetched. They know this and not the source, which a user may forget."""

    def __init__(self) -> None:
        self.polls: list[Poll] = []
        self.sets: tuple[BundleSet[X509Bundle], BundleSet[JwtBundle]] = (BundleSet(), BundleSet())
        self.pulse: Latest[None] = Latest(None)

    def current(self, endpoint: BundleEndpoint) -> BundleEndpoint:
        """Return the endpoint with the latest bundle that verifies its server (§5.2.2.4)."""
        if isinstance(endpoint, SpiffeEndpoint):
            for bundle in self._held:
                if bundle.trust_domain == endpoint.server_id.trust_domain:
                    return replace(endpoint, bundle=bundle)
        return endpoint

    def gather(self) -> None:
        """Publish what the polls hold now, each trust domain's bundle apart from all others."""
        held = self._held
        self.sets = (BundleSet(b.x509_bundle for b in held), BundleSet(b.jwt_bundle for b in held))
        self.pulse.set(None)

    @property
    def _held(self) -> list[SpiffeBundle]:
        values = (poll.holding.value for poll in self.polls)
        return [value for value in values if value is not None]


class FederatedBundleSource(Source):
    """Always knows the bundles of other trust domains, as their bundle endpoints serve them.

    Each endpoint is polled at the interval its bundle asks for (300 s by default, at least 10 s,
    at most a day), up to a tenth earlier. When that fails the last good bundle stays, and the
    next try is at the next interval (SPIFFE Federation §4.1). Trust domains are never merged
    (§4.2). What has not been fetched yet is not trusted: also the configured bundle of a
    `SpiffeEndpoint` only verifies the endpoint's server.

    Reads are instant and from any thread. In a forked child every read raises.

    Args:
        endpoints: At least one, at most one for each trust domain.
        timeout: Seconds for one look at one endpoint.
        ssl_context: For web endpoints behind a private web PKI, whom to trust; the default is
            httpx's list of public authorities.
        clock: Where the time comes from.
        on_event: Takes events; the default writes them to the logger `spiffe_client`.

    Raises:
        BundleEndpointError: There is no endpoint, or there are two for one trust domain.
        TlsConfigurationError: `ssl_context` verifies too little, or no endpoint would use it.
    """

    def __init__(
        self,
        endpoints: Iterable[BundleEndpoint],
        *,
        timeout: float = TIMEOUT,
        ssl_context: ssl.SSLContext | None = None,
        clock: Clock = SYSTEM_CLOCK,
        on_event: EventSink | None = None,
    ) -> None:
        endpoints = _distinct(endpoints)
        ssl_context = _web_context(endpoints, ssl_context)
        terms = Terms(timeout=timeout, clock=clock, sink=safe_sink(on_event))
        self._shelf = shelf = _Shelf()
        poll = partial(Poll, terms=terms, jitter=random.uniform, current=shelf.current, changed=shelf.gather)
        for endpoint in endpoints:
            context = ssl_context if isinstance(endpoint, WebEndpoint) else None
            shelf.polls.append(poll(endpoint, ssl_context=context))
        super().__init__(Lifetime("FederatedBundleSource", shelf.polls, terms=terms))

    @property
    def x509_bundles(self) -> BundleSet[X509Bundle]:
        """The current X.509 bundles of the trust domains whose endpoint has answered so far.

        Raises:
            SourceClosedError: The source is not open, or was opened before a fork.
        """
        self.refuse_unopened()
        return self._shelf.sets[0]

    @property
    def jwt_bundles(self) -> BundleSet[JwtBundle]:
        """The current JWT bundles; raises as `x509_bundles`."""
        self.refuse_unopened()
        return self._shelf.sets[1]

    @property
    def health(self) -> Mapping[TrustDomain, Health]:
        """How each endpoint is doing, by the trust domain it is for; never raises."""
        return {poll.endpoint.trust_domain: poll.holding.health for poll in self._shelf.polls}

    async def open(self) -> Self:
        """Start, and wait until each endpoint was looked at once; for where `async with` does not fit.

        An endpoint that does not give its bundle keeps nobody from starting: its trust domain is
        not trusted yet, and `health` and an event say why.

        Raises:
            SourceClosedError: It was closed before, or opened by the process this one was forked from.
        """
        return await super().open()

    async def wait_updated(self) -> None:
        """Wait until another bundle of one of the trust domains is published.

        Raises:
            SourceClosedError: The source is not open, or was closed meanwhile.
        """
        self.refuse_unopened()
        await self._shelf.pulse.wait_newer(self._shelf.pulse.version)
        self.refuse_unopened()


def _web_context(
    endpoints: Iterable[BundleEndpoint], ssl_context: ssl.SSLContext | None
) -> ssl.SSLContext | None:
    """Return the one context for all web endpoints, None where there are none."""
    if any(isinstance(endpoint, WebEndpoint) for endpoint in endpoints):
        # Once for all looks: reading a hundred public authorities takes a while.
        return check_web_context(ssl_context or httpx.create_ssl_context(trust_env=False))
    if ssl_context is not None:
        raise TlsConfigurationError("ssl_context= is for web endpoints, and there is none")
    return None


def _distinct(endpoints: Iterable[BundleEndpoint]) -> tuple[BundleEndpoint, ...]:
    distinct = tuple(endpoints)
    domains = [endpoint.trust_domain for endpoint in distinct]
    if not domains:
        raise BundleEndpointError("a federated bundle source needs at least one bundle endpoint")
    for domain in domains:
        if domains.count(domain) > 1:
            raise BundleEndpointError(f"two bundle endpoints for trust domain {domain}; it has one bundle")
    return distinct
