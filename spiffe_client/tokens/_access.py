"""Requests to a transmitter of security events, with the access token that it wants."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from spiffe_client._frames import async_border
from spiffe_client.tokens._request import TokenRequest
from spiffe_client.tokens._tokens import AccessToken
from spiffe_client.tokens._unprinted import Unprinted

if TYPE_CHECKING:
    from spiffe_client.tokens._caep import CaepPoll, Receiving
    from spiffe_client.tokens._http import Headers
    from spiffe_client.tokens._reply import Reply

__all__ = ["Access"]

#: What a receiver's access token permits (CAEP Interoperability Profile 1.0 §2.7.2).
_SCOPE: Final = "ssf.read"
_ERROR: Final = re.compile(r'\berror="?([a-z_]+)"?')


class Access:
    """Adds our authorization to each request.

    Args:
        poll: Which one, and at whom.
        receiving: Has access tokens.
    """

    def __init__(self, poll: CaepPoll, receiving: Receiving) -> None:
        self._for = receiving
        asked = poll.authorization
        self._request = TokenRequest.of(_SCOPE, audience=poll.issuer) if asked is True else None
        if isinstance(asked, TokenRequest):
            self._request = asked
        self._source = None if isinstance(asked, TokenRequest | bool) else asked

    @async_border
    async def send(self, send: Callable[[Headers], Awaitable[Reply]], method: str, url: str) -> Reply:
        """Send a request, and once more if it is a DPoP nonce that was missing (RFC 9449 §9).

        Args:
            send: Sends it with these headers.
            method: Of it.
            url: Of it.

        Raises:
            TokenError: There is no access token, or no answer.
            SourceError: There is no identity to ask for one with.
        """
        if self._source is not None:
            return await send(
                [("authorization", Unprinted(f"Bearer {(await self._source.read()).reveal()}"))]
            )
        if self._request is None:
            return await send([])
        token = await self._for.fetch(self._request)
        nonce = self._for.nonces.of(url)
        reply = await send(self._headers(token, method, url, nonce))
        if reply.status == 401:
            error = _error(reply.headers)
            nonce = self._for.nonces.retry(url, error=error, headers=reply.headers, sent=nonce)
            if nonce is not None:
                reply = await send(self._headers(token, method, url, nonce))
        self._for.nonces.seen(url, reply.headers)
        if reply.status == 401:
            self._for.purge(token)  # the next try gets a fresh one
        return reply

    def _headers(self, token: AccessToken, method: str, url: str, nonce: str | None) -> Headers:
        text = token.token.reveal()
        headers = [("authorization", Unprinted(f"{token.token_type} {text}"))]
        if token.token_type == "DPoP" and self._for.dpop is not None:
            proof = self._for.dpop.proof(method, url, at=self._for.clock.now(), token=text, nonce=nonce)
            headers.append(("dpop", Unprinted(proof)))
        return headers


def _error(headers: Mapping[str, str]) -> str | None:
    found = _ERROR.search(headers.get("www-authenticate", ""))
    return found[1] if found else None
