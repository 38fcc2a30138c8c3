"""What a trust domain issues to whom, from when on anew, and the news of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

import anyio

from spiffe_client._clock import Clock
from spiffe_client._latest import Latest
from spiffe_client.bundle import SpiffeBundle
from spiffe_client.dev._authority import CertificateAuthority
from spiffe_client.dev._caller import Caller
from spiffe_client.dev._federation import Federation
from spiffe_client.dev._registration import Registration
from spiffe_client.dev._registrations import Registrations
from spiffe_client.dev._renewals import Renewals
from spiffe_client.dev._streams import Streams
from spiffe_client.svid import X509Svid

__all__ = ["Issuer"]

#: The shortest wait for a renewal, in seconds, however little is left of an SVID's life.
_SHORTEST_WAIT = 0.5


class Issuer:
    """Issues SVIDs by registrations, each anew at half of its life, and tells of every change.

    The state of a development trust domain, without a socket. Belongs to one event loop.

    Args:
        ca: Signs.
        registrations: Who gets what, at first.
        svid_ttl: Seconds an X509-SVID lasts where its registration does not say.
        jwt_ttl: Seconds a JWT-SVID lasts.
        clock: What says now.

    Raises:
        RegistrationError: A registration is of another trust domain.
    """

    def __init__(
        self,
        ca: CertificateAuthority,
        registrations: Registrations,
        *,
        svid_ttl: float,
        jwt_ttl: float,
        clock: Clock,
    ) -> None:
        self.ca = ca
        self.clock = clock
        #: Its version counts the changes that may concern an open stream.
        self.changes: Latest[None] = Latest(None)
        #: The streams that tell clients of them.
        self.streams: Streams = Streams()
        self.federation: Federation = Federation(ca.trust_domain, self._changed)
        self._registrations = registrations.require(ca.trust_domain)
        self._svid_ttl = svid_ttl
        self._jwt_ttl = jwt_ttl
        self._signer = ca.issuer
        #: X509-SVIDs, and WIT-SVIDs with their keys.
        self.x509_svids: Renewals[X509Svid] = Renewals(self._issue_x509_svid, clock)
        self.wit_svids: Renewals[tuple[str, str]] = Renewals(self._issue_wit_svid, clock)
        self._unsubscribe = ca.subscribe(self._authority_changed)

    @property
    def registrations(self) -> Registrations:
        """Who gets what."""
        return self._registrations

    @registrations.setter
    def registrations(self, registrations: Registrations) -> None:
        self._registrations = registrations.require(self.ca.trust_domain)
        self._keep_only(registrations.entries)
        self._changed()

    def matching(self, caller: Caller) -> tuple[Registration, ...]:
        """Return what this caller is entitled to now, perhaps nothing."""
        return self._registrations.matching(caller)

    def rotate(self) -> None:
        """Issue every SVID anew, now."""
        self._keep_only(())
        self._changed()

    def close(self) -> None:
        """End all streams, follow no other trust domain."""
        self._unsubscribe()
        self.federation.clear()
        self.changes.close()

    def jwt_svid(self, entry: Registration, audience: Sequence[str]) -> str:
        """Return a new JWT-SVID of a registration."""
        return self.ca.issue_jwt_svid(entry.id, audience, ttl=self._jwt_ttl)

    def foreign_bundles(self, entries: Iterable[Registration]) -> tuple[SpiffeBundle, ...]:
        """Return the federated bundles that a caller with these registrations gets."""
        named = [e.federates_with for e in entries]
        return tuple(
            bundle
            for bundle in self.federation.bundles
            if any(names is None or bundle.trust_domain in names for names in named)
        )

    async def wait_told(self) -> None:
        """Wait until every client with an open stream has been told of all changes so far."""
        await self.streams.wait_told(self.changes.version)

    async def wait_news(self, seen: int, due: datetime | None) -> bool:
        """Wait until something changed or something is to be renewed.

        Args:
            seen: The version of `changes` that the caller has acted upon.
            due: When something that the caller was given is to be renewed, if ever.

        Returns:
            False when the trust domain was closed instead.
        """
        if due is None:
            return await self.changes.wait_newer(seen)
        is_open = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._wait_until, due, tasks.cancel_scope)
            is_open = await self.changes.wait_newer(seen)
            tasks.cancel_scope.cancel()
        return is_open

    async def _wait_until(self, due: datetime, wake: anyio.CancelScope) -> None:
        await self.clock.sleep(max(_SHORTEST_WAIT, (due - self.clock.now()).total_seconds()))
        wake.cancel()

    def _issue_x509_svid(self, entry: Registration) -> tuple[X509Svid, datetime]:
        svid = self.ca.issue_x509_svid(
            entry.id, ttl=entry.ttl or self._svid_ttl, hint=entry.hint, dns_names=entry.dns_names
        )
        return svid, svid.not_after

    def _issue_wit_svid(self, entry: Registration) -> tuple[tuple[str, str], datetime]:
        expires_at = self.clock.now() + timedelta(seconds=self._jwt_ttl)
        return self.ca.issue_wit_svid(entry.id, ttl=self._jwt_ttl), expires_at

    def _keep_only(self, entries: Collection[Registration]) -> None:
        self.x509_svids.keep_only(entries)
        self.wit_svids.keep_only(entries)

    def _authority_changed(self) -> None:
        if self._signer is not self.ca.issuer:
            self._signer = self.ca.issuer
            self.x509_svids.keep_only(())
        self._changed()

    def _changed(self) -> None:
        self.changes.set(None)
