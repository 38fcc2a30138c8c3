"""One JSON document sent, one received. The one file that speaks httpx here.

What comes back decides whether something is done, so it is read strictly: status 200, JSON by name
and by content, one meaning, a size. Nothing that was received is in a `Failure`, for it goes into
the audit.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Final, Literal, TypeAlias

import anyio
import httpx

from spiffe_client._json import parse_json_object
from spiffe_client._values import dataclass
from spiffe_client.errors import SpiffeError, find
from spiffe_client.policy._address import is_here

__all__ = ["Document", "Exchange", "Failure"]

#: What was answered.
Document: TypeAlias = dict[str, object]

#: Largest answer that is read, in bytes.
_MAX_BYTES: Final = 256 << 10
#: Worth another try (RFC 9110 §15.5, §15.6; RFC 6585 §4).
_BUSY: Final = frozenset({429, 502, 503, 504})
_HEADERS: Final = {
    "accept": "application/json",
    # Compressed, an answer's size would say nothing about what is in it.
    "accept-encoding": "identity",
    "user-agent": "spiffe-client",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer.

    Attributes:
        cause: `unreachable`, `status`, `redirect`, `encoding`, `content_type`, `too_large`,
            `not_json`, `another_request`, `elsewhere`, `error`, `timeout`.
        retryable: Whether asking again may help.
        status: The HTTP status; 0 for none.
        error: The exception's code or type; empty for none.
        retry_after: Seconds that the other end asked to wait.
    """

    cause: str
    retryable: bool = False
    status: int = 0
    error: str = ""
    retry_after: float = 0.0

    @property
    def evidence(self) -> dict[str, str | int]:
        """The same for a decision: what is not there is left out."""
        facts: dict[str, str | int] = {"cause": self.cause, "status": self.status, "error": self.error}
        return {name: fact for name, fact in facts.items() if fact}


class _Body(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Chunk(self._content)


class _Chunk(AsyncIterator[bytes]):
    """One chunk. Not a generator: trio warns of one that a request which failed left unfinished."""

    def __init__(self, content: bytes) -> None:
        self._left = [content]

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


class Exchange:
    """An HTTP client for JSON documents: the caller's, or one of its own.

    Args:
        client: The caller's, who closes it; None for one of its own, which trusts the web PKI and
            takes nothing from the environment.
    """

    __slots__ = ("_client", "_closed", "_own")

    def __init__(self, client: httpx.AsyncClient | None) -> None:
        self._client = client
        self._own = client is None
        self._closed = False

    async def aclose(self) -> None:
        """Close the client, unless it is the caller's; nothing is asked any more."""
        self._closed = True
        if self._own and self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def post(self, url: str, document: Mapping[str, object], *, request_id: str) -> Document | Failure:
        """Send a document and return the one that is answered.

        Args:
            url: `check_address` has seen it.
            document: What to send.
            request_id: Sent as `X-Request-ID`; an answer that names another one is another's.
        """
        body = json.dumps(document, allow_nan=False).encode()
        headers = {**_HEADERS, "content-type": "application/json", "x-request-id": request_id}
        return await self._send("POST", url, headers, body)

    async def get(self, url: str) -> Document | Failure:
        """Return a document."""
        return await self._send("GET", url, dict(_HEADERS), b"")

    async def _send(
        self, method: Literal["GET", "POST"], url: str, headers: dict[str, str], body: bytes
    ) -> Document | Failure:
        if self._closed:
            return Failure("error", error="closed")
        if self._client is None:
            self._client = httpx.AsyncClient(trust_env=False, timeout=None)  # noqa: S113 - callers have a deadline
        try:
            # No time limits of httpx's: they are for each read, and there is one for the whole.
            request = self._client.build_request(method, url, headers=headers, content=body, timeout=None)
            request.stream = _Body(body)  # as it is: httpx wraps it into a generator
            response = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                return _refused(response, headers.get("x-request-id")) or await _read(response)
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
        except httpx.TransportError as error:
            return _unreachable(error)
        except Exception as error:  # noqa: BLE001 - the border to httpx and to the caller's client
            return Failure("error", error=_code(error))


def _unreachable(error: httpx.TransportError) -> Failure:
    # Of ours it is known whether another try may help: somebody else's certificate stays somebody else's.
    ours = find(error, SpiffeError)
    return Failure("unreachable", retryable=ours is None or ours.retryable, error=_code(ours or error))


def _code(error: Exception) -> str:
    return error.code if isinstance(error, SpiffeError) else type(error).__name__


def _refused(response: httpx.Response, request_id: str | None) -> Failure | None:
    status, headers = response.status_code, response.headers
    stream = response.extensions.get("network_stream")
    if (
        response.url.scheme == "http"
        and stream is not None
        and not is_here(stream.get_extra_info("server_addr"))
    ):
        return Failure("elsewhere")
    if 300 <= status < 400:
        return Failure("redirect", status=status)
    if status != 200:
        return Failure(
            "status", status in _BUSY, status, retry_after=_seconds(headers.get("retry-after", ""))
        )
    return _unreadable(headers, request_id)


def _unreadable(headers: httpx.Headers, request_id: str | None) -> Failure | None:
    if headers.get("content-encoding", "identity").lower() != "identity":
        return Failure("encoding", status=200)
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return Failure("content_type", status=200)
    # AuthZEN has the same one come back.
    if request_id is not None and headers.get("x-request-id", request_id) != request_id:
        return Failure("another_request", status=200)
    return None


def _seconds(text: str) -> float:
    # A date, or more digits than a wait has, is longer than anybody waits here.
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else float(bool(text)) * 1e9


async def _read(response: httpx.Response) -> Document | Failure:
    body = bytearray()
    # Leaving the loop would leave httpx's generators to the garbage collector; being cancelled in
    # the read that comes next ends them all.
    with anyio.CancelScope() as enough:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > _MAX_BYTES:
                enough.cancel()
    if len(body) > _MAX_BYTES:
        return Failure("too_large", status=200)
    document = parse_json_object(bytes(body))
    return Failure("not_json", status=200) if document is None else document
