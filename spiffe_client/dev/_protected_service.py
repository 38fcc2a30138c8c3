"""A sample service that takes access tokens of a development token broker, and JWT-SVIDs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client.audit import Event, EventSink, safe_sink
from spiffe_client.dev.token_broker._broker import DevTokenBroker, Port, require_extra
from spiffe_client.dev.token_broker._rules import Client
from spiffe_client.errors import EndpointError
from spiffe_client.ids import SpiffeId

if TYPE_CHECKING:
    from spiffe_client.dev.token_broker._ports import Ports
    from spiffe_client.dev.token_broker._resource import Resource
    from spiffe_client.dev.token_broker._server_thread import ServerThread

__all__ = ["ProtectedService"]

#: What each path asks for; every other path takes any token that is good.
_SCOPES: Mapping[str, str] = MappingProxyType({"/v1/orders": "orders:read", "/v1/refunds": "orders:refund"})


def _nobody(_: Event) -> None:
    pass


class ProtectedService:
    """A small resource server on loopback: for development, demos and tests.

    It checks what it is shown as a real one would: signature, issuer, audience, expiry, scope, the
    DPoP proof or the certificate that a token is bound to, and at the token broker whether it was
    revoked; refusals have the challenges of RFC 6750 and RFC 9449. It answers every path with what
    the token says, `/svid` to JWT-SVIDs instead of access tokens, and `/redirect?to=…` with a
    redirect.

    Args:
        broker: Whose tokens it takes; open as long.
        scopes: The scope that a path asks for; other paths take any token for this service.
        require_dpop_nonce: Whether DPoP proofs need a nonce of this service (RFC 9449 §9).
        introspection: Whether the token broker is asked about each token. Without, revoked ones are
            good until they expire, and an outage of the token broker is not noticed.
        audience: Another name for this service that tokens may be for, beside its URLs.
        clock: What says now.
        on_event: Is told `token.refused` by its thread, with the code of the challenge; None for nobody.
    """

    def __init__(
        self,
        broker: DevTokenBroker,
        *,
        scopes: Mapping[str, str] = _SCOPES,
        require_dpop_nonce: bool = False,
        introspection: bool = True,
        audience: str = "",
        clock: Clock = SYSTEM_CLOCK,
        on_event: EventSink | None = None,
    ) -> None:
        self._broker = broker
        self._scopes = dict(scopes)
        self._nonces: Literal["always", "off"] = "always" if require_dpop_nonce else "off"
        self._introspection = introspection
        self._audience = audience
        self._clock = clock
        self._tell: EventSink = _nobody if on_event is None else safe_sink(on_event)
        #: How many requests were answered with each status.
        self.answers: Counter[int] = Counter()
        self._ports: Ports | None = None
        self._resource: Resource | None = None
        self._thread: ServerThread | None = None

    async def __aenter__(self) -> Self:
        if self._ports is not None:
            raise EndpointError("this service was opened before; make a new one")
        require_extra()
        from spiffe_client.dev.token_broker._ports import Ports
        from spiffe_client.dev.token_broker._resource import Resource
        from spiffe_client.dev.token_broker._server_thread import ServerThread, listen

        self._ports = Ports(self._broker.domain, self.id, self._clock)
        try:
            listen(self._ports.listeners)
        except OSError as error:
            raise EndpointError(f"the service cannot have a port: {error}") from error
        self._resource = Resource(
            self._broker,
            audience=self.audience,
            scopes=self._scopes,
            nonces=self._nonces,
            introspect=self._introspection_url() if self._introspection else "",
            me=self.id,
            answers=self.answers,
            clock=self._clock,
            tell=self._tell,
        )
        self._register()
        self._thread = ServerThread(
            self._resource.build(),
            self._ports.listeners,
            name="dev protected service",
            closing=self._resource.aclose,
        )
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        thread, self._thread = self._running, None
        await thread.stop()

    @property
    def id(self) -> SpiffeId:
        """Who it is: `spiffe://<trust domain>/protected-service`."""
        return SpiffeId(self._broker.domain.trust_domain, "/protected-service")

    @property
    def url(self) -> str:
        """Its origin on plain loopback, which is also an audience for its tokens."""
        return self.url_at("loopback")

    @property
    def web_roots(self) -> str:
        """The authority of its port with TLS as on the web, PEM."""
        return self._open_ports.web_roots

    @property
    def audience(self) -> frozenset[str]:
        """What tokens for it may be for: each of its origins, its SPIFFE ID, and what else was said."""
        urls = (port.origin for port in self._open_ports.listeners)
        return frozenset({*urls, str(self.id), self._audience} - {""})

    def url_at(self, port: Port) -> str:
        """Return its origin at one of its ports."""
        return self._open_ports.named(port).origin

    async def pause(self) -> None:
        """Close the ports and cut all connections."""
        await self._running.pause()

    async def resume(self) -> None:
        """Open the same ports again."""
        self._running.resume()

    def _register(self) -> None:
        """Let the token broker tell this service about its tokens."""
        rules = self._broker.rules
        others = tuple(client for client in rules if client.id != str(self.id))
        me = Client.of(self.id, serves=self.audience)
        self._broker.rules = replace(rules, clients=(*others, me))

    def _introspection_url(self) -> str:
        return f"{self._broker.url_at('loopback')}{urlsplit(self._broker.issuer).path}/introspection"

    @property
    def _open_ports(self) -> Ports:
        if self._ports is None:
            raise EndpointError("the service is not open; use it as: async with …")
        return self._ports

    @property
    def _running(self) -> ServerThread:
        if self._thread is None:
            raise EndpointError("the service is not open; use it as: async with …")
        return self._thread
