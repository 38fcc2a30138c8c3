"""A Workload API client without a Workload API: each test says what comes, and when."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from spiffe_client.bundle import BundleSet
from spiffe_client.dev import CertificateAuthority
from spiffe_client.errors import SpiffeError, UnavailableError
from spiffe_client.svid import JwtSvid
from spiffe_client.workload_api import X509Context
from tests.support.manual_clock import ManualClock

__all__ = ["FakeStream", "FakeWorkloadApi", "Refused"]


@dataclass(frozen=True)
class Refused:
    """A message, or a part of one, that the client could not use."""

    error: SpiffeError


class _End:
    pass


class FakeStream:
    """One of the client's `watch_…` methods."""

    def __init__(self) -> None:
        #: How often it was opened, and whether it is open now.
        self.opened = 0
        self.live = False
        #: What each new stream begins with: messages, `Refused`, or an error to fail with.
        self.greeting: list[Any] = []
        #: In place of the greeting, for one stream each.
        self.next_greetings: deque[list[Any]] = deque()
        self._items: Any = None

    def say(self, *items: Any) -> None:
        """Send messages (or `Refused`, or an error) on the open stream."""
        for item in items:
            self._items.send_nowait(item)

    def end(self) -> None:
        """End the open stream well."""
        self.say(_End())

    def down(self, error: SpiffeError | None = None) -> None:
        """From now on each attempt fails; the open stream breaks."""
        error = error or UnavailableError("there is no socket at /run/agent.sock", cause_kind="missing")
        self.greeting = [error]
        if self.live:
            self.say(error)

    @asynccontextmanager
    async def watch(self, *, refused: Callable[[SpiffeError], None]) -> AsyncIterator[AsyncIterator[Any]]:
        self.opened += 1
        await checkpoint()
        items, received = anyio.create_memory_object_stream[Any](inf)
        self._items = items
        self.say(*(self.next_greetings.popleft() if self.next_greetings else self.greeting))
        self.live = True
        try:
            yield _Messages(received, refused)
        finally:
            self.live = False
            items.close()
            received.close()


class _Messages:
    def __init__(self, received: Any, refused: Callable[[SpiffeError], None]) -> None:
        self._received = received
        self._refused = refused

    def __aiter__(self) -> _Messages:
        return self

    async def __anext__(self) -> Any:
        while True:
            match await self._received.receive():
                case Refused(error):
                    self._refused(error)
                case _End():
                    raise StopAsyncIteration
                case Exception() as error:
                    raise error
                case message:
                    return message


class FakeWorkloadApi:
    """Stands in for a `WorkloadApiClient`, with an authority to make what it says.

    Attributes:
        x509, x509_bundles, jwt_bundles: The streams.
        asked: The arguments of each `fetch_jwt_svids`.
        jwt_error: What `fetch_jwt_svids` raises, if anything.
        jwt_gate: What `fetch_jwt_svids` waits for before it answers.
        jwt_ttl: Seconds that a JWT-SVID lives.
        jwt_hints: One JWT-SVID is issued for each.
    """

    def __init__(self, clock: ManualClock, trust_domain: str = "prod.example") -> None:
        self.clock = clock
        self.authority = CertificateAuthority(trust_domain, intermediate=False, clock=clock)
        self.x509 = FakeStream()
        self.x509_bundles = FakeStream()
        self.jwt_bundles = FakeStream()
        self.jwt_bundles.greeting = [BundleSet([self.authority.jwt_bundle])]
        self.asked: list[tuple[Sequence[str], Any]] = []
        self.jwt_error: Exception | None = None
        self.jwt_gate: anyio.Event | None = None
        self.jwt_ttl = 300.0
        self.jwt_hints = [""]

    def context(
        self, *paths: str, ttl: float = 3600.0, hints: Sequence[str] = (), bundles: Sequence[Any] = ()
    ) -> X509Context:
        """Issue a context with an SVID for each path, and more bundles if given."""
        svids = tuple(
            self.authority.issue_x509_svid(
                f"spiffe://{self.authority.trust_domain}{path}", ttl=ttl, hint=hints[i] if hints else ""
            )
            for i, path in enumerate(paths)
        )
        return X509Context(svids, BundleSet([self.authority.x509_bundle, *bundles]), svids[0])

    def watch_x509_contexts(self, *, refused: Any) -> Any:
        return self.x509.watch(refused=refused)

    def watch_x509_bundles(self, *, refused: Any) -> Any:
        return self.x509_bundles.watch(refused=refused)

    def watch_jwt_bundles(self, *, refused: Any) -> Any:
        return self.jwt_bundles.watch(refused=refused)

    async def fetch_jwt_svids(self, audience: Sequence[str], *, subject: Any = None) -> tuple[JwtSvid, ...]:
        self.asked.append((audience, subject))
        await checkpoint()
        if self.jwt_gate is not None:
            await self.jwt_gate.wait()
        if self.jwt_error is not None:
            raise self.jwt_error
        name = subject or f"spiffe://{self.authority.trust_domain}/billing"
        return tuple(
            JwtSvid.parse_unverified(
                self.authority.issue_jwt_svid(name, list(audience), ttl=self.jwt_ttl), hint=hint
            )
            for hint in self.jwt_hints
        )
