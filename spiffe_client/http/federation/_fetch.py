"""One look at a bundle endpoint: a GET, at most three redirects, a bounded answer.

This is the border where the errors of httpx become ours.
"""

from __future__ import annotations

import copy
import ssl
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio
import httpx

from spiffe_client.bundle import SpiffeBundle
from spiffe_client.errors import (
    BundleEndpointError,
    FederationError,
    PeerError,
    TlsConfigurationError,
    find,
)
from spiffe_client.http.federation._endpoints import BundleEndpoint, SpiffeEndpoint, check_url
from spiffe_client.http.federation._server import server_verifying_context

if TYPE_CHECKING:
    import httpcore

__all__ = ["TIMEOUT", "check_web_context", "fetch_bundle"]

#: Seconds for everything: connecting, redirects, the last byte.
TIMEOUT = 30.0
#: Largest answer in bytes: what `SpiffeBundle.parse` reads at most.
_MAX_BYTES = 1 << 20
_MAX_REDIRECTS = 3
#: Compressed answers are not asked for: their size would say nothing about what is in them.
_HEADERS = {"accept": "application/json", "accept-encoding": "identity"}


async def fetch_bundle(
    endpoint: BundleEndpoint,
    *,
    held: SpiffeBundle | None = None,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - a deadline over several steps, kept with anyio's
    ssl_context: ssl.SSLContext | None = None,
) -> SpiffeBundle:
    """Fetch a trust domain's bundle once.

    The answer is at most 1 MiB. Redirects (at most 3) are followed to valid endpoint URLs, where
    the server is verified the same way, and are not remembered. Nothing of the environment
    counts: no proxies, no certificate files, no credentials.

    Args:
        endpoint: Where it is served and who serves it.
        held: The newest bundle of this trust domain held so far: an older one is refused, and a
            server of this trust domain is verified with it (SPIFFE Federation §5.2.2.4). For a
            self-serving endpoint the default is the configured one.
        timeout: Seconds for everything together.
        ssl_context: For a `WebEndpoint` behind a private web PKI, whom to trust; the default is
            httpx's list of public authorities.

    Raises:
        FederationError: The endpoint cannot be reached, or does not answer in time or as it must.
        PeerError: The server of a `SpiffeEndpoint` is not who it must be.
        BundleError: The answer is no bundle document, or is older than `held`.
        TlsConfigurationError: `ssl_context` verifies too little, or is given for a `SpiffeEndpoint`.
    """
    held, context = _before(endpoint, held, ssl_context)
    handled = sys.exception()
    try:
        with anyio.fail_after(timeout):
            document = await _download(endpoint, context)
    except TimeoutError as error:
        raise _failure(endpoint, f"did not answer within {timeout:g} s") from error
    except (httpx.HTTPError, ssl.SSLError) as error:
        if (refused := find(error, PeerError, handled=handled)) is not None:
            raise copy.copy(refused) from error
        # On trio httpx's own message is empty, and what OpenSSL says is behind it.
        why = find(error, ssl.SSLError, handled=handled) or error
        raise _failure(endpoint, f"failed: {str(why) or type(why).__name__}") from error
    bundle = SpiffeBundle.parse(endpoint.trust_domain, document)
    if held is not None:
        bundle.check_follows(held)
    return bundle


def check_web_context(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return a context that verifies a server's certificate and its name (§5.2.1.4).

    Raises:
        TlsConfigurationError: It does not.
    """
    if context.verify_mode != ssl.CERT_REQUIRED or not context.check_hostname:
        raise TlsConfigurationError(
            "ssl_context= must verify the server's certificate and host name: "
            "a bundle from just anybody would let anybody in"
        )
    return context


def _before(
    endpoint: BundleEndpoint, held: SpiffeBundle | None, ssl_context: ssl.SSLContext | None
) -> tuple[SpiffeBundle | None, ssl.SSLContext]:
    """Return what the answer must follow, and how to verify the server."""
    if not isinstance(endpoint, SpiffeEndpoint):
        # Without the environment's SSL_CERT_FILE: whom to trust is explicit.
        return held, check_web_context(ssl_context or httpx.create_ssl_context(trust_env=False))
    if ssl_context is not None:
        raise TlsConfigurationError(
            "ssl_context= is for web endpoints; a SpiffeEndpoint is verified by its SPIFFE ID and bundle"
        )
    latest = endpoint.bundle
    if endpoint.self_serving:
        latest = held = held or endpoint.bundle
    return held, server_verifying_context(endpoint.server_id, latest.x509_bundle)


async def _download(endpoint: BundleEndpoint, context: ssl.SSLContext) -> bytes:
    url = endpoint.url
    opened = _Opened()
    # The deadline is ours, over all of it. Without the environment there are no proxies, and no
    # credentials out of a .netrc.
    client = httpx.AsyncClient(verify=context, trust_env=False, timeout=None)  # noqa: S113 - see above
    async with opened, client:
        for _ in range(1 + _MAX_REDIRECTS):
            extensions = {"trace": opened.trace}
            async with client.stream("GET", url, headers=_HEADERS, extensions=extensions) as response:
                if response.next_request is None:
                    return await _body(endpoint, response)
                url = _redirected(endpoint, response.next_request)
    raise _failure(endpoint, f"redirects more than {_MAX_REDIRECTS} times")


class _Opened:
    """Closes what was connected, at the end: httpcore forgets a socket whose handshake is cancelled."""

    def __init__(self) -> None:
        self._streams: list[httpcore.AsyncNetworkStream] = []

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Take note of each connection; see httpx's request extension of this name."""
        if event == "connection.connect_tcp.complete":
            self._streams.append(info["return_value"])

    async def __aenter__(self) -> None:
        return

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            for stream in self._streams:
                await stream.aclose()


def _redirected(endpoint: BundleEndpoint, request: httpx.Request) -> str:
    try:
        return check_url(str(request.url))
    except BundleEndpointError as error:
        raise _failure(endpoint, f"redirects to where no bundle may be fetched from: {error}") from error


async def _body(endpoint: BundleEndpoint, response: httpx.Response) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise _failure(endpoint, f"answered with HTTP status {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _failure(endpoint, "answered in a content encoding it was not asked for")
    body = bytearray()
    # Leaving the loop would leave httpx's generators to the garbage collector; being cancelled in
    # the read that comes next ends them all.
    with anyio.CancelScope() as enough:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > _MAX_BYTES:
                enough.cancel()
    if len(body) > _MAX_BYTES:
        raise _failure(endpoint, f"answered with more than {_MAX_BYTES} bytes")
    return bytes(body)


def _failure(endpoint: BundleEndpoint, what: str) -> FederationError:
    return FederationError(f"the bundle endpoint of {endpoint.trust_domain} {what}")
