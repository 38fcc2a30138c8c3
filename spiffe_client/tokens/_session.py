"""What asking one token broker takes, as one client: where it is, how to get there, who we are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import anyio

from spiffe_client._clock import Clock
from spiffe_client.errors import (
    DiscoveryError,
    SpiffeError,
    TokenBrokerUnavailableError,
    TokenRequestError,
    UnsupportedByBrokerError,
)
from spiffe_client.sources._hooks import Hooks
from spiffe_client.tokens._authentication import ClientAuthentication
from spiffe_client.tokens._channel import Channel, ServerTrust, WebPki
from spiffe_client.tokens._flight import again
from spiffe_client.tokens._identity import Identity
from spiffe_client.tokens._lineage import Lineage
from spiffe_client.tokens._metadata import EndpointName, Metadata
from spiffe_client.tokens._nonces import Nonces
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._retries import Try
from spiffe_client.tokens._spiffe_authentication import JwtSpiffe, X509SvidTls
from spiffe_client.tokens._tokens import AccessToken, BindingMethod
from spiffe_client.tokens._url import check_url

if TYPE_CHECKING:
    from spiffe_client.tokens._caep import CaepPoll
    from spiffe_client.tokens._dpop import DpopKey
    from spiffe_client.tokens._endpoint import Minted, TokenEndpoint
    from spiffe_client.tokens._reply import Reply

__all__ = ["Session"]


class _Reading:
    """The metadata being read, for all who need it."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.error: SpiffeError | None = None


