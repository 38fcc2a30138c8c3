"""The front door for blocking code: the same workload, its event loop in one thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from spiffe_client import _workload
from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._frames import border
from spiffe_client._own_identity import OwnIdentityBlocking
from spiffe_client._portal import Portal
from spiffe_client._retry import Backoff
from spiffe_client.audit import EventSink
from spiffe_client.errors import SourceClosedError
from spiffe_client.sources import OnRedaction, X509Source
from spiffe_client.workload_api import Endpoint

if TYPE_CHECKING:
    import ssl
    from os import PathLike

    from spiffe_client.agents import AgentHost, AgentOptions, Task, TaskTerms
    from spiffe_client.authorize import Authorizer
    from spiffe_client.http import Client, JwtSvidAuth, TokenAuth
    from spiffe_client.http._options import HttpOptions
    from spiffe_client.ids import SpiffeId
    from spiffe_client.policy import Contract
    from spiffe_client.svid import JwtSvid, X509Svid
    from spiffe_client.tls._settings import TlsOptions
    from spiffe_client.tokens import (
        AccessToken,
        Introspection,
        Metadata,
        Revocation,
        SecurityToken,
        TokenBroker,
        TokenBrokerOptions,
        TokenTerms,
    )

__all__ = ["Workload"]


class _Identity(X509Source):
    _OWNER = "this Workload"
    _OPENING = "`with Workload() as me:` or open()"


class _Inner(_workload.Workload):
    _source = _Identity
    _blocking = True

    def refuse_unopened(self) -> None:
        self._x509.refuse_unopened()


class Workload(OwnIdentityBlocking):
    """This workload, for code that blocks.

    `with Workload() as me:` waits for the first X509-SVID with a deadline and says why if it does
    not come. Reads are instant, from any thread, and do not touch the background loop. For
    pre-forking servers: make it anywhere, open it in each child.

    Args:
        endpoint: Address of the Workload API; None takes it from `SPIFFE_ENDPOINT_SOCKET`.
        token_broker: Where `token` and `auth` get tokens; see the async `Workload`.
        contract: What this agent may do, for `task`; see the async `Workload`.
        environment: Where this runs, such as `prod`, which the contract must name, too.
        picker: Chooses the X.509 identity to use among those issued; the default is the first.
        hint: Only identities with this hint count, X.509 and JWT.
        timeout: Seconds that opening waits for the first SVID.
        on_redaction: `drop`, or `keep-until-expiry`; see the async `Workload`.
        grace: Seconds that a confirmed PermissionDenied does not cut off yet.
        backoff: Between attempts to reach the Workload API.
        clock: Where the time comes from.
        on_event: Takes events, on the background thread; the default writes them to the logger
            `spiffe_client`.

    Raises:
        EndpointError: The Workload API's address is missing or malformed.
    """

    def __init__(
        self,
        endpoint: str | Endpoint | None = None,
        *,
        token_broker: str | Metadata | TokenBrokerOptions | None = None,
        contract: str | PathLike[str] | Contract | AgentOptions | None = None,
        environment: str = "",
        picker: Callable[[Sequence[X509Svid]], X509Svid] | None = None,
        hint: str | None = None,
        timeout: float = 30.0,
        on_redaction: OnRedaction = "drop",
        grace: float = 3.0,
        backoff: Backoff = Backoff(),  # noqa: B008 - a frozen value
        clock: Clock = SYSTEM_CLOCK,
        on_event: EventSink | None = None,
    ) -> None:
        self._identity = self._inner = _Inner(
            endpoint,
            token_broker=token_broker,
            contract=contract,
            environment=environment,
            picker=picker,
            hint=hint,
            timeout=timeout,
            on_redaction=on_redaction,
            grace=grace,
            backoff=backoff,
            clock=clock,
            on_event=on_event,
        )
        self._portal = Portal(owner="this Workload")

    def open(self) -> Self:
        """Start the background thread and wait for the first SVID.

        Raises:
            FirstUpdateTimeoutError: None came in time; the message and `__cause__` say why.
            InvalidRequestError: The Workload API calls the request malformed.
            UnimplementedError: The Workload API does not offer this.
            SourceClosedError: It was closed before, or opened by the process this one was forked from.
        """
        self._portal.start()
        try:
            self._portal.call(self._inner.open)
        except BaseException:
            self._portal.close()
            raise
        return self

    def close(self, *, revoke: bool = False) -> None:
        """Stop, and end the thread; reads raise from now on. Idempotent, from any thread.

        With `revoke`, have the access tokens held revoked first, within 5 seconds.
        """

        async def end() -> None:
            await self._inner.aclose(revoke=revoke)

        if self._portal.running:
            with suppress(SourceClosedError):  # another thread closes it, too
                self._portal.call(end)
        self._portal.close()

    def stop(self, reason: str) -> None:
        """Drop identity and tokens at once and for good, end all tasks; see the async `Workload.stop`."""
        self._inner.stop(reason)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"sync.{self._inner!r}"

    def jwt_svid(
        self,
        audience: str | Collection[str],
        *more: str,
        subject: SpiffeId | str | None = None,
        hint: str | None = None,
        timeout: float | None = None,
    ) -> JwtSvid:
        """Return a JWT-SVID that is valid now; see `JwtSource.fetch_jwt_svid`.

        Args:
            audience: Who will verify the token.
            more: More of them.
            subject: The identity it is to be issued for; None for the default one.
            hint: Only an identity with this hint is meant.
            timeout: Seconds to wait, None for as long as it is tried.

        Raises:
            TimeoutError: It did not come in time.
        """

        async def fetch() -> JwtSvid:
            return await self._inner.jwt_svid(audience, *more, subject=subject, hint=hint)

        return self._portal.call(fetch, timeout=timeout)

    @border
    def verify_jwt_svid(self, token: str, audience: str | Collection[str]) -> JwtSvid:
        """Verify somebody's JWT-SVID offline; see `JwtSource.verify_jwt_svid`."""
        return self._portal.call(self._inner.verify_jwt_svid, token, audience)

    @property
    def agent(self) -> AgentHost:
        """Where this agent's tasks run, on the background loop; it needs `contract`."""
        return self._inner.agent

    def task(self, purpose: str, actions: Collection[str], **terms: Unpack[TaskTerms]) -> Task:
        """Make a task of this agent, to be entered with `with`; see `AgentHost.task`."""
        self._inner.refuse_unopened()
        return self._inner.task(purpose, actions, **terms)

    @property
    def tokens(self) -> TokenBroker:
        """The client of the token broker; its coroutines run on the background loop, see `token` here."""
        return self._inner.tokens

    def token(self, *scope: str, timeout: float | None = None, **terms: Unpack[TokenTerms]) -> AccessToken:
        """Return an access token that is valid now; see `TokenRequest.of` and `TokenBroker.fetch`."""
        from spiffe_client.tokens import TokenRequest

        return self._inner.tokens.fetch_blocking(TokenRequest.of(*scope, **terms), timeout=timeout)

    def revoke(self, token: AccessToken | SecurityToken) -> Revocation:
        """Forget a token and have it revoked; see `TokenBroker.revoke`."""
        return self._portal.call(self._inner.tokens.revoke, token)

    def introspect(self, token: AccessToken | SecurityToken) -> Introspection:
        """Ask the token broker what it knows of a token; see `TokenBroker.introspect`."""
        return self._portal.call(self._inner.tokens.introspect, token)

    def auth(self, *scope: str, origins: Collection[str] = (), **terms: Unpack[TokenTerms]) -> TokenAuth:
        """Make an `httpx.Auth` that puts an access token on each request; see the async `Workload.auth`."""
        return self._inner.auth(*scope, origins=origins, **terms)

    def jwt_auth(self, audience: str, *, origins: Collection[str] = ()) -> JwtSvidAuth:
        """Make an `httpx.Auth` that puts a JWT-SVID on each request; see `http.JwtSvidAuth`."""
        from spiffe_client.http import JwtSvidAuth

        return JwtSvidAuth(self, audience, origins=origins)

    def tls(self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[TlsOptions]) -> ssl.SSLContext:
        """Make a context for connecting; see the async `Workload.tls`."""
        return self._inner.tls(peer=peer, **options)

    def server_tls(
        self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[TlsOptions]
    ) -> ssl.SSLContext:
        """Make a context for accepting connections; see the async `Workload.server_tls`."""
        return self._inner.server_tls(peer=peer, **options)

    def http(self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[HttpOptions]) -> Client:
        """Make an `httpx.Client` whose requests go to this peer and nobody else."""
        return self._inner.http_sync(peer=peer, **options)
