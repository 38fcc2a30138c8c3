"""A whole trust domain in one process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Self

from spiffe_client._async_only import async_only
from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.bundle import SpiffeBundle
from spiffe_client.dev._authority import CertificateAuthority
from spiffe_client.dev._issuer import Issuer
from spiffe_client.dev._registration import Registration, Selectors
from spiffe_client.dev._registrations import Registrations
from spiffe_client.dev._server import WorkloadApiServer
from spiffe_client.errors import EndpointError
from spiffe_client.ids import SpiffeId, TrustDomain

__all__ = ["DevTrustDomain"]


class DevTrustDomain:
    """A trust domain for development: authority, registrations, and a real Workload API socket.

    An async context manager, on asyncio and trio. SVIDs live briefly and are issued anew, and
    pushed, at half of their life. Every change takes effect at once, and open streams are told;
    what can be awaited returns when they were.

    Args:
        name: The trust domain's name.
        socket: Path of the Workload API socket; by default one in a private temporary directory.
        socket_mode: Who may connect at all: the permissions of the socket files.
        registrations: Who gets which identity, at first.
        svid_ttl: Seconds an X509-SVID lasts where its registration does not say.
        jwt_ttl: Seconds a JWT-SVID lasts.
        intermediate: Whether an intermediate signs SVIDs, as in production, or the root.
        clock: What says now, and waits.

    Raises:
        InvalidIdError: `name` is no trust domain.
        RegistrationError: A registration is of another trust domain.
    """

    def __init__(
        self,
        name: TrustDomain | str,
        *,
        socket: Path | str | None = None,
        socket_mode: int = 0o600,
        registrations: Registrations = Registrations(),  # noqa: B008 - immutable
        svid_ttl: float = 60.0,
        jwt_ttl: float = 60.0,
        intermediate: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        #: Issues, rotates; changes made here directly are pushed too.
        self.ca: CertificateAuthority = CertificateAuthority(name, intermediate=intermediate, clock=clock)
        self._issuer = Issuer(self.ca, registrations, svid_ttl=svid_ttl, jwt_ttl=jwt_ttl, clock=clock)
        self._socket = None if socket is None else Path(socket).absolute()
        self._socket_mode = socket_mode
        self._clock = clock
        self._directory: TemporaryDirectory[str] | None = None
        self._main: WorkloadApiServer | None = None
        self._own: dict[SpiffeId, WorkloadApiServer] = {}
        self._serving = False
        self._closed = False

    async def __aenter__(self) -> Self:
        if self._closed or self._directory is not None:
            raise EndpointError(f"the development trust domain {self.trust_domain} was opened before")
        # Nobody else's (mode 0700); warns if this domain is forgotten instead of closed.
        self._directory = TemporaryDirectory(prefix="spiffe-dev-", ignore_cleanup_errors=True)
        path = self._socket or Path(self._directory.name, "api.sock")
        self._main = WorkloadApiServer(self._issuer, path, mode=self._socket_mode)
        try:
            await self.resume()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self._close()

    if not TYPE_CHECKING:
        __enter__ = __exit__ = async_only

    async def _close(self) -> None:
        self._closed = True
        self._issuer.close()
        await self.stop_serving()
        assert self._directory is not None
        self._directory.cleanup()

    @property
    def trust_domain(self) -> TrustDomain:
        """Its name."""
        return self.ca.trust_domain

    @property
    def endpoint(self) -> str:
        """The Workload API's address, as `SPIFFE_ENDPOINT_SOCKET` takes it.

        Raises:
            EndpointError: It was not opened yet, or is closed.
        """
        return self._opened().endpoint

    @property
    def bundles(self) -> tuple[SpiffeBundle, ...]:
        """Its own bundle, and those of the trust domains it federates with, as they are now."""
        return (self.ca.spiffe_bundle, *self._issuer.federation.bundles)

    @property
    def registrations(self) -> Registrations:
        """Who gets which identity now."""
        return self._issuer.registrations

    def register(
        self,
        spiffe_id: SpiffeId | str,
        *,
        any: bool = False,  # noqa: A002 - as in the file
        uid: int | None = None,
        gid: int | None = None,
        pid: int | None = None,
        path: str | None = None,
        own_endpoint: bool = False,
        ttl: float | None = None,
        hint: str = "",
        dns_names: Iterable[str] = (),
        federates_with: Iterable[TrustDomain | str] | None = None,
    ) -> Registration:
        """Give an identity to callers of the shared socket: any of them, or those that match.

        The arguments are explained at `Selectors` and `Registration`.

        Returns:
            The registration as it stands.

        Raises:
            InvalidIdError: A SPIFFE ID or trust domain is malformed.
            RegistrationError: Nothing is selected, the same is registered already, the ID is of
                another trust domain, or something else is wrong with it.
        """
        entry = Registration(
            SpiffeId.parse(spiffe_id),
            Selectors(any_caller=any, uid=uid, gid=gid, pid=pid, path=path, own_endpoint=own_endpoint),
            ttl=ttl,
            hint=hint,
            dns_names=tuple(dns_names),
            federates_with=None
            if federates_with is None
            else frozenset(map(TrustDomain.parse, federates_with)),
        )
        self._issuer.registrations = self.registrations.add(entry)
        return entry

    def deregister(self, spiffe_id: SpiffeId | str) -> None:
        """Withdraw an identity: from now on nobody gets it.

        Raises:
            RegistrationError: It is not registered.
        """
        self._issuer.registrations = self.registrations.without(SpiffeId.parse(spiffe_id))

    async def rotate(self) -> None:
        """Issue every SVID anew and push it, now."""
        self._issuer.rotate()
        await self._issuer.wait_told()

    async def rotate_authority(self, *, settle: float = 0.1) -> None:
        """Let a new root and a new JWT key sign; what the old ones signed stays good.

        The new ones are published first, so that every peer knows them before it meets what they
        signed.

        Args:
            settle: Seconds that peers have to take the new ones in before they sign.
        """
        self.ca.prepare_x509_authority()
        self.ca.prepare_jwt_authority()
        await self._issuer.wait_told()
        await self._clock.sleep(settle)
        self.ca.rotate_jwt_authority()
        self.ca.rotate_x509_authority()
        await self._issuer.wait_told()

    async def retire_old_authorities(self) -> None:
        """Publish only the authorities that sign; what former ones signed is good no more."""
        self.ca.retire_old_authorities()
        await self._issuer.wait_told()

    def federate_with(self, other: DevTrustDomain | CertificateAuthority) -> None:
        """Follow another trust domain's bundle, so that workloads here can verify its workloads.

        One-sided, as in the standard: the other one must federate with this one for the reverse.

        Raises:
            BundleError: It is this trust domain itself, or there is a federation with it already.
        """
        self._issuer.federation.add(other.ca if isinstance(other, DevTrustDomain) else other)

    def unfederate(self, other: DevTrustDomain | CertificateAuthority | TrustDomain | str) -> None:
        """Cease to trust another trust domain.

        Raises:
            BundleNotFoundError: There is no federation with it.
        """
        if isinstance(other, DevTrustDomain | CertificateAuthority):
            other = other.trust_domain
        self._issuer.federation.remove(TrustDomain.parse(other))

    async def endpoint_for(self, spiffe_id: SpiffeId | str) -> str:
        """Open one more socket that serves one identity only, to whoever connects to it.

        So several identities can live in one process, or under one user. One that is not
        registered is registered, for this endpoint alone; with options: `register` it before.

        Returns:
            Its address; the same one when asked again.

        Raises:
            EndpointError: The trust domain is not open.
            InvalidIdError: It is not a SPIFFE ID.
            RegistrationError: It is of another trust domain, or no workload's.
        """
        self._opened()
        assert self._directory is not None
        spiffe_id = SpiffeId.parse(spiffe_id)
        if not self.registrations.of(spiffe_id):
            self.register(spiffe_id, own_endpoint=True)
        if spiffe_id not in self._own:
            self._own[spiffe_id] = WorkloadApiServer(
                self._issuer,
                Path(self._directory.name, f"{len(self._own)}.sock"),
                entitled=lambda _caller: self.registrations.of(spiffe_id),
            )
        if self._serving:
            await self._own[spiffe_id].start()
        return self._own[spiffe_id].endpoint

    async def stop_serving(self) -> None:
        """Cut all connections and take the sockets away, as when an agent goes down."""
        self._serving = False
        for server in self._servers():
            await server.stop()

    async def resume(self) -> None:
        """Serve again where it was served before.

        Raises:
            EndpointError: The trust domain is not open, or something else is at a path.
        """
        self._opened()
        self._serving = True
        for server in self._servers():
            await server.start()

    def _servers(self) -> tuple[WorkloadApiServer, ...]:
        return () if self._main is None else (self._main, *self._own.values())

    def _opened(self) -> WorkloadApiServer:
        if self._main is None or self._closed:
            raise EndpointError(
                f"the development trust domain {self.trust_domain} is not open; use it as: async with …"
            )
        return self._main
