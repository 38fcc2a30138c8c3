"""JWT-SVIDs of this workload and the bundles to verify others' with, kept fresh."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence

from spiffe_client._clock import SYSTEM_CLOCK, Clock
from spiffe_client._frames import border
from spiffe_client._retry import Backoff
from spiffe_client.audit import EventSink, safe_sink
from spiffe_client.bundle import BundleSet, JwtBundle
from spiffe_client.errors import InvalidAudienceError, SourceClosedError
from spiffe_client.ids import SpiffeId
from spiffe_client.sources._bundles import Bundles
from spiffe_client.sources._choice import choose
from spiffe_client.sources._feed import Feed
from spiffe_client.sources._health import Health
from spiffe_client.sources._jwt_cache import JwtCache, JwtRequest
from spiffe_client.sources._lifetime import Lifetime
from spiffe_client.sources._reporter import Reporter
from spiffe_client.sources._source import Source
from spiffe_client.sources._terms import OnRedaction, Terms
from spiffe_client.svid import JwtSvid
from spiffe_client.workload_api import WorkloadApiClient

__all__ = ["JwtSource"]


class JwtSource(Source):
    """Hands out JWT-SVIDs that are fresh, and knows the JWT bundles to verify others' with.

    A token is fetched when it is first asked for, kept, and renewed in the background after about
    half of its life for as long as somebody uses it; one that is expired is never handed out.
    In a forked child everything raises.

    Args:
        client: Speaks to the Workload API.
        picker: Chooses among the JWT-SVIDs issued for one request (never none). The default is
            the first, which the issuer means as the default (Workload API §6.2).
        hint: Only identities with this hint count, unless a call names another.
        timeout: Seconds that opening waits for the first JWT bundles, and that a fetch tries
            again while the Workload API cannot be reached.
        on_redaction: `drop`: when the issuer denies what it issued, stop using it (Workload API
            §4.4). `keep-until-expiry`: use it until it expires.
        grace: Seconds that a confirmed PermissionDenied does not cut off yet.
        backoff: Between attempts to reach the Workload API.
        capacity: Most tokens kept.
        idle: Seconds after its last use from which a token is not renewed any more but dropped.
        clock: Where the time comes from.
        on_event: Takes events; the default writes them to the logger `spiffe_client`.
    """

    def __init__(
        self,
        client: WorkloadApiClient,
        *,
        picker: Callable[[Sequence[JwtSvid]], JwtSvid] | None = None,
        hint: str | None = None,
        timeout: float = 30.0,
        on_redaction: OnRedaction = "drop",
        grace: float = 3.0,
        backoff: Backoff = Backoff(),  # noqa: B008 - a frozen value
        capacity: int = 1024,
        idle: float = 600.0,
        clock: Clock = SYSTEM_CLOCK,
        on_event: EventSink | None = None,
    ) -> None:
        sink = safe_sink(on_event)
        terms = Terms(timeout, on_redaction, grace, backoff, clock, sink)
        self._hint = hint
        self._clock = clock
        self._feed = Feed(Bundles("the JWT bundles", client.watch_jwt_bundles), terms)

        async def ask(request: JwtRequest) -> JwtSvid:
            svids = await client.fetch_jwt_svids(request.order, subject=request.subject)
            return choose(svids, picker, request.hint)

        reporter = Reporter("the JWT-SVIDs", sink)
        self._cache = JwtCache(ask, terms, reporter, capacity=capacity, idle=idle)
        self._feed.after.add(self._on_bundles)
        super().__init__(Lifetime("JwtSource", [self._feed], [self._cache.run], terms=terms))

    async def fetch_jwt_svid(
        self,
        audience: str | Collection[str],
        *more: str,
        subject: SpiffeId | str | None = None,
        hint: str | None = None,
    ) -> JwtSvid:
        """Return a JWT-SVID that is valid now, from memory if there is one.

        Args:
            audience: Who will verify the token, one or more of them; the order means nothing.
            more: More of them.
            subject: The identity it is to be issued for; None for the default one.
            hint: Only an identity with this hint is meant; None for the source's own `hint`.

        Raises:
            InvalidAudienceError: There is no audience, or an empty one.
            InvalidIdError: `subject` is not a SPIFFE ID.
            WorkloadApiError: The Workload API does not issue it.
            JwtSvidError: What it issued is no JWT-SVID, or is expired already.
            SourceClosedError: The source is not open, was closed, or was opened before a fork.
        """
        self._feed.holding.refuse_unopened()
        order = (*([audience] if isinstance(audience, str) else audience), *more)
        if not order or not all(isinstance(value, str) and value for value in order):
            raise InvalidAudienceError("a JWT-SVID needs an audience: name who will verify it")
        request = JwtRequest(
            None if subject is None else SpiffeId.parse(subject),
            frozenset(order),
            self._hint if hint is None else hint,
            order,
        )
        svid = await self._cache.fetch(request)
        self._feed.holding.refuse_stopped()  # another thread may have done so meanwhile
        return svid

    def stop(self, reason: str) -> None:
        """Drop all tokens and bundles, at once and for good; see `X509Source.stop`."""
        super().stop(reason)
        self._cache.drop()

    @border
    def verify_jwt_svid(self, token: str, audience: str | Collection[str]) -> JwtSvid:
        """Verify somebody's JWT-SVID with the current bundles, without asking the Workload API.

        Args:
            token: In compact serialisation.
            audience: Who we are; the token must be for one of these.

        Raises:
            JwtSvidError: It is malformed, expired, for somebody else, or not signed by an
                authority of its trust domain.
            BundleNotFoundError: Nothing from its trust domain is trusted.
            StaleError: The bundles were withdrawn.
            SourceClosedError: The source is not open, or was opened before a fork.
        """
        # Imported here: who only fetches never pays for JOSE.
        from spiffe_client.svid import verify_jwt_svid

        return verify_jwt_svid(token, self.jwt_bundles, audience=audience, at=self._clock.now())

    @property
    def jwt_bundles(self) -> BundleSet[JwtBundle]:
        """The current JWT bundles.

        Raises:
            StaleError: They were withdrawn.
            SourceClosedError: The source is not open, or was opened before a fork.
        """
        return self._feed.holding.read()

    @property
    def health(self) -> Health:
        """How the stream of JWT bundles is doing; never raises."""
        return self._feed.holding.health

    async def wait_updated(self) -> None:
        """Wait until other JWT bundles are published.

        Raises:
            SourceClosedError: The source is not open, or was closed meanwhile.
        """
        await self._feed.holding.wait_updated()

    def changes(self) -> AsyncIterator[BundleSet[JwtBundle]]:
        """Iterate over each newest set of JWT bundles from now on, until the source is closed."""
        return self._feed.holding.changes()

    def _on_bundles(self) -> None:
        # Who may not know the bundles any more has no identity any more.
        health = self.health
        if health.state == "fresh":
            self._cache.judge(self._feed.holding.read())
        elif health.state == "withdrawn":
            self._cache.clear()
        elif health.state in ("closed", "stopped"):
            stopped = health.last_error if health.state == "stopped" else None
            self._cache.close(stopped or SourceClosedError("the source of the JWT-SVIDs was closed"))
