"""The WIT-SVID profile (Workload API §7). Experimental: the standard is incubating, this follows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial

from spiffe_client._clock import Clock
from spiffe_client._frames import border
from spiffe_client._grpc import Limits, StatusError
from spiffe_client.bundle import BundleSet
from spiffe_client.bundle.experimental import WitBundle
from spiffe_client.errors import UnimplementedError, WitSvidError, WorkloadApiError
from spiffe_client.ids import SpiffeId, TrustDomain
from spiffe_client.svid.experimental import WitSvid
from spiffe_client.workload_api._endpoint import Endpoint
from spiffe_client.workload_api._fields import Message
from spiffe_client.workload_api._messages import Empty
from spiffe_client.workload_api._reading import check_mandatory, id_of, read_bundle_set, usable_entries
from spiffe_client.workload_api._rpc import Caller, Refused, log_refused
from spiffe_client.workload_api._wit_messages import (
    WitBundlesResponse,
    WitSvidEntry,
    WitSvidRequest,
    WitSvidResponse,
)

__all__ = ["ExperimentalProfiles"]


class _WitCaller(Caller):
    """Does not call a server again that has said that it does not offer WIT-SVIDs."""

    _offered = True

    def error_of(self, method: str, error: StatusError) -> WorkloadApiError:
        meaning = super().error_of(method, error)
        if isinstance(meaning, UnimplementedError):
            self._offered = False
        return meaning

    def stream(
        self, method: str, request: Message, *, keepalive: float | None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        if not self._offered:
            raise UnimplementedError(
                f"{method}: {self.endpoint} has said that it does not offer WIT-SVIDs; it is not asked again"
            )
        return super().stream(method, request, keepalive=keepalive)


class ExperimentalProfiles:
    """Calls that the standard may still change; what `WorkloadApiClient.experimental` is.

    A server that answers Unimplemented once is not asked again by the same client (Workload API
    §7): the calls raise `UnimplementedError` by themselves from then on.

    Args:
        endpoint: As for the client, and so are the others.
        timeout: Seconds that a first message may take.
        limits: Bounds on answers.
        clock: Says whether a WIT-SVID is valid now.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float, limits: Limits, clock: Clock) -> None:
        self._caller = _WitCaller(endpoint, timeout=timeout, limits=limits)
        self._clock = clock

    async def fetch_wit_svids(self, *, subject: SpiffeId | str | None = None) -> tuple[WitSvid, ...]:
        """Return a WIT-SVID of each identity, or of one (Workload API §7.2.1).

        Args:
            subject: Whose; None for all identities of this workload.

        Raises:
            InvalidIdError: The subject is no SPIFFE ID.
            WorkloadApiError: There is no answer, or not a well-formed one; `UnimplementedError` if
                the server does not offer WIT-SVIDs.
            WitSvidError: A WIT-SVID is malformed, expired, or not what was asked for.
        """
        request = _request(subject)
        return self._wit_svids(request, await self._caller.first("FetchWITSVID", request))

    def watch_wit_svids(
        self, *, refused: Refused, subject: SpiffeId | str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[tuple[WitSvid, ...]]]:
        """Follow the WIT-SVIDs; as `WorkloadApiClient.watch_x509_contexts`."""
        request = _request(subject)
        read = partial(self._wit_svids, request)
        return self._caller.watch("FetchWITSVID", request, lambda: read, refused)

    async def fetch_wit_bundles(self, *, refused: Refused = log_refused) -> BundleSet[WitBundle]:
        """Return the bundles to verify WIT-SVIDs with, and nothing else (Workload API §7.2.2).

        Args:
            refused: As for `WorkloadApiClient.fetch_x509_context`.

        Raises:
            WorkloadApiError: There is no answer, or no bundle in it can be used.
        """
        return _read_bundles(await self._caller.first("FetchWITBundles", Empty()), refused=refused)

    def watch_wit_bundles(
        self, *, refused: Refused
    ) -> AbstractAsyncContextManager[AsyncIterator[BundleSet[WitBundle]]]:
        """Follow the bundles to verify WIT-SVIDs with; as `WorkloadApiClient.watch_x509_contexts`."""
        read = partial(_read_bundles, refused=refused)
        return self._caller.watch("FetchWITBundles", Empty(), lambda: read, refused)

    @border
    def _wit_svids(self, request: WitSvidRequest, data: bytes) -> tuple[WitSvid, ...]:
        response = WitSvidResponse.decode(data)
        check_mandatory("WITSVIDResponse", response, "svids")
        for number, entry in enumerate(response.svids):
            check_mandatory(
                f"WITSVIDResponse.svids[{number}]", entry, "spiffe_id", "wit_svid", "wit_svid_key"
            )
        return tuple(
            _read_svid(where, entry, request, self._clock.now())
            for where, entry in usable_entries("WITSVIDResponse.svids", response.svids)
        )


def _request(subject: SpiffeId | str | None) -> WitSvidRequest:
    return WitSvidRequest("" if subject is None else str(SpiffeId.parse(subject)))


def _read_svid(where: str, entry: WitSvidEntry, request: WitSvidRequest, at: datetime) -> WitSvid:
    spiffe_id = id_of(where, entry.spiffe_id)
    try:
        svid = WitSvid.parse_unverified(entry.wit_svid, entry.wit_svid_key, hint=entry.hint)
    except WitSvidError as error:
        raise WitSvidError(f"{where} ({spiffe_id}): {error}") from error
    if svid.id != spiffe_id:
        raise WitSvidError(f"{where} ({spiffe_id}): the token is of {svid.id}")
    if request.spiffe_id not in ("", str(spiffe_id)):
        raise WitSvidError(
            f"{where} ({spiffe_id}): not the SPIFFE ID that was asked for, {request.spiffe_id}"
        )
    if svid.expires_at <= at:
        raise WitSvidError(f"{where} ({spiffe_id}): the token has expired; is this machine's clock right?")
    return svid


def _read_bundles(data: bytes, *, refused: Refused) -> BundleSet[WitBundle]:
    response = WitBundlesResponse.decode(data)
    return read_bundle_set("WITBundlesResponse.bundles", response.bundles, _parse_bundle, refused)


def _parse_bundle(trust_domain: TrustDomain, jwks: str) -> WitBundle:
    return WitBundle.parse_jwks(trust_domain, jwks.encode())
