"""Where a call's credentials did not go: another origin, or another peer; told to the audit, without paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spiffe_client.errors import PeerError, TokenOriginError, find
from spiffe_client.http._destinations import origin_of_url

if TYPE_CHECKING:
    import httpx

    from spiffe_client.agents._call import Call
    from spiffe_client.http import TokenAuth

__all__ = ["note_followed", "note_refused"]


def note_refused(call: Call, error: Exception, url: httpx.URL) -> None:
    """Tell of an error if it is that a credential does not go there; other errors are not about that.

    Args:
        call: Whose.
        error: Why a request was not sent, perhaps with ours in it.
        url: Of the request.
    """
    ours = find(error, TokenOriginError) or find(error, PeerError)
    if ours is not None:
        call.withhold(ours.code, str(origin_of_url(url)))


def note_followed(call: Call, auth: TokenAuth, response: httpx.Response) -> None:
    """Tell of redirects that were followed without the token.

    Args:
        call: Whose.
        auth: What has put it on the first request.
        response: What came of it in the end.
    """
    for origin in auth._destinations.left(response):  # noqa: SLF001 - of the same house
        call.withhold(TokenOriginError.code, str(origin))
