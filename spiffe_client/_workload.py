"""The front door: everything a workload does with its identity, each in one call.

It holds no logic: what it does, a user can do with a public call of the room that does it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, ClassVar, Self, Unpack
from weakref import WeakKeyDictionary

from spiffe_client._async_only import async_only
from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._frames import async_border
from spiffe_client._own_identity import OwnIdentity
from spiffe_client._retry import Backoff
from spiffe_client.audit import EventSink
from spiffe_client.sources import X509Source
from spiffe_client.sources._described import described
from spiffe_client.workload_api import WorkloadApiClient

if TYPE_CHECKING:
    import ssl
    from os import PathLike

    from spiffe_client.agents import AgentHost, AgentOptions, Task, TaskTerms
    from spiffe_client.authorize import Authorizer
    from spiffe_client.http import AsyncClient, Client, JwtSvidAuth, TokenAuth
    from spiffe_client.http._options import AsyncHttpOptions, HttpOptions
    from spiffe_client.ids import SpiffeId
    from spiffe_client.policy import Contract
    from spiffe_client.sources import JwtSource, OnRedaction
    from spiffe_client.sources._terms import SourceTerms
    from spiffe_client.svid import JwtSvid, X509Svid
    from spiffe_client.tls import SpiffeTls
    from spiffe_client.tls._settings import TlsOptions
    from spiffe_client.tokens import AccessToken, Metadata, TokenBroker, TokenBrokerOptions, TokenTerms
    from spiffe_client.workload_api import Endpoint

__all__ = ["Workload"]


class _Identity(X509Source):
    _OWNER = "this Workload"
    _OPENING = "`async with Workload() as me:` or await open()"


class Workload(OwnIdentity):
    """This workload: who it is, and how it calls and is called.

    `async with Workload() as me:` waits for the first X509-SVID with a deadline and says why if
    it does not come. Reads are instant, from any thread. JWT-SVIDs and JWT bundles are followed
    from their first use on. It is a source of X.509 contexts itself, for everything that takes one.

    Args:
        endpoint: Address of the Workload API; None takes it from `SPIFFE_ENDPOINT_SOCKET`.
        token_broker: Where `token` and `auth` get tokens: its issuer, or its metadata, or more options.
            It is not asked before the first token is.
        contract: What this agent may do: a contract, its file, or more options; for `task`.
        environment: Where this runs, such as `prod`, which the contract must name, too.
        picker: Chooses the X.509 identity to use among those issued; the default is the first.
        hint: Only identities with this hint count, X.509 and JWT.
        timeout: Seconds that opening waits for the first SVID.
        on_redaction: `drop`: when the issuer takes the identity back, stop using it (Workload API
            §4.4). `keep-until-expiry`: use it until it expires.
        grace: Seconds that a confirmed PermissionDenied does not cut off yet.
        backoff: Between attempts to reach the Workload API.
        clock: Where the time comes from.
        on_event: Takes events; the default writes them to the logger `spiffe_client`.

    Raises:
        EndpointError: The Workload API's address is missing or malformed.
    """

    # Speaks of itself as its user knows it; the blocking Workload has another.
    _source: ClassVar[type[X509Source]] = _Identity
    _blocking: ClassVar[bool] = False

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
        self._client = WorkloadApiClient(endpoint, clock=clock)
        self._terms: SourceTerms = {
            "hint": hint,
            "timeout": timeout,
            "on_redaction": on_redaction,
            "grace": grace,
            "backoff": backoff,
            "clock": clock,
            "on_event": on_event,
        }
        self._x509 = self._source(self._client, picker=picker, **self._terms)
        self._jwt: JwtSource | None = None
        self._token_broker = token_broker
        self._tokens: TokenBroker | None = None
        self._contract = contract
        self._environment = environment
        self._agent: AgentHost | None = None
        self._making = threading.RLock()
        self._stopped: str | None = None
        # What prepares a context's next generation has to live as long as the context does.
        self._tls: WeakKeyDictionary[ssl.SSLContext, SpiffeTls] = WeakKeyDictionary()

    async def open(self) -> Self:
        """Start, and wait for the first SVID; for where `async with` does not fit.

        Raises:
            FirstUpdateTimeoutError: None came in time; the message and `__cause__` say why.
            SourceError: It was stopped or closed before, or opened by the process this one was forked from.
            WorkloadApiError: There will be none: the request is malformed, or this is not offered.
        """
        tokens = None if self._token_broker is None else self.tokens
        await self._x509.open()
        if tokens is not None:
            await tokens.open()
        if self._contract is not None:
            try:
                await self.agent.open()
            except BaseException:
                await self.aclose()
                raise
        return self

    async def aclose(self, *, revoke: bool = False) -> None:
        """Stop, and with `revoke` have tokens revoked first, within 5 seconds; idempotent, from any task."""
        if self._agent is not None:
            await self._agent.aclose()
        if self._tokens is not None:
            await self._tokens.aclose(revoke=revoke)
        if self._jwt is not None:
            await self._jwt.aclose()
        await self._x509.aclose()

    def stop(self, reason: str) -> None:
        """Drop identity and tokens at once and for good, end all tasks: a kill switch, from any thread.

        Connections end, everything raises `StoppedError` with this reason; `aclose` as usual.
        """
        self._stopped = self._stopped or reason
        for held in (self._agent, self._tokens, self._jwt, self._x509):
            if held is not None:
                held.stop(reason)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    if not TYPE_CHECKING:
        __enter__ = __exit__ = async_only

    def __repr__(self) -> str:
        return f"Workload({described(self._x509)})"

    async def jwt_svid(
        self,
        audience: str | Collection[str],
        *more: str,
        subject: SpiffeId | str | None = None,
        hint: str | None = None,
    ) -> JwtSvid:
        """Return a JWT-SVID that is valid now; see `JwtSource.fetch_jwt_svid`."""
        return await self._jwt_source().fetch_jwt_svid(audience, *more, subject=subject, hint=hint)

    @async_border
    async def verify_jwt_svid(self, token: str, audience: str | Collection[str]) -> JwtSvid:
        """Verify somebody's JWT-SVID offline, once the JWT bundles are there; see `JwtSource.verify_jwt_svid`."""
        source = self._jwt_source()
        await source.wait_first_update()
        return source.verify_jwt_svid(token, audience)

    def _jwt_source(self) -> JwtSource:
        self._x509.refuse_unopened()
        if self._jwt is None:
            # Imported here: many workloads never need a JWT-SVID.
            from spiffe_client.sources import JwtSource

            self._jwt = JwtSource(self._client, **self._terms)
        self._jwt.start()
        return self._jwt

    @property
    def tokens(self) -> TokenBroker:
        """The client of the token broker, open while the workload is; it needs `token_broker`."""
        with self._making:  # when it is first asked for, so that a fork shares no key; threads do
            if self._tokens is None:
                from spiffe_client.tokens import new_token_broker

                which, clock, sink = self._token_broker, self._terms["clock"], self._terms["on_event"]
                if self._contract is not None:
                    from spiffe_client.agents import ending_tasks

                    sink = ending_tasks(sink, lambda: self._agent)
                self._tokens = new_token_broker(which, self, clock, sink, blocking=self._blocking)
            if self._stopped is not None:
                self._tokens.stop(self._stopped)
            return self._tokens

    @property
    def agent(self) -> AgentHost:
        """Where this agent's tasks run; it needs `contract`."""
        with self._making:
            if self._agent is None:
                from spiffe_client.agents import new_agent_host

                tokens = None if self._token_broker is None else self.tokens
                clock, sink = self._terms["clock"], self._terms["on_event"]
                self._agent = new_agent_host(
                    self._contract, self._environment, self, tokens, clock=clock, on_event=sink
                )
            return self._agent

    def task(self, purpose: str, actions: Collection[str], **terms: Unpack[TaskTerms]) -> Task:
        """Make a task of this agent, to be entered with `async with`; see `AgentHost.task`."""
        return self.agent.task(purpose, actions, **terms)

    async def token(self, *scope: str, **terms: Unpack[TokenTerms]) -> AccessToken:
        """Return an access token that is valid now; see `TokenRequest.of` and `TokenBroker.fetch`."""
        return await self.tokens.token(*scope, **terms)

    def auth(self, *scope: str, origins: Collection[str] = (), **terms: Unpack[TokenTerms]) -> TokenAuth:
        """Make an `httpx.Auth` that puts an access token on each request.

        `scope` and `terms` as `TokenRequest.of`, `origins` as `http.TokenAuth`.
        """
        from spiffe_client.http import TokenAuth
        from spiffe_client.tokens import TokenRequest

        request, sink = TokenRequest.of(*scope, **terms), self._terms["on_event"]
        return TokenAuth(self.tokens, request, origins=origins, on_event=sink)

    def jwt_auth(self, audience: str, *, origins: Collection[str] = ()) -> JwtSvidAuth:
        """Make an `httpx.Auth` that puts a JWT-SVID on each request; see `http.JwtSvidAuth`."""
        from spiffe_client.http import JwtSvidAuth

        return JwtSvidAuth(self, audience, origins=origins)

    def tls(self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[TlsOptions]) -> ssl.SSLContext:
        """Make a context for connecting to a peer with any library that takes one.

        Args:
            peer: Who may be on the other end: a SPIFFE ID or an authorizer. There is no default.
            options: See `tls.SpiffeTls`.
        """
        tls = self._spiffe_tls(peer, options)
        context = tls.client_context()
        self._tls[context] = tls
        return context

    def server_tls(
        self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[TlsOptions]
    ) -> ssl.SSLContext:
        """Make a context for accepting connections from peers; arguments and errors as `tls`."""
        tls = self._spiffe_tls(peer, options)
        context = tls.server_context()
        self._tls[context] = tls
        return context

    def _spiffe_tls(self, peer: Authorizer | SpiffeId | str, options: TlsOptions) -> SpiffeTls:
        from spiffe_client.authorize import Authorizer
        from spiffe_client.tls import SpiffeTls

        clock, on_event = self._terms["clock"], self._terms["on_event"]
        tls = SpiffeTls(self, Authorizer.parse(peer), clock=clock, on_event=on_event, **options)
        self.before_publish(tls.prepare)
        self.after_publish(tls.release)
        return tls

    def http(self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[AsyncHttpOptions]) -> AsyncClient:
        """Make an `httpx.AsyncClient` whose requests go to this peer only; see `http.AsyncClient`."""
        from spiffe_client.http import AsyncClient

        return AsyncClient(peer=peer, workload=self, on_event=self._terms["on_event"], **options)

    def http_sync(self, *, peer: Authorizer | SpiffeId | str, **options: Unpack[HttpOptions]) -> Client:
        """Make an `httpx.Client` like `http`, for code that blocks in a thread of its own."""
        from spiffe_client.http import Client

        return Client(peer=peer, workload=self, on_event=self._terms["on_event"], **options)
