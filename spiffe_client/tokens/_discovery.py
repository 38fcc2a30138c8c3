"""Finding a token broker's metadata by its issuer identifier (RFC 8414 §3, OpenID Connect Discovery §4)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

import anyio

from spiffe_client.errors import DiscoveryError, TokenBrokerUnavailableError, TokenProtocolError
from spiffe_client.tokens._channel import Channel
from spiffe_client.tokens._metadata import Metadata
from spiffe_client.tokens._reply import Reply, read_object, unavailable
from spiffe_client.tokens._url import check_url

__all__ = ["discover", "well_known_urls"]

_OAUTH: Final = "/.well-known/oauth-authorization-server"
_OPENID: Final = "/.well-known/openid-configuration"


def well_known_urls(issuer: str) -> tuple[str, ...]:
    """Return where an issuer's metadata may be, the standard's place first.

    RFC 8414 §3.1 inserts the well-known path before the issuer's own, OpenID Connect appends it;
    token brokers in the field do each with either name.

    Raises:
        DiscoveryError: It is no issuer identifier: not an https URL, or one with query or fragment.
    """
    check_url(issuer, "issuer", error=DiscoveryError)
    parts = urlsplit(issuer)
    if "?" in issuer:
        raise DiscoveryError(
            f"issuer {issuer!r:.200} has a query, which no issuer identifier has (RFC 8414 §2)"
        )
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.removesuffix("/")
    urls = (
        f"{origin}{_OAUTH}{path}",
        f"{origin}{_OPENID}{path}",
        f"{origin}{path}{_OPENID}",
        f"{origin}{path}{_OAUTH}",
    )
    return tuple(dict.fromkeys(urls))


async def discover(
    channel: Channel,
    issuer: str,
    *,
    timeout: float,  # noqa: ASYNC109 - a deadline over several requests, kept with anyio's
    allowed_origins: Collection[str] = (),
) -> Metadata:
    """Read a token broker's metadata.

    Args:
        channel: How to reach it.
        issuer: Its issuer identifier; the document must name exactly this one.
        timeout: Seconds for everything.
        allowed_origins: Origins beside the issuer's that its endpoints may have.

    Raises:
        DiscoveryError: There is none, it is another's, or it cannot be trusted.
        TokenBrokerUnavailableError: The token broker cannot be reached, or does not answer in time.
    """
    urls = well_known_urls(issuer)
    with anyio.move_on_after(timeout):
        return await _first(channel, issuer, urls, allowed_origins, timeout)
    raise TokenBrokerUnavailableError(f"{issuer} did not give its metadata within {timeout:g} s")


async def _first(
    channel: Channel,
    issuer: str,
    urls: tuple[str, ...],
    allowed_origins: Collection[str],
    timeout: float,  # noqa: ASYNC109 - the caller's deadline, over all of it
) -> Metadata:
    from spiffe_client.tokens._http import get

    misses: list[str] = []
    refused: DiscoveryError | None = None
    for url in urls:
        try:
            reply = await get(channel, url, timeout=timeout)
            if (later := unavailable(reply, now=channel.clock.now())) is not None:
                raise later
            document = _document(reply)
            return Metadata.read(document, issuer, allowed_origins=allowed_origins)
        except TokenProtocolError as error:
            misses.append(f"{url}: {error}")
        except DiscoveryError as error:
            # A server may answer every path with its own document: the next place may be right.
            refused = refused or error
    if refused is not None:
        raise refused
    raise DiscoveryError(f"no metadata of {issuer} was found: {'; '.join(misses)}")


def _document(reply: Reply) -> dict[str, object]:
    if reply.status != 200:
        raise TokenProtocolError(f"HTTP status {reply.status}", status=reply.status)
    return read_object(reply)
