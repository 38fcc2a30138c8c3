"""What a trust domain issues to whom, from when on anew, and the news of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import anyio
from cryptography import x509

from spiffe_client._clock import Clock
from spiffe_client._latest import Latest
from spiffe_client.bundle import SpiffeBundle
from spiffe_client.dev._authority import CertificateAuthority
from spiffe_client.dev._caller import Caller
from spiffe_client.dev._federation import Federation
from spiffe_client.dev._registration import Registration
from spiffe_client.dev._registrations import Registrations
from spiffe_client.dev._streams import Streams
from spiffe_client.svid import X509Svid

__all__ = ["Issuer"]

#: The shortest wait for a renewal, in seconds, however little is left of an SVID's life.
_SHORTEST_WAIT = 0.5


@dataclass(frozen=True, slots=True)
class _Issued:
    svid: X509Svid
    issuer: x509.Certificate
    renew_at: datetime


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
        self.streams = Streams()
        self.federation = Federation(ca.trust_domain, self._changed)
        self._registrations = registrations.require(ca.trust_domain)
        self._svid_ttl = svid_ttl
        self._jwt_ttl = jwt_ttl
        self._issued: dict[Registration, _Issued] = {}
        self._unsubscribe = ca.subscribe(self._changed)

    @property
    def registrations(self) -> Registrations:
        """Who gets what."""
        return self._registrations

    @registrations.setter
    def registrations(self, registrations: Registrations) -> None:
        self._registrations = registrations.require(self.ca.trust_domain)
        self._issued = {e: issued for e, issued in self._issued.items() if e in registrations.entries}
        self._changed()

    def matching(self, caller: Caller) -> tuple[Registration, ...]:
        """Return what this caller is entitled to now, perhaps nothing."""
        return self._registrations.matching(caller)

    def rotate(self) -> None:
        """Issue every SVID anew, now."""
        self._issued.clear()
        self._changed()

    def close(self) -> None:
        """End all streams, follow no other trust domain."""
        self._unsubscribe()
        self.federation.clear()
        self.changes.close()

    def x509_svid(self, entry: Registration) -> X509Svid:
        """Return the current X509-SVID of a registration, a new one if it is time."""
        now = self.clock.now()
        issued = self._issued.get(entry)
        if issued is None or now >= issued.renew_at or issued.issuer is not self.ca.issuer:
            svid = self.ca.issue_x509_svid(
                entry.id, ttl=entry.ttl or self._svid_ttl, hint=entry.hint, dns_names=entry.dns_names
            )
            renew_at = now + (svid.not_after - now) / 2
            issued = self._issued[entry] = _Issued(svid, self.ca.issuer, renew_at)
        return issued.svid

    def jwt_svid(self, entry: Registration, audience: Sequence[str]) -> str:
        """Return a new JWT-SVID of a registration."""
        return self.ca.issue_jwt_svid(entry.id, audience, ttl=self._jwt_ttl)

    def wit_svid(self, entry: Registration) -> tuple[str, str]:
        """Return a new WIT-SVID of a registration, and its private key as a JWK."""
        return self.ca.issue_wit_svid(entry.id, ttl=self._jwt_ttl)

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

    async def wait_news(self, seen: int, entries: Iterable[Registration]) -> bool:
        """Wait until something changed or an SVID of these registrations is to be renewed.

        Args:
            seen: The version of `changes` that the caller has acted upon.
            entries: Whose SVIDs the caller has been given.

        Returns:
            False when the trust domain was closed instead.
        """
        due = [issued.renew_at for e in entries if (issued := self._issued.get(e)) is not None]
        if not due:
            return await self.changes.wait_newer(seen)
        is_open = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._wait_until, min(due), tasks.cancel_scope)
            is_open = await self.changes.wait_newer(seen)
            tasks.cancel_scope.cancel()
        return is_open

    async def _wait_until(self, due: datetime, wake: anyio.CancelScope) -> None:
        await self.clock.sleep(max(_SHORTEST_WAIT, (due - self.clock.now()).total_seconds()))
        wake.cancel()

    def _changed(self) -> None:
        self.changes.set(None)
