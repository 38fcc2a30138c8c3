"""The token broker to develop against: everything put together, opened and closed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

from spiffe_client._async_only import async_only
from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.dev._domain import DevTrustDomain
from spiffe_client.dev.token_broker._administration import Administration
from spiffe_client.dev.token_broker._authorization_server import AuthorizationServer
from spiffe_client.dev.token_broker._dpop import NonceMode
from spiffe_client.dev.token_broker._jwt import Key
from spiffe_client.dev.token_broker._metadata import OAUTH_ONLY, Endpoints, Feature, Offer, WellKnown
from spiffe_client.dev.token_broker._rules import Client, ForeignIssuer, Rules
from spiffe_client.dev.token_broker._trust import Trust
from spiffe_client.errors import EndpointError, RegistrationError
from spiffe_client.ids import SpiffeId

if TYPE_CHECKING:
    from spiffe_client.dev.token_broker._polling import Polling
    from spiffe_client.dev.token_broker._ports import Ports
    from spiffe_client.dev.token_broker._server_thread import ServerThread

__all__ = ["DevTokenBroker", "Port"]

#: Where something is: plain HTTP on loopback, TLS as on the web, TLS between SPIFFE identities.
Port: TypeAlias = Literal["loopback", "web", "spiffe"]


class DevTokenBroker(Administration):
    """A small real authorization server for a development trust domain: for development only.

    An async context manager, on asyncio and trio. It serves on free ports of 127.0.0.1 from a
    thread of its own; keys and tokens live in this process and end with it. Needs the extra `dev`.

    Args:
        domain: Whose workloads are its clients, told by their SVIDs; it must be open as long.
        rules: Who may have what; a collection of clients is enough. Without a rule nobody gets
            anything.
        issuer_path: A path behind the origin in the issuer identifier, such as `/tenant1`.
        dpop_nonces: Whether DPoP proofs need a nonce (RFC 9449 §8): never; not, but those given
            are checked; always.
        token_ttl: Seconds a token lasts where its client's rule does not say.
        issuer_at: The port whose origin the issuer identifier has.
        aliases_at: The port that `mtls_endpoint_aliases` names (RFC 8705 §5).
        well_known: Where metadata is found; by default as RFC 8414 §3.1 says, and nowhere else.
        without: What is not offered, to see how clients take that.
        clock: What says now.

    Raises:
        RegistrationError: `token_ttl` is less than a second, or a client is there twice.
    """

    def __init__(
        self,
        domain: DevTrustDomain,
        *,
        rules: Rules | Iterable[Client] = (),
        issuer_path: str = "",
        dpop_nonces: NonceMode = "off",
        token_ttl: float = 300.0,
        issuer_at: Port = "loopback",
        aliases_at: Port = "web",
        well_known: Collection[WellKnown] = OAUTH_ONLY,
        without: Collection[Feature] = (),
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__()
        if not (math.isfinite(token_ttl) and token_ttl >= 1):
            raise RegistrationError(f"token_ttl must be seconds, at least one, got {token_ttl!r}")
        self.domain = domain
        self._rules = rules if isinstance(rules, Rules) else Rules(tuple(rules))
        self._path = issuer_path.rstrip("/")
        self._nonces: NonceMode = dpop_nonces
        self._ttl = token_ttl
        self._issuer_at: Port = issuer_at
        self._aliases_at: Port = aliases_at
        self._offer = Offer(tuple(well_known), frozenset(without))
        self._clock = clock
        self._issuers: dict[str, Callable[[], Iterable[Key]]] = {}
        for issuer in self._rules.issuers:
            self.trust_issuer(issuer)
        self._ports: Ports | None = None
        self._thread: ServerThread | None = None
        self._polling: Polling | None = None

    async def __aenter__(self) -> Self:
        if self._ports is not None:
            raise EndpointError("this token broker was opened before; make a new one")
        require_extra()
        from spiffe_client.dev.token_broker._app import Application
        from spiffe_client.dev.token_broker._polling import Polling
        from spiffe_client.dev.token_broker._ports import Ports
        from spiffe_client.dev.token_broker._routes import build
        from spiffe_client.dev.token_broker._server_thread import ServerThread, listen

        self._ports = Ports(self.domain, self.id, self._clock)
        try:
            listen(self._ports.listeners)
        except OSError as error:
            raise EndpointError(f"the token broker cannot have a port: {error}") from error
        self._server = self._new_server(self.url_at(self._issuer_at) + self._path)
        application = Application(self.faults, self.requests, self._clock)
        self._polling = polling = Polling(self._server)
        routes = build(self._server, self._endpoints(), self._offer, application, polling)
        self._thread = ServerThread(routes, self._ports.listeners, name="dev token broker")
        self._thread.start()
        loop = self._thread.loop
        self._server.streams.woken = lambda: loop.call_soon_threadsafe(polling.wake)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        thread, self._thread = self._running, None
        self._opened.streams.woken = lambda: None
        await thread.stop()

    if not TYPE_CHECKING:
        __enter__ = __exit__ = async_only

    @property
    def id(self) -> SpiffeId:
        """Who it is at the port between SPIFFE identities: `spiffe://<trust domain>/token-broker`."""
        return SpiffeId(self.domain.trust_domain, "/token-broker")

    @property
    def issuer(self) -> str:
        """Its issuer identifier."""
        return self._opened.issuer

    @property
    def web_roots(self) -> str:
        """The authority of its port with TLS as on the web, PEM: what clients have to trust there."""
        return self._open_ports.web_roots

    def url_at(self, port: Port) -> str:
        """Return the origin of one of its ports."""
        return self._open_ports.named(port).origin

    @property
    def rules(self) -> Rules:
        """Who may have what; setting them takes effect with the next request."""
        return self._rules if self._server is None else self._server.rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._rules = rules
        if self._server is not None:
            self._server.rules = rules

    @property
    def keys(self) -> tuple[Key, ...]:
        """What verifies its tokens now."""
        return self._opened.store.keys

    def trust_issuer(self, issuer: ForeignIssuer | DevTokenBroker) -> None:
        """Accept the tokens and assertions of somebody else, such as a second token broker's."""
        if isinstance(issuer, DevTokenBroker):
            self._issuers[issuer.issuer] = lambda: issuer.keys
        else:
            self._issuers[issuer.id] = lambda: issuer.keys

    async def pause(self) -> None:
        """Close the ports and cut all connections, as when a server goes down; nothing is forgotten."""
        await self._running.pause()

    async def resume(self) -> None:
        """Open the same ports again.

        Raises:
            EndpointError: Somebody else has one by now.
        """
        try:
            self._running.resume()
        except OSError as error:
            raise EndpointError(f"the token broker cannot have its port again: {error}") from error

    def _new_server(self, issuer: str) -> AuthorizationServer:
        return AuthorizationServer(
            issuer,
            rules=self._rules,
            trust=Trust(
                lambda: self.domain.bundles, lambda: self.domain.ca.wit_bundle, self._issuers, self._clock
            ),
            nonces=self._nonces,
            token_ttl=self._ttl,
            always=(self.domain.trust_domain.name,),
            clock=self._clock,
        )

    def _endpoints(self) -> Endpoints:
        return Endpoints(self.issuer, self.url_at(self._aliases_at))

    @property
    def _open_ports(self) -> Ports:
        if self._ports is None:
            raise EndpointError("the token broker is not open; use it as: async with …")
        return self._ports

    @property
    def _running(self) -> ServerThread:
        if self._thread is None:
            raise EndpointError("the token broker is not open; use it as: async with …")
        return self._thread


def require_extra() -> None:
    """Check that what serves HTTP is there.

    Raises:
        ModuleNotFoundError: It is not; the message says how to get it.
    """
    for name in ("starlette", "uvicorn"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(
                f"the development token broker needs {name}: pip install 'spiffe-client[dev]'", name=name
            )
