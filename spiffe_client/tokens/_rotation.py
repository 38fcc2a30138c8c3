"""What a new SVID means for tokens: those bound to the former certificate are worthless with the new one.

A certificate-bound token is bound to the DER of one certificate (RFC 8705 §3.1), so each rotation
of the SVID ends them all, even one that keeps the key. Those in use are fetched anew over
connections that show the next SVID, before that is published; the rest are dropped.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import anyio

from spiffe_client._clock import Clock
from spiffe_client.errors import (
    SourceError,
    SpiffeError,
    StaleError,
    StoppedError,
    TokenBrokerClosedError,
    TokenBrokerUnavailableError,
    UnavailableError,
)
from spiffe_client.tokens._cache import TokenCache
from spiffe_client.tokens._home import Home
from spiffe_client.tokens._kill_switch import KillSwitch
from spiffe_client.tokens._reports import Reports
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._retries import Try
from spiffe_client.tokens._session import Session
from spiffe_client.workload_api import any_thread

if TYPE_CHECKING:
    from spiffe_client.ids import SpiffeId
    from spiffe_client.tokens._endpoint import Minted
    from spiffe_client.tokens._identity import Identity
    from spiffe_client.workload_api import X509Context

__all__ = ["Rotation"]

#: Requests at the same time: a rotation does not wait long, and is no attack on the token broker.
_AT_ONCE: Final = 16


def _thumbprint(context: X509Context) -> str:
    """base64url of the SHA-256 of the certificate's DER (RFC 8705 §3.1)."""
    return base64.urlsafe_b64encode(hashlib.sha256(context.svid.ders[0]).digest()).rstrip(b"=").decode()


class Rotation:
    """Listens to an identity, for one token broker. Its hooks never stop a rotation.

    Args:
        cache: Holds the tokens.
        session: Asks for them.
        identity: Whose SVID it is.
        home: Where asking happens.
        clock: Measures.
        reports: Told what fails that cannot.
        switch: Used where the identity was stopped.
        seconds: How long a rotation waits for tokens at most.
    """

    def __init__(
        self,
        cache: TokenCache,
        session: Session,
        identity: Identity,
        home: Home,
        *,
        clock: Clock,
        reports: Reports,
        switch: KillSwitch,
        seconds: float = 2.0,
    ) -> None:
        self._cache = cache
        self._session = session
        self._identity = identity
        self._home = home
        self._clock = clock
        self._reports = reports
        self._switch = switch
        self._seconds = seconds
        # With the cache's generation before they were asked for: what is purged meanwhile stays away.
        self._staged: dict[str, tuple[int, list[tuple[TokenRequest, Minted, float]]]] = {}
        self._id: SpiffeId | None = None
        self._certificate: str | None = None

    def follow(self) -> None:
        """Listen from now on, for as long as this object lives."""
        if self._session.binding == "mtls":
            self._identity.before_publish(self.prepare)
        self._identity.after_publish(self.settle)
        try:
            context = self._identity.x509_context
        except StoppedError as error:
            self._switch.stop(error)
        except SourceError:
            return  # none yet: the first one will come
        else:
            self._id, self._certificate = context.svid.id, _thumbprint(context)

    def prepare(self, context: X509Context) -> None:
        """Fetch the tokens in use for an SVID that is about to be published; in a thread that may wait."""
        certificate = _thumbprint(context)
        self._staged = {}
        if certificate == self._certificate or context.svid.id != self._id or self._home.forked:
            return
        try:
            generation = self._cache.generation
            fetched = self._home.block(self._fetch, context, timeout=self._seconds)
            self._staged[certificate] = (generation, fetched)
        except TokenBrokerClosedError:
            return  # closed, and there is nothing to fetch for
        except Exception as error:  # noqa: BLE001 - the border to the source: what is raised here would refuse the new SVID
            # Whoever needs a token will fetch it.
            self._reports.crashed(f"no token was fetched for the next SVID: {type(error).__name__}")

    @any_thread
    def settle(self) -> None:
        """Switch to what the identity is now; on its event loop, or where it is stopped."""
        try:
            context = self._identity.x509_context
        except SourceError as error:
            self._lose(error)
            return
        former = (self._id, self._certificate)
        self._id, self._certificate = context.svid.id, _thumbprint(context)
        if former[0] not in {None, self._id}:
            # Whatever they were issued for: they speak for somebody else.
            self._cache.clear()
        elif former[1] != self._certificate and self._session.binding == "mtls":
            generation, staged = self._staged.pop(self._certificate, (0, []))
            for request, minted, started_at in staged if generation == self._cache.generation else ():
                with suppress(SpiffeError):
                    self._cache.adopt(request, minted, started_at)
            self._drop_bound()

    def _lose(self, error: SourceError) -> None:
        self._certificate = None
        if isinstance(error, StoppedError):
            self._switch.stop(error)
        elif isinstance(error, StaleError) and error.reason == "expired":
            # Nobody took it away; what is not bound to it is valid until it expires itself.
            self._drop_bound()
        else:
            self._cache.clear(error)

    def _drop_bound(self) -> None:
        """Drop what is bound to another certificate than the current one, also what is on its way."""
        now = self._certificate
        self._cache.purge(lambda token: token.binding.method == "mtls" and token.binding.thumbprint != now)

    async def _fetch(self, context: X509Context) -> list[tuple[TokenRequest, Minted, float]]:
        """Fetch as many as there is time for, those used last first."""
        requests = [token.request for token in self._cache.in_use() if token.binding.method == "mtls"]
        fetched: list[tuple[TokenRequest, Minted, float]] = []
        if not requests:
            return fetched
        until = self._clock.monotonic() + self._seconds
        channel = self._session.channel.staged(context)
        queue = iter(requests)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._deadline, tasks.cancel_scope)
                async with anyio.create_task_group() as workers:

                    async def work() -> None:
                        for request in queue:
                            started_at = self._clock.monotonic()
                            try:
                                minted = await self._session.mint(
                                    request, Try(1, until - started_at, refresh=False), channel
                                )
                            except (TokenBrokerUnavailableError, UnavailableError):
                                return  # the next one would not fare better
                            except SpiffeError:
                                continue
                            fetched.append((request, minted, started_at))

                    for _ in range(min(_AT_ONCE, len(requests))):
                        workers.start_soon(work)
                tasks.cancel_scope.cancel()
        finally:
            await channel.aclose()
        return fetched

    async def _deadline(self, scope: anyio.CancelScope) -> None:
        await self._clock.sleep(self._seconds)
        scope.cancel()
