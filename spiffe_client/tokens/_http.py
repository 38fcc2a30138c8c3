"""One request to the token broker and its answer, within a deadline. The one file that speaks httpx here.

Requests hold secrets: httpx's errors carry the request, httpcore logs what a server says, and both keep
frames. So no error of theirs leaves this file, the body of a request cannot be read from it, and what
httpcore is about to log is taken away from it.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import os
import socket
import ssl
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

import anyio
import httpx

from spiffe_client._frames import async_border, place_of
from spiffe_client._redact import Secret
from spiffe_client.errors import (
    DiscoveryError,
    SpiffeError,
    TokenBrokerClosedError,
    TokenBrokerUnavailableError,
    TokenError,
    TokenProtocolError,
    TokenRequestError,
    find,
)
from spiffe_client.tokens._channel import Channel, Lease
from spiffe_client.tokens._origin import origin_of
from spiffe_client.tokens._reply import Reply
from spiffe_client.tokens._scrub import scrub
from spiffe_client.tokens._unprinted import Unprinted
from spiffe_client.tokens._url import check_url
from spiffe_client.tokens._wire import Body, Headers, Wire

__all__ = ["Headers", "get", "post", "post_json"]

#: Largest answer that is read, in bytes.
_MAX_BYTES: Final = 64 << 10
#: Form parameters whose values must not come back in an error.
_SECRETS: Final = frozenset(
    {"subject_token", "actor_token", "assertion", "client_assertion", "client_secret", "token"}
)
_HEADERS: Final[Headers] = (
    # Asked for anything, some token brokers answer errors as HTML pages.
    ("accept", "application/json"),
    # Compressed, an answer's size would say nothing about what is in it.
    ("accept-encoding", "identity"),
    ("user-agent", "spiffe-client"),
)


@async_border
async def post(
    channel: Channel,
    url: str,
    form: Sequence[tuple[str, str]],
    *,
    headers: Headers = (),
    secrets: Iterable[Secret[str]] = (),
    timeout: float,  # noqa: ASYNC109 - a total deadline, kept with anyio's
) -> Reply:
    """Post a form.

    Args:
        channel: How to reach the token broker.
        url: https, or http to a loopback address.
        form: Parameters, in order; names may repeat.
        headers: Further ones.
        secrets: What must not come back in an error, beside what the form and the headers show to
            be secret: such as what a header encodes.
        timeout: Seconds for everything, from connecting to the last byte.

    Raises:
        TokenBrokerUnavailableError: It cannot be reached, breaks off, or is too slow. `__cause__` is what
            was wrong, such as a `PeerError`, without the request.
        TokenProtocolError: The answer is a redirect, encoded, or larger than 64 KiB.
        TokenBrokerClosedError: The channel was closed just now.
        TokenRequestError: Something to send is no text that can be sent.
        DiscoveryError: Nothing may be sent to this URL.
        SourceError: An SVID is to be shown, and there is no identity now.
    """
    body = Body(_encode(form), "application/x-www-form-urlencoded")
    request = _request("POST", url, headers, body)
    sent = (*_sent(headers, form), *secrets)
    return await _exchange(channel, request, sent=sent, timeout=timeout)


@async_border
async def post_json(
    channel: Channel,
    url: str,
    document: Mapping[str, object],
    *,
    headers: Headers = (),
    timeout: float,  # noqa: ASYNC109 - a total deadline, kept with anyio's
) -> Reply:
    """Post a JSON object; the rest as `post`."""
    body = Body(json.dumps(document).encode(), "application/json")
    request = _request("POST", url, headers, body)
    return await _exchange(channel, request, sent=_sent(headers), timeout=timeout)


@async_border
async def get(
    channel: Channel,
    url: str,
    *,
    headers: Headers = (),
    timeout: float,  # noqa: ASYNC109 - a total deadline, kept with anyio's
) -> Reply:
    """Get a document; the rest as `post`."""
    request = _request("GET", url, headers)
    return await _exchange(channel, request, sent=_sent(headers), timeout=timeout)


def _sent(headers: Headers, form: Sequence[tuple[str, str]] = ()) -> tuple[Secret[str], ...]:
    """Return the secrets of a request, which must not come back in an error."""
    secrets = [value for name, value in form if name in _SECRETS and value]
    secrets += [str(value).rpartition(" ")[2] for _, value in headers if isinstance(value, Unprinted)]
    return tuple(map(Secret, secrets))


def _encode(form: Sequence[tuple[str, str]]) -> bytes:
    with contextlib.suppress(UnicodeEncodeError):  # a lone surrogate; the error would hold the text
        return urlencode(form).encode()
    raise TokenRequestError("a form parameter is no text that can be sent")


def _request(method: str, url: str, headers: Headers, body: Body | None = None) -> httpx.Request:
    check_url(url, "endpoint", error=DiscoveryError)
    all_headers = [*_HEADERS, *(body.headers if body else ()), *headers]
    where = _location(url)
    request = None
    with contextlib.suppress(UnicodeEncodeError):  # it would hold the header
        request = httpx.Request(method, where, headers=all_headers, content=body)
    if request is None:
        raise TokenRequestError("a header is no text that can be sent")
    request.stream = body or Body(b"", "")  # as it is: httpx wraps it into a generator
    return request


def _location(url: str) -> httpx.URL:
    try:
        where = httpx.URL(url)
        _ = where.host  # read when it is first asked for
    except (httpx.InvalidURL, UnicodeError):  # the latter of what is no internationalised name
        raise DiscoveryError(f"endpoint {url!r:.200} is refused: its host is malformed") from None
    return where


async def _exchange(
    channel: Channel,
    request: httpx.Request,
    *,
    sent: tuple[Secret[str], ...],
    timeout: float,  # noqa: ASYNC109 - a total deadline, kept with anyio's
) -> Reply:
    url = str(request.url)
    wire = Wire(clear=request.url.scheme == "http")
    request.extensions["trace"] = wire.trace
    handled = sys.exception()
    reply: Reply | TokenError | None = None
    with anyio.move_on_after(timeout):
        async with channel.lease() as lease:
            try:
                reply = await _send(lease, request, sent)
                wire.keep()
            except TokenProtocolError:
                wire.keep()
                raise
            except Exception as error:  # noqa: BLE001 - the border to httpx, and to all that is below it
                reply = _unreachable(error, url, handled)
            finally:
                await wire.close()
    if reply is None:
        reply = _failure(url, f"did not answer within {timeout:g} s")
    if isinstance(reply, Reply):
        return reply
    # Here, not where httpx's error is handled, which would hang on it as its context.
    raise reply


async def _send(lease: Lease, request: httpx.Request, sent: tuple[Secret[str], ...]) -> Reply:
    # Not through a client of httpx's: it keeps cookies, and looks at where a redirect leads even if
    # it does not follow it.
    response = await lease.route.handle_async_request(request)
    try:
        _check_head(response)
        body = await _read(response)
    finally:
        with anyio.CancelScope(shield=True):
            await response.aclose()
    headers = {name: ", ".join(response.headers.get_list(name)) for name in response.headers}
    return Reply(response.status_code, headers, body, lease.shown, sent, str(request.url))


def _check_head(response: httpx.Response) -> None:
    status = response.status_code
    media_type = scrub(response.headers.get("content-type", ""))[:80]
    what = None
    if 300 <= status < 400:
        what = f"redirects (HTTP status {status}), which is not followed: the request may hold credentials"
    elif response.headers.get("content-encoding", "identity").lower() != "identity":
        what = "answered in a content encoding it was not asked for"
    if what is not None:
        raise TokenProtocolError(f"the token broker {what}", status=status, content_type=media_type)


async def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    # Leaving the loop would leave httpx's generators to the garbage collector; being cancelled in
    # the read that comes next ends them all.
    with anyio.CancelScope() as enough:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > _MAX_BYTES:
                enough.cancel()
    if len(body) > _MAX_BYTES:
        raise TokenProtocolError(
            f"the token broker answered with more than {_MAX_BYTES} bytes", status=response.status_code
        )
    return bytes(body)


def _unreachable(error: Exception, url: str, handled: BaseException | None) -> TokenError:
    """Say what was wrong, keeping nothing of httpx's error, which holds the request."""
    # Ours, told from below; anew, as its context may be an error of httpx's.
    if isinstance(error, TokenBrokerClosedError):
        return TokenBrokerClosedError(str(error))
    if isinstance(error, TokenBrokerUnavailableError):
        return _failure(url, f"cannot be reached: {error}", retryable=error.retryable)
    return _below(error, url, handled) or _failure(url, _broken(error))


