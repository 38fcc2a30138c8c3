"""A token cache under a clock that stands still, and a token broker that answers as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio

from spiffe_client._redact import Secret
from spiffe_client._service import Service
from spiffe_client.audit import Event
from spiffe_client.errors import OAuthError, SpiffeError, TokenBrokerUnavailableError
from spiffe_client.tokens import AccessToken, Binding, SecurityToken, TokenRequest
from spiffe_client.tokens._cache import TokenCache
from spiffe_client.tokens._endpoint import Minted
from spiffe_client.tokens._gates import Gate
from spiffe_client.tokens._home import Home
from spiffe_client.tokens._reports import Reports
from spiffe_client.tokens._retries import Try
from tests.support.manual_clock import ManualClock

__all__ = ["ISSUER", "READ", "WRITE", "ScriptedBroker", "TokenWorld", "denied", "down", "issue"]

ISSUER = "https://tokens.prod.example"
READ = TokenRequest.of("orders:read", audience="https://orders.prod.example")
WRITE = TokenRequest.of("orders:write", audience="https://orders.prod.example")


def down(retry_after: float | None = None) -> TokenBrokerUnavailableError:
    """The token broker cannot be reached, or wants patience."""
    return TokenBrokerUnavailableError("connection refused", retry_after=retry_after)


def denied(error: str = "access_denied", *, kind: type[OAuthError] = OAuthError, description: str = "") -> OAuthError:
    """The token broker says no."""
    return kind(f"400 {error}", error=error, status=400, description=description)


def issue(
    request: TokenRequest,
    text: str,
    clock: ManualClock,
    *,
    ttl: float = 60.0,
    binding: Binding = Binding(),
    kind: str = "access",
) -> AccessToken | SecurityToken:
    """A token as the token broker's endpoint would build it."""
    expires_at = clock.now() + timedelta(seconds=ttl)
    if kind == "N_A":
        return SecurityToken(Secret(text), ISSUER, request, request.scope, "urn:x", expires_at)
    return AccessToken(Secret(text), "Bearer", ISSUER, request, request.scope, "", "urn:x", expires_at, binding)


class ScriptedBroker:
    """Answers each try with the next of `script`, then with fresh tokens of `ttl`.

    Of `script`: an error is raised; a number is the lifetime of the token; text is the token; an
    `anyio.Event` is waited for first; a function is called with the request.
    """

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.ttl: float | None = 60.0
        self.refresh_in: float | None = None
        self.takes = 0.0
        self.script: list[object] = []
        self.tries: list[tuple[TokenRequest, Try]] = []
        self.at: list[float] = []
        self.binding = Binding()

    @property
    def asked(self) -> int:
        return len(self.tries)

    async def mint(self, request: TokenRequest, attempt: Try, channel: object = None) -> Minted:
        self.tries.append((request, attempt))
        self.at.append(self._clock.monotonic())
        number = self.asked
        if self.takes:
            await self._clock.sleep(self.takes)
        ttl, text, kind = self.ttl, f"token-{number}", "access"
        step = self.script.pop(0) if self.script else None
        if isinstance(step, anyio.Event):
            await step.wait()
            step = self.script.pop(0) if self.script else None
        if callable(step):
            step = step(request)
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, int | float):
            ttl = float(step)
        elif step == "N_A":
            kind = "N_A"
        elif isinstance(step, str):
            text = step
        token = issue(request, text, self._clock, ttl=ttl or 60.0, binding=self.binding, kind=kind)
        return Minted(token, ttl, self.refresh_in)


class TokenWorld:
    """The clock, the token broker, the cache, and what was reported."""

    def __init__(self, *, capacity: int = 100, timeout: float = 10.0, max_ttl: float = 3600.0) -> None:
        self.clock = ManualClock()
        self.broker = ScriptedBroker(self.clock)
        self.events: list[Event] = []
        self.gate = Gate(draw=lambda: 0.0)
        self.limit: Callable[[AccessToken], float] = lambda _: max_ttl
        self.crashes: list[Exception] = []
        self.draw = 1.0  # due after 65 % of the life, always
        self._capacity = capacity
        self._timeout = timeout
        self.cache: TokenCache
        self.home: Home

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[TokenCache]:
        self.home = Home("this test")
        self.reports = Reports(ISSUER, self.events.append, self.clock)
        self.cache = TokenCache(
            self.broker.mint,
            self.home,
            clock=self.clock,
            timeout=self._timeout,
            limit=lambda token: self.limit(token),
            capacity=self._capacity,
            gate=self.gate,
            reports=self.reports,
            draw=lambda: self.draw,
        )

        async def body() -> None:
            await self.home.run(self.cache.run)

        service = Service(body, name="cache", crashed=self.crashes.append)
        try:
            yield self.cache
        finally:
            await service.stop()
            assert [] == self.crashes

    async def fails(self, request: TokenRequest, timeout: float | None = None) -> SpiffeError:
        """Fetch, and return the error."""
        try:
            await self.cache.fetch(request, timeout)
        except SpiffeError as error:
            return error
        raise AssertionError("it did not fail")


def text_of(token: AccessToken | SecurityToken | None) -> str | None:
    """The token's text, None if there is none."""
    return None if token is None else token.token.reveal()
