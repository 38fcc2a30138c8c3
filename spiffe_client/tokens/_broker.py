"""The token broker's client: asks for tokens with this workload's identity and keeps them fresh."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, ClassVar, Self, Unpack

from spiffe_client._async_only import async_only
from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.audit import EventSink, safe_sink
from spiffe_client.errors import SpiffeError, StoppedError, TokenBrokerClosedError
from spiffe_client.tokens._health import TokenHealth
from spiffe_client.tokens._kill_switch import KillSwitch
from spiffe_client.tokens._lineage import depth_of
from spiffe_client.tokens._open import Open
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._session import Session
from spiffe_client.tokens._tokens import AccessToken, BindingMethod, SecurityToken

if TYPE_CHECKING:
    from spiffe_client.tokens._authentication import ClientAuthentication
    from spiffe_client.tokens._caep import CaepPoll
    from spiffe_client.tokens._channel import Channel, ServerTrust
    from spiffe_client.tokens._dpop import DpopKey
    from spiffe_client.tokens._identity import Identity
    from spiffe_client.tokens._introspection import Introspection
    from spiffe_client.tokens._metadata import Metadata
    from spiffe_client.tokens._nonces import Nonces
    from spiffe_client.tokens._options import TokenTerms
    from spiffe_client.tokens._revocation import Revocation

__all__ = ["TokenBroker"]


class TokenBroker:
    """A token broker, and the tokens it issued to this workload.

    Tokens live in memory only, are shared by all callers of all threads and event loops, and are
    renewed in the background ahead of expiry for as long as somebody uses them.

    Args:
        issuer: Its issuer identifier (RFC 8414 §2); where its endpoints are is discovered at first use.
        metadata: Its endpoints, where it has no discovery; in place of `issuer`.
        identity: Who asks: an open `Workload`; None for a client that has no SPIFFE identity.
        client_id: The OAuth client; None for the SPIFFE ID.
        authentication: How the client shows who it is; None for `JwtSpiffe()`, which needs `identity`.
        binding: What tokens are bound to: `dpop` makes a key, a `DpopKey` is shared; `none` accepts bearer tokens.
        trust: How the token broker's own certificate is verified; None for `WebPki()`.
        allowed_origins: Origins beside the issuer's that its endpoints may have.
        max_ttl: Seconds after which a token is not used any more, whatever its issuer says.
        timeout: Seconds that a caller waits for a token at most.
        capacity: Most tokens kept; the least recently used go first.
        security_events: Whom to hear of revoked sessions from; None for nobody.
        clock: Where the time comes from.
        on_event: Takes events; the default writes them to the logger `spiffe_client`.
    """

    # What its user opens, and how.
    _KNOWN: ClassVar = ("this TokenBroker", "use `async with` or await open()")
    if not TYPE_CHECKING:
        __enter__ = __exit__ = async_only

    def __init__(
        self,
        issuer: str | None = None,
        *,
        metadata: Metadata | None = None,
        identity: Identity | None = None,
        client_id: str | None = None,
        authentication: ClientAuthentication | None = None,
        binding: BindingMethod | DpopKey = "dpop",
        trust: ServerTrust | None = None,
        allowed_origins: Collection[str] = (),
        max_ttl: float = 3600.0,
        timeout: float = 10.0,
        capacity: int = 16384,
        security_events: CaepPoll | None = None,
        clock: Clock = SYSTEM_CLOCK,
        on_event: EventSink | None = None,
    ) -> None:
        self._session = Session(
            issuer,
            metadata=metadata,
            identity=identity,
            client_id=client_id,
            authentication=authentication,
            binding=binding,
            trust=trust,
            allowed_origins=allowed_origins,
            max_ttl=max_ttl,
            security_events=security_events,
            clock=clock,
        )
        self._timeout = timeout
        self._capacity = capacity
        self._clock = clock
        self._sink = safe_sink(on_event)
        self._made_at = clock.now()
        self._open: Open | None = None
        self._closed = False
        self.switch: KillSwitch = KillSwitch()  # what `stop` uses

    async def open(self) -> Self:
        """Start the background task; does not wait for the token broker. Idempotent.

        Raises:
            TokenBrokerClosedError: It was closed before, or opened by the process this one was forked from.
            StoppedError: It was stopped.
        """
        if self._open is None and not self._closed and not self.switch.used:
            self._open = Open(
                self._session,
                clock=self._clock,
                timeout=self._timeout,
                capacity=self._capacity,
                sink=self._sink,
                switch=self.switch,
                owner=self._KNOWN[0],
            )
            if self.switch.used:  # by another thread, a moment ago, or its identity was
                await self.aclose()
        self._opened()
        return self

    async def aclose(self, *, revoke: bool = False) -> None:
        """Forget all tokens (with `revoke`, have them revoked within 5 s) and stop; idempotent, on any event loop."""
        self._closed = True
        live = self._open
        if live is not None and not live.home.forked:
            await live.close(revoke=revoke)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        live = getattr(self, "_open", None)  # absent if the constructor raised
        if live is not None and not self._closed and not live.home.forked:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)

    def peek(self, request: TokenRequest) -> AccessToken | None:
        """Return the token held for this request if it is valid now; instant, from any thread."""
        live = self._open
        return None if live is None or self.switch.used else live.cache.peek(request)

    async def token(
        self,
        *scope: str,
        timeout: float | None = None,  # noqa: ASYNC109 - kept by the injected clock
        **terms: Unpack[TokenTerms],
    ) -> AccessToken:
        """Return a token that is valid now; arguments as `TokenRequest.of`, the rest as `fetch`."""
        return await self.fetch(TokenRequest.of(*scope, **terms), timeout=timeout)

    async def fetch(self, request: TokenRequest, *, timeout: float | None = None) -> AccessToken:  # noqa: ASYNC109 - kept by the injected clock
        """Return a token that is valid now, from memory or from the token broker; on any event loop.

        Args:
            request: What for.
            timeout: Seconds to wait at most; None for the broker's own.

        Raises:
            TokenError: It was refused, or the token broker cannot be reached in time.
            SourceError: There is no identity to ask with, or it was stopped (`StoppedError`).
            TokenBrokerClosedError: It is not open, or was opened before a fork.
        """
        live = self._opened()
        token = live.cache.peek(request)
        if token is None:
            depth_of(request)
            token = await live.home.carry(live.cache.fetch, request, timeout)
        return token

    def fetch_blocking(self, request: TokenRequest, *, timeout: float | None = None) -> AccessToken:
        """As `fetch`, blocking, from any thread but that of this object's own event loop."""
        live = self._opened()
        token = live.cache.peek(request)
        if token is None:
            depth_of(request)
            seconds = self._timeout if timeout is None else timeout
            token = live.home.block(live.cache.fetch, request, seconds, timeout=seconds)
        return token

    async def exchange(
        self,
        request: TokenRequest,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - kept by the injected clock
    ) -> AccessToken | SecurityToken:
        """Have one token issued that nobody else gets and nobody keeps; raises as `fetch`."""
        live = self._opened()
        depth_of(request)
        return await live.home.carry(live.cache.exchange, request, timeout)

    def purge(self, which: AccessToken | Callable[[AccessToken], bool]) -> int:
        """Forget a token, or all that fit, also those on their way; any thread; return how many were held."""
        live = self._open
        return 0 if live is None or live.home.forked else live.cache.purge(which)

    def forget(self, request: TokenRequest, error: SpiffeError) -> AccessToken | None:
        """Forget what is held or on its way for one request, and return what was held; any thread."""
        live = self._open
        return None if live is None or live.home.forked else live.cache.forget(request, error)

    def on_withdrawal(self, notify: Callable[[Callable[[AccessToken], bool]], object]) -> None:
        """Have a bound method called when a security event takes tokens back, but not all; held weakly.

        Before they are forgotten, and after, with what says of a token whether it is among them.
        """
        self._session.withdrawn.add(notify)

    async def revoke(
        self,
        token: AccessToken | SecurityToken,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - a total deadline, passed on
    ) -> Revocation:
        """Forget a token and all that was made from it, then have them revoked; see `Revocation`."""
        return await self._opened().revoke(token, self._timeout if timeout is None else timeout)

    async def introspect(
        self,
        token: AccessToken | SecurityToken,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - a total deadline, passed on
    ) -> Introspection:
        """Ask the token broker what it knows of a token (RFC 7662)."""
        return await self._opened().introspect(token, self._timeout if timeout is None else timeout)

    def stop(self, reason: str) -> None:
        """Drop everything at once and for good; from any thread, also in a signal handler."""
        self.switch.stop(StoppedError(reason))

    def orphan(self) -> None:
        """Forget what was made from tokens of a client that was stopped; as `stop`."""
        if self._open is not None:
            self._open.cache.orphan()

    async def discover(self) -> Metadata:
        """Return the token broker's metadata, read when first needed."""
        return await self._opened().home.carry(self._session.discover, self._timeout)

    @property
    def issuer(self) -> str:
        """The token broker's issuer identifier."""
        return self._session.issuer

    @property
    def client_id(self) -> str:
        """Who we are to the token broker; raises a `SourceError` if that is the identity, and there is none."""
        return self._session.client_id

    @property
    def metadata(self) -> Metadata | None:
        """What the token broker says of itself; None before it was asked."""
        return self._session.metadata

    @property
    def dpop(self) -> DpopKey | None:
        """The key that tokens are bound to; None where they are not bound to one."""
        return self._session.dpop

    @property
    def nonces(self) -> Nonces:
        """The DPoP nonces of all origins heard of."""
        return self._session.nonces

    @property
    def channel(self) -> Channel:
        """How requests reach the token broker."""
        return self._session.channel

    @property
    def clock(self) -> Clock:
        """Where the time comes from."""
        return self._clock

    @property
    def health(self) -> TokenHealth:
        """How it is doing; never raises."""
        live = self._open
        if live is None or self.switch.used or self._closed or live.home.forked:
            since = self._made_at if live is None else live.reports.since
            return TokenHealth("stopped" if self.switch.used else "closed", since)
        return live.health

    def _opened(self) -> Open:
        self.switch.refuse()
        live = self._open
        if live is not None and live.home.forked:
            raise live.home.closed()
        if live is None or self._closed:
            why = "was closed; open a new one" if self._closed else f"is not open: {self._KNOWN[1]}"
            raise TokenBrokerClosedError(f"{self._KNOWN[0]} {why}")
        return live