class Session:
    """One client of one token broker; arguments as `TokenBroker`'s.

    Attributes:
        issuer: The token broker's issuer identifier.
        identity: Who asks; None for a client without a SPIFFE identity.
        authentication: How the client shows who it is.
        binding: What tokens are bound to.
        channel: How requests get there.
        dpop: The key that tokens are bound to, with `dpop`.
        nonces: What servers want in proofs.
        metadata: Where the endpoints are; None before they were looked up.
        lineage: Which token was made from which.
        withdrawn: Who hears which tokens a security event takes back.
        security_events: Whom to hear of revoked sessions from; None for nobody.
    """

    def __init__(
        self,
        issuer: str | None,
        *,
        metadata: Metadata | None,
        identity: Identity | None,
        client_id: str | None,
        authentication: ClientAuthentication | None,
        binding: BindingMethod | DpopKey,
        trust: ServerTrust | None,
        allowed_origins: Collection[str],
        max_ttl: float,
        security_events: CaepPoll | None = None,
        clock: Clock,
    ) -> None:
        _check(issuer, metadata, identity, authentication)
        self.issuer = metadata.issuer if metadata is not None else str(issuer)
        self.identity = identity
        self.authentication: ClientAuthentication = authentication or JwtSpiffe()
        self.binding: BindingMethod = binding if isinstance(binding, str) else "dpop"
        shows = binding == "mtls" or self.authentication.presents_certificate
        trust = self.authentication.server if isinstance(self.authentication, X509SvidTls) else trust
        self.channel = Channel(trust or WebPki(), identity=identity, present_svid=shows, clock=clock)
        shared = None if isinstance(binding, str) else binding
        self.dpop = _new_key() if binding == "dpop" else shared
        self._own_key = None if shared else self.dpop
        self.nonces = Nonces()
        self.metadata = metadata
        self.lineage = Lineage()
        self.withdrawn: Hooks[[Callable[[AccessToken], bool]]] = Hooks()
        self.security_events = security_events
        self._client_id = client_id or ""
        self._allowed_origins = tuple(allowed_origins)
        self._max_ttl = max_ttl
        self._clock = clock
        self._reading: _Reading | None = None
        self._endpoint: TokenEndpoint | None = None

    @property
    def client_id(self) -> str:
        """Who we are to the token broker; the SPIFFE ID unless another name was given.

        Raises:
            SourceError: There is no identity now.
        """
        return self._client_id or (str(self.identity.id) if self.identity is not None else "")

    async def discover(self, seconds: float) -> Metadata:
        """Return the metadata, read when first needed, once for all who need it.

        Raises:
            DiscoveryError: There is none, or it cannot be trusted.
            UnsupportedByBrokerError: The token broker cannot bind tokens as they are to be bound.
            TokenBrokerUnavailableError: It cannot be reached, or does not answer within `seconds`.
        """
        while self.metadata is None:
            reading = self._reading
            if reading is None:
                self._reading = reading = _Reading()
                try:
                    self.metadata = await self._read(seconds)
                except SpiffeError as error:
                    reading.error = error
                    raise
                finally:
                    # Cancelled, it leaves no error behind: one of those who wait reads on.
                    self._reading = None
                    reading.done.set()
            else:
                await reading.done.wait()
                if reading.error is not None:
                    raise again(reading.error)
        return self.metadata

    async def mint(self, request: TokenRequest, attempt: Try, channel: Channel | None = None) -> Minted:
        """Ask for a token once; see `TokenEndpoint.mint`."""
        started = self._clock.monotonic()
        endpoint = await self._called(attempt.remaining)
        left = attempt.remaining - (self._clock.monotonic() - started)
        minted = await endpoint.mint(request, timeout=left, refresh=attempt.refresh, channel=channel)
        self.lineage.add(minted.token, now=self._clock.now())
        return minted

    async def call(
        self,
        endpoint: EndpointName,
        form: Sequence[tuple[str, str]],
        *,
        timeout: float,  # noqa: ASYNC109 - a total deadline, kept with anyio's
        refresh: bool = False,
    ) -> Reply:
        """Post a form to an endpoint; see `TokenEndpoint.call`."""
        # One deadline over both, also where it is another one who reads the metadata.
        with anyio.move_on_after(timeout):
            called = await self._called(timeout)
            return await called.call(endpoint, form, timeout=timeout, refresh=refresh)
        raise TokenBrokerUnavailableError(f"no answer from {self.issuer} within {timeout:g} s")

    def limit(self, token: AccessToken) -> float:
        """Return the seconds that a token just issued is used at most.

        Raises:
            SourceError: It is bound to a certificate, and there is none now.
        """
        most = min(self._max_ttl, token.request.max_ttl or self._max_ttl)
        if token.binding.method != "mtls" or self.identity is None:
            return most
        left = self.identity.x509_context.svid.not_after - self._clock.now()
        return min(most, left.total_seconds())

    def stop(self) -> None:
        """Forget what tokens were made from which, and the key; any thread, also in a signal handler."""
        self.lineage.clear()
        if self._own_key is not None:  # one that is shared is not ours to drop
            self._own_key.drop()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.channel.aclose()

    async def _called(self, seconds: float) -> TokenEndpoint:
        metadata = await self.discover(seconds)
        if self._endpoint is None:
            from spiffe_client.tokens._endpoint import TokenEndpoint

            self._endpoint = TokenEndpoint(
                metadata,
                self.channel,
                authentication=self.authentication,
                client_id=self._client_id,
                identity=self.identity,
                binding=self.binding,
                dpop=self.dpop,
                nonces=self.nonces,
                clock=self._clock,
            )
        return self._endpoint

    async def _read(self, seconds: float) -> Metadata:
        from spiffe_client.tokens._discovery import discover

        metadata = await discover(
            self.channel, self.issuer, timeout=seconds, allowed_origins=self._allowed_origins
        )
        offered = {
            "dpop": self.dpop is not None and self.dpop.alg in metadata.dpop_signing_alg_values_supported,
            "mtls": metadata.tls_client_certificate_bound_access_tokens,
            "none": True,
        }
        if not offered[self.binding]:
            raise UnsupportedByBrokerError(
                f"the token broker {self.issuer} does not say that it binds tokens by {self.binding}; "
                'binding="none" accepts bearer tokens, which whoever holds them can use',
                feature=self.binding,
            )
        return metadata


def _check(
    issuer: str | None,
    metadata: Metadata | None,
    identity: Identity | None,
    authentication: ClientAuthentication | None,
) -> None:
    if (issuer is None) == (metadata is None):
        raise TokenRequestError(
            "name the token broker: its issuer, or its metadata where it has no discovery"
        )
    if issuer is not None:
        check_url(issuer, "issuer", error=DiscoveryError)
    if authentication is None and identity is None:
        raise TokenRequestError(
            "say who asks: identity=, such as a Workload, or authentication= for a client that has none"
        )


def _new_key() -> DpopKey:
    from spiffe_client.tokens._dpop import DpopKey

    return DpopKey()
