"""Requests that carry a JWT-SVID, for services that take one (JWT-SVID §5)."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Collection
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from spiffe_client.errors import InvalidAudienceError, TokenRequestError
from spiffe_client.http._auth_flow import AuthFlow, Refused, Steps
from spiffe_client.http._destinations import Destinations
from spiffe_client.http._hops import Hops
from spiffe_client.tokens._unprinted import Unprinted

if TYPE_CHECKING:
    from spiffe_client.svid import JwtSvid

__all__ = ["BlockingJwtSvidSource", "JwtSvidAuth", "JwtSvidSource"]


class JwtSvidSource(Protocol):
    """What gives JWT-SVIDs, such as a `Workload`."""

    def jwt_svid(self, audience: str, /) -> Awaitable[JwtSvid]:
        """Return a JWT-SVID that is valid now."""
        ...


class BlockingJwtSvidSource(Protocol):
    """What gives JWT-SVIDs to code that blocks, such as a `sync.Workload`."""

    def jwt_svid(self, audience: str, /) -> JwtSvid:
        """Return a JWT-SVID that is valid now."""
        ...


class JwtSvidAuth(AuthFlow["JwtSvid"]):
    """Puts a JWT-SVID on each request, as a bearer token.

    It goes to the origins it is meant for, by https (or over a socket that ends on this machine, without
    a proxy between), and nowhere else: a request to another origin raises; a redirect to one is followed
    without it. A request with an
    `Authorization` header of its own is refused: send it with `auth=None`.

    Args:
        source: A `Workload` for `httpx.AsyncClient`, a `sync.Workload` for `httpx.Client`.
        audience: Who will verify it.
        origins: Where it may be sent; the default is the origin of the audience, if that is a URL.

    Raises:
        InvalidAudienceError: The audience is empty.
        TokenRequestError: Neither `origins` nor the audience says where it may be sent.
    """

    def __init__(
        self,
        source: JwtSvidSource | BlockingJwtSvidSource,
        audience: str,
        *,
        origins: Collection[str] = (),
    ) -> None:
        if not audience.strip():
            raise InvalidAudienceError("a JWT-SVID needs an audience: name who will verify it")
        self._destinations = Destinations(f"a JWT-SVID for {audience}", [audience], origins)
        self._source = source
        self._audience = audience

    async def _fetch(self) -> JwtSvid:
        asked: Any = self._source.jwt_svid(self._audience)
        if not inspect.isawaitable(asked):
            raise TokenRequestError(
                "this JwtSvidAuth is for httpx.Client: for httpx.AsyncClient give it a Workload"
            )
        svid: JwtSvid = await asked
        return svid

    def _fetch_blocking(self) -> JwtSvid:
        asked: Any = self._source.jwt_svid(self._audience)
        if inspect.iscoroutine(asked):
            asked.close()
            raise TokenRequestError(
                "this JwtSvidAuth is for httpx.AsyncClient: for httpx.Client give it a sync.Workload"
            )
        svid: JwtSvid = asked
        return svid

    def _steps(self, request: httpx.Request, hops: type[Hops], refused: Refused[JwtSvid] | None) -> Steps:  # noqa: ARG002 - none is at hand
        origin = self._destinations.check(request)
        svid: JwtSvid = yield None
        request.headers["Authorization"] = Unprinted(f"Bearer {svid.token.reveal()}")
        if origin.scheme == "http":  # httpx lets Authorization go along from there to https
            hops(request, self._destinations.allowed, None)
        yield request
