"""The error a caller of httpx sees, with the reason in it.

TLS errors reach httpx through layers that drop or hide them: on trio the message is empty, on
asyncio an `ssl.SSLError` slips through unmapped, and httpcore raises `from None`. This is the
border where each becomes httpx's error, and the reason is put back.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, NoReturn

from spiffe_client.errors import SpiffeError, find
from spiffe_client.http._library import Library

if TYPE_CHECKING:
    import httpx

__all__ = ["no_identity", "refuse_plaintext", "reraise"]

#: No failures: what OpenSSL says while it waits for the network, which then fails for its own reason.
_WAITING = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


def reraise(
    error: Exception,
    request: httpx.Request,
    *,
    library: Library,
    handled: BaseException | None,
    cut: SpiffeError | None = None,
    presented: str | None = None,
) -> NoReturn:
    """Raise the error that says why, or `error` itself where no more is known.

    Args:
        error: What httpx raised, or a TLS error that slipped through it.
        request: The request it belongs to.
        library: Whose they are.
        handled: The exception that was being handled when the request began: an earlier attempt's
            refusal is in the contexts of this one's failure and has nothing to do with it.
        cut: Why the connection was hung up on this side, if it was.
        presented: The own SPIFFE ID, if no response has begun.
    """
    if not _is_of_transport(error, library):
        raise error
    kind: Any = type(error) if isinstance(error, library.TransportError) else library.ReadError
    if (reason := find(error, SpiffeError, handled=handled) or cut) is not None:
        if not issubclass(kind, (library.ConnectError, library.WriteError)):
            kind = library.ReadError
        raise kind(str(reason), request=request) from reason
    better, tls = error, find(error, ssl.SSLError, handled=handled)
    broke_in_handshake = isinstance(error, library.ConnectError) and (
        tls is not None or find(error, ConnectionResetError, handled=handled) is not None
    )
    if tls is not None and (tls is error or not str(error)) and not isinstance(tls, _WAITING):
        better = kind(str(tls), request=request)
        better.__cause__ = tls
    # One that ends like this before any answer may have been ended by the server's TLS stack.
    broken = (library.RemoteProtocolError, library.ReadError, library.WriteError)
    if presented is not None and (isinstance(better, broken) or broke_in_handshake):
        if not str(better):
            better = kind(
                f"the connection ended before an answer came; {presented} was shown", request=request
            )
            better.__cause__ = error
        better.add_note(
            f"If the server requires a SPIFFE identity, it may have refused this one ({presented}): "
            f"a TLS 1.3 server that refuses a certificate often just closes the connection and says "
            f"why only in its own log."
        )
    raise better


def _is_of_transport(error: Any, library: Library) -> bool:
    # An upload that is read from another client's response fails with httpx errors of its own.
    if isinstance(error, library.TransportError):
        try:
            return error.request is None
        except RuntimeError:
            return True  # the transport does not set it, the client does later
    return isinstance(error, ssl.SSLError)


def no_identity(error: SpiffeError, request: httpx.Request, library: Library) -> httpx.TransportError:
    """Return the error for a request that cannot start because this workload has no identity now."""
    kind = library.ConnectTimeout if isinstance(error, TimeoutError) else library.ConnectError
    made: httpx.TransportError = kind(str(error), request=request)
    return made


def refuse_plaintext(request: httpx.Request, library: Library) -> None:
    """Let only requests through that TLS protects.

    Raises:
        httpx.UnsupportedProtocol: It is an `http://` URL, or no HTTP at all.
    """
    scheme = request.url.scheme
    if scheme not in ("https", "wss", ""):  # without one, httpx has its own words
        raise library.UnsupportedProtocol(
            f"{scheme}:// is refused: SPIFFE clients speak TLS only, use https://", request=request
        )
