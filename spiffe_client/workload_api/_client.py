"""The client of the Workload API: every call of the standard, once or as a stream."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property, partial
from typing import TYPE_CHECKING

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._frames import async_border, border
from spiffe_client._grpc import Limits
from spiffe_client.errors import InvalidRequestError, JwtSvidError, NoIdentityIssuedError
from spiffe_client.ids import SpiffeId
from spiffe_client.workload_api._endpoint import Endpoint
from spiffe_client.workload_api._messages import Empty
from spiffe_client.workload_api._rpc import Caller, Refused, log_refused

if TYPE_CHECKING:
    from spiffe_client.bundle import BundleSet, JwtBundle, X509Bundle
    from spiffe_client.svid import JwtSvid
    from spiffe_client.workload_api._context import X509Context
    from spiffe_client.workload_api._experimental import ExperimentalProfiles
    from spiffe_client.workload_api._validated import ValidatedJwtSvid

__all__ = ["WorkloadApiClient"]

_LIMITS = Limits()


class WorkloadApiClient:
    """Asks a Workload API. Holds no connection and no state: each call opens one and closes it.

    `fetch_*` asks once and raises on an answer that is of no use. `watch_*` follows a stream for as
    long as the server sends, neither reconnects nor raises on a message that is of no use, and
    tells `refused` instead: a `BundleError` for one trust domain's bundle that is left out while
    the rest of its message is used, any other error for a message that is dropped whole.

    Args:
        endpoint: Where; None takes it from the environment variable `SPIFFE_ENDPOINT_SOCKET`.
        timeout: Seconds that an answer may take, connecting included; for a stream its first
            message.
        limits: Bounds on answers; an oversized message is refused before it is read.
        clock: Says whether an SVID is valid now.

    Raises:
        EndpointError: There is no address, or it is malformed.
    """

    def __init__(
        self,
        endpoint: Endpoint | str | None = None,
        *,
        timeout: float = 5.0,
        limits: Limits = _LIMITS,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if endpoint is None:
            endpoint = Endpoint.from_environment(os.environ)
        self._caller = Caller(Endpoint.parse(endpoint), timeout=timeout, limits=limits)
        self._clock = clock

    @property
    def endpoint(self) -> Endpoint:
        """Where the Workload API is."""
        return self._caller.endpoint

    @cached_property
    def experimental(self) -> ExperimentalProfiles:
        """Calls that the standard may still change: WIT-SVIDs (Workload API §7, incubating)."""
        from spiffe_client.workload_api._experimental import ExperimentalProfiles

        caller = self._caller
        return ExperimentalProfiles(
            caller.endpoint, timeout=caller.timeout, limits=caller.limits, clock=self._clock
        )

    async def fetch_x509_context(self, *, refused: Refused = log_refused) -> X509Context:
        """Return the identities of this workload and the bundles, checked (Workload API §5.2.1).

        Args:
            refused: Told a `BundleError` for each federated bundle that is left out; a warning
                in the log by default.

        Raises:
            WorkloadApiError: There is no answer, or not a well-formed one; `NoIdentityIssuedError`
                if nothing is issued to this workload.
            X509SvidError: An SVID is not what it must be, or is not valid now.
        """
        return self._x509_reader(refused)(await self._caller.first("FetchX509SVID", Empty()))

    def watch_x509_contexts(
        self, *, refused: Refused
    ) -> AbstractAsyncContextManager[AsyncIterator[X509Context]]:
        """Follow the identities of this workload and the bundles: each value replaces all before.

        Args:
            refused: Told of what cannot be used: see the class.

        Returns:
            To be entered, then iterated. Both raise `WorkloadApiError`; a stream that the server
            ends regularly just ends.
        """
        return self._caller.watch("FetchX509SVID", Empty(), partial(self._x509_reader, refused), refused)

    async def fetch_x509_bundles(self, *, refused: Refused = log_refused) -> BundleSet[X509Bundle]:
        """Return the bundles to verify X509-SVIDs with, and nothing else (Workload API §5.2.2).

        Args:
            refused: As for `fetch_x509_context`.

        Raises:
            WorkloadApiError: There is no answer, or no bundle in it can be used.
        """
        return _x509_bundles_reader(refused)(await self._caller.first("FetchX509Bundles", Empty()))

    def watch_x509_bundles(
        self, *, refused: Refused
    ) -> AbstractAsyncContextManager[AsyncIterator[BundleSet[X509Bundle]]]:
        """Follow the bundles to verify X509-SVIDs with; as `watch_x509_contexts`."""
        load = partial(_x509_bundles_reader, refused)
        return self._caller.watch("FetchX509Bundles", Empty(), load, refused)

    async def fetch_jwt_svids(
        self, audience: str | Sequence[str], *, subject: SpiffeId | str | None = None
    ) -> tuple[JwtSvid, ...]:
        """Return a JWT-SVID of each identity, or of one (Workload API §6.2.1).

        Args:
            audience: Whom the tokens are for; passed on as it is, at least one and none empty.
            subject: Whose token; None for all identities of this workload.

        Raises:
            InvalidAudienceError: The audience is empty.
            InvalidIdError: The subject is no SPIFFE ID.
            WorkloadApiError: There is no answer, or not a well-formed one.
            JwtSvidError: A token is malformed, expired, or not what was asked for.
        """
        # Not on the way to the first X509-SVID.
        from spiffe_client._redact import Secret
        from spiffe_client.workload_api import _jwt

        request = _jwt.jwt_svid_request(audience, subject)
        try:
            answer = Secret(await self._caller.ask("FetchJWTSVID", request))
        except NoIdentityIssuedError as error:
            if subject is None:
                raise
            raise NoIdentityIssuedError(f"{subject} is not issued to this process: {error}") from error
        return _jwt.read_jwt_svids(answer.reveal(), request, at=self._clock.now())

    async def fetch_jwt_bundles(self, *, refused: Refused = log_refused) -> BundleSet[JwtBundle]:
        """Return the bundles to verify JWT-SVIDs with, and nothing else (Workload API §6.2.2).

        Args:
            refused: As for `fetch_x509_context`.

        Raises:
            WorkloadApiError: There is no answer, or no bundle in it can be used.
        """
        return _jwt_bundles_reader(refused)(await self._caller.first("FetchJWTBundles", Empty()))

    def watch_jwt_bundles(
        self, *, refused: Refused
    ) -> AbstractAsyncContextManager[AsyncIterator[BundleSet[JwtBundle]]]:
        """Follow the bundles to verify JWT-SVIDs with; as `watch_x509_contexts`."""
        load = partial(_jwt_bundles_reader, refused)
        return self._caller.watch("FetchJWTBundles", Empty(), load, refused)

    @async_border
    async def validate_jwt_svid(self, token: str, *, audience: str) -> ValidatedJwtSvid:
        """Have a JWT-SVID validated by the Workload API (Workload API §6.2.3).

        Args:
            token: What a caller presented.
            audience: Who is asking: the token has to be for it.

        Raises:
            InvalidAudienceError: The audience is empty.
            InvalidRequestError: The token is.
            JwtSvidError: The Workload API does not accept the token.
            WorkloadApiError: There is no answer, or not a well-formed one.
        """
        from spiffe_client.workload_api import _jwt

        request = _jwt.validate_request(token, audience)
        try:
            answer = await self._caller.ask("ValidateJWTSVID", request, hide=token)
        except InvalidRequestError as error:
            # The header was sent and no field is empty, so that it is the token that is invalid.
            raise JwtSvidError(f"the Workload API does not accept the JWT-SVID: {error.__cause__}") from error
        return _jwt.read_validated(answer)

    def _x509_reader(self, refused: Refused) -> Callable[[bytes], X509Context]:
        # Loads all of X.509, the largest part of a start; see `Caller.watch`.
        from spiffe_client.workload_api._x509 import read_x509_context

        @border
        def read(message: bytes) -> X509Context:
            return read_x509_context(message, at=self._clock.now(), refused=refused)

        return read


def _x509_bundles_reader(refused: Refused) -> Callable[[bytes], BundleSet[X509Bundle]]:
    from spiffe_client.workload_api._x509 import read_x509_bundles

    return partial(read_x509_bundles, refused=refused)


def _jwt_bundles_reader(refused: Refused) -> Callable[[bytes], BundleSet[JwtBundle]]:
    from spiffe_client.workload_api._jwt import read_jwt_bundles

    return partial(read_jwt_bundles, refused=refused)
