"""Requests that carry a token: fetched when needed, bound to us, sent to whom it is meant for."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import httpx

from spiffe_client.errors import TokenOriginError, UnacceptableTokenError
from spiffe_client.http._auth_flow import AuthFlow, Refused, Steps
from spiffe_client.http._destinations import Destinations, origin_of_url
from spiffe_client.http._dialogue import Dialogue, Doubts
from spiffe_client.http._hops import Hops
from spiffe_client.http._withheld import Withheld
from spiffe_client.tokens import AccessToken, TokenRequest
from spiffe_client.tokens._origin import Origin
from spiffe_client.tokens._unprinted import Unprinted

if TYPE_CHECKING:
    from spiffe_client.audit import EventSink
    from spiffe_client.tokens import TokenBroker

__all__ = ["TokenAuth"]

#: What an access token is made of (RFC 6749 §A.12); anything else would show in an error of h11.
_TEXT: Final = re.compile(r"[\x21-\x7e]+\Z")
_UNAUTHORIZED: Final = 401


class TokenAuth(AuthFlow[AccessToken]):
    """Puts an access token on each request, for `httpx.AsyncClient` and `httpx.Client` alike.

    The token goes to the origins it is meant for, by https (or over a socket that ends on this machine,
    without a proxy between), and nowhere else: a request to another origin raises; a redirect to one is
    followed without it. A token that the
    server calls invalid is forgotten, and the request sent once more with a new one; a nonce that
    the server wants in proofs is given once (RFC 9449 §9). A request whose body is a stream is not
    sent twice. A request with an `Authorization` header of its own is refused: send it with
    `auth=None`.

    Args:
        broker: Where tokens come from.
        request: What the token is for.
        origins: Where it may be sent; the default is the origins of its audiences and resources.
        on_event: Is told where it was not sent; logged if None.

    Raises:
        TokenRequestError: Neither `origins` nor an audience or resource says where it may be sent.
    """

    def __init__(
        self,
        broker: TokenBroker,
        request: TokenRequest,
        *,
        origins: Collection[str] = (),
        on_event: EventSink | None = None,
    ) -> None:
        named = sorted(request.audience | request.resource)
        what = f"a token for {', '.join(named)}" if named else "a token without audience"
        self._destinations = Destinations(what, named, origins)
        self._broker = broker
        self._request = request
        self._doubts = Doubts(broker, request)
        self._withheld = Withheld(named, on_event)

    async def _fetch(self) -> AccessToken:
        return await self._broker.fetch(self._request)

    def _fetch_blocking(self) -> AccessToken:
        return self._broker.fetch_blocking(self._request)

    # Most requests take no more than this: their token is a bearer, and nobody calls it invalid.
    def _at_hand(self, request: httpx.Request, hops: type[Hops]) -> AccessToken | None:
        try:
            origin = self._destinations.check(request)
        except TokenOriginError:
            self._withheld.tell(origin_of_url(request.url))
            raise
        token = self._broker.peek(self._request)
        if token is None or token.token_type == "DPoP":
            return None
        request.headers["Authorization"] = token._header or _header(token)  # noqa: SLF001 - its slot is for this
        if origin.scheme == "http":  # httpx lets Authorization go along from there to https
            hops(request, self._destinations.allowed, None)
        return token

    def _steps(self, request: httpx.Request, hops: type[Hops], refused: Refused[AccessToken] | None) -> Steps:
        dialogue: Dialogue | None = None
        following: httpx.Request | None = request
        if refused is not None:
            dialogue = self._continued(None, refused[0])
            following = dialogue.next(request, refused[1])
        while following is not None:
            request = following
            origin = self._destinations.check(request)
            token = self._broker.peek(self._request)
            if token is None:
                token = yield None
            former = None if dialogue is None else dialogue.refused
            if former is not None and token.token == former.token:
                self._doubts.note(origin)
                return  # the token broker has no other one: the refusal stands
            request.headers["Authorization"] = _header(token)
            bound = token.token_type == "DPoP"
            if bound:
                dialogue = self._prove(dialogue, request, token, origin, hops)
            elif origin.scheme == "http":  # httpx lets Authorization go along from there to https
                hops(request, self._destinations.allowed, None)
            response = yield request
            if not bound and response.status_code != _UNAUTHORIZED:
                return
            dialogue = self._continued(dialogue, token)
            following = dialogue.next(request, response)

    def _followed(self, response: httpx.Response) -> None:
        for origin in self._destinations.left(response):
            self._withheld.tell(origin)

    def _continued(self, dialogue: Dialogue | None, token: AccessToken) -> Dialogue:
        if dialogue is None:
            dialogue = Dialogue(self._broker, self._destinations.allowed, self._doubts)
        dialogue.token = token
        return dialogue

    def _prove(
        self,
        dialogue: Dialogue | None,
        request: httpx.Request,
        token: AccessToken,
        origin: Origin,
        hops: type[Hops],
    ) -> Dialogue:
        dialogue = self._continued(dialogue, token)
        request.headers["DPoP"] = dialogue.prove(request.method, str(request.url), origin)
        dialogue.hops = hops(request, self._destinations.allowed, dialogue.prove)
        return dialogue


def _header(token: AccessToken) -> Unprinted:
    """Return the header's value, made once for a token and gone with it: nothing here outlives a purge."""
    header = token._header  # noqa: SLF001 - the slot is there for this function
    if header is None:
        if not _TEXT.match(token.token.reveal()):
            raise UnacceptableTokenError(
                f"the token {token.fingerprint} has characters that no access token has",
                why="not_an_access_token",
            )
        header = Unprinted(f"{token.token_type} {token.token.reveal()}")
        object.__setattr__(token, "_header", header)
    return header