def _broken(error: Exception) -> str:
    # Without its text, which may quote what the server sent.
    kind = type(error).__name__
    if not isinstance(error, httpx.HTTPError | httpx.StreamError):
        return f"could not be asked ({kind} in {place_of(error)})"
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        return f"cannot be reached ({kind})"
    return f"broke off, or did not answer in HTTP ({kind})"


def _below(error: Exception, url: str, handled: BaseException | None) -> TokenBrokerUnavailableError | None:
    """Say what was wrong below httpx; None if that is not known."""
    if (ours := find(error, SpiffeError, handled=handled)) is not None:
        return _failure(url, f"cannot be reached: {ours}", ours, retryable=ours.retryable)
    # On trio httpx's own message is empty, and what OpenSSL says is behind it.
    if (tls := find(error, ssl.SSLError, handled=handled)) is not None:
        verified = not isinstance(tls, ssl.SSLCertVerificationError)
        return _failure(url, f"cannot be reached: TLS: {tls}", tls, retryable=verified)
    if (name := find(error, socket.gaierror, handled=handled)) is not None:
        return _failure(url, f"cannot be reached: {name.strerror}", name)
    for kind in (ConnectionError, OSError):
        system = find(error, kind, handled=handled)
        if system is not None and system.errno:
            # Not its own text: what asyncio says differs from what trio says.
            advice = ": is it running?" if system.errno == errno.ECONNREFUSED else ""
            return _failure(url, f"cannot be reached: {os.strerror(system.errno)}{advice}", system)
    return None


def _failure(
    url: str, what: str, cause: Exception | None = None, *, retryable: bool = True
) -> TokenBrokerUnavailableError:
    failure = TokenBrokerUnavailableError(f"the token broker at {origin_of(url)} {what}")
    failure.retryable = retryable
    if cause is not None:
        # A copy: what the original is linked to leads to the request.
        failure.__cause__ = copy.copy(cause)
    return failure
