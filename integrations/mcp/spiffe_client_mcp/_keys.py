"""A token broker's public keys: found, read, read anew when one is missing or they are old."""

from __future__ import annotations

from typing import Final

import anyio

from spiffe_client._clock import Clock
from spiffe_client._jose import parse_jwks
from spiffe_client.bundle import JwtAuthority
from spiffe_client.errors import DiscoveryError, TokenError
from spiffe_client.tokens import _http
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._discovery import discover
from spiffe_client.tokens._reply import error_of

__all__ = ["BrokerKeys"]

#: Seconds between two looks for a key that is missing: a forged token must not cost one each.
_LOOKS: Final = 10.0
_OK: Final = 200


class BrokerKeys:
    """The keys of one issuer.

    Args:
        channel: How to reach it.
        issuer: Its issuer identifier.
        max_age: Seconds after which they are read anew. They count twice as long if they cannot be read then,
            and no longer.
        timeout: Seconds for each request.
        clock: Measures.
    """

    def __init__(
        self, channel: Channel, issuer: str, *, max_age: float, timeout: float, clock: Clock
    ) -> None:
        self._channel = channel
        self._issuer = issuer
        self._max_age = max_age
        self._timeout = timeout
        self._clock = clock
        self._keys: tuple[JwtAuthority, ...] = ()
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._reading: anyio.Lock | None = None

    async def current(self) -> tuple[JwtAuthority, ...]:
        """Return the keys.

        Raises:
            TokenError: There are none, or they are too old, and they cannot be read.
        """
        if not self._is_younger(self._read_at, self._max_age):
            await self._read(_LOOKS if self._is_younger(self._read_at, 2 * self._max_age) else 0.0)
        return self._keys

    async def anew(self) -> tuple[JwtAuthority, ...]:
        """Return the keys, read again if they were not read just now; the same tuple if they were."""
        await self._read(_LOOKS)
        return self._keys

    async def _read(self, pause: float) -> None:
        seen = self._tried_at
        if self._reading is None:  # made here: it belongs to the event loop that it is made on
            self._reading = anyio.Lock()
        async with self._reading:
            tried = self._tried_at != seen or self._is_younger(self._tried_at, pause)
            if tried and self._is_younger(self._read_at, 2 * self._max_age):
                return  # somebody else has read them, or tried to
            self._tried_at = self._clock.monotonic()
            try:
                self._keys = await self._fetch()
                self._read_at = self._clock.monotonic()
            except TokenError:
                if not self._is_younger(self._read_at, 2 * self._max_age):
                    raise

    async def _fetch(self) -> tuple[JwtAuthority, ...]:
        known = await discover(self._channel, self._issuer, timeout=self._timeout)
        if known.jwks_uri is None:
            raise DiscoveryError(f"{self._issuer} has no jwks_uri: its tokens cannot be verified")
        reply = await _http.get(self._channel, known.jwks_uri, timeout=self._timeout)
        if reply.status != _OK:
            raise error_of(reply, now=self._clock.now())
        return parse_jwks(reply.body, error=DiscoveryError)

    def _is_younger(self, at: float | None, seconds: float) -> bool:
        return at is not None and self._clock.monotonic() - at < seconds
