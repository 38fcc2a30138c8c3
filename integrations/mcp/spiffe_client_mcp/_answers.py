"""What a server answers, without secrets: JSON, events, and whatever else it says."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import anyio
import httpx2

from spiffe_client._json import parse_json_object
from spiffe_client.agents import Scrubber
from spiffe_client.errors import PolicyError, TaskError
from spiffe_client_mcp._messages import error_body

__all__ = [
    "CleanStream",
    "Events",
    "ToolFailedError",
    "UnreadableAnswerError",
    "clean_headers",
    "clean_json",
    "end_with",
    "is_failure",
    "read_whole",
    "written",
]

_LINE_ENDS: Final = re.compile(rb"\r\n|\n|\r")
#: They are about the bytes as they came, which are not those that are passed on.
_ABOUT_BYTES: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_UNREADABLE: Final = "not permitted: the server's answer cannot be read, so it is not passed on"


class UnreadableAnswerError(Exception):
    """What came could not be looked through."""

    def __init__(self) -> None:
        super().__init__(_UNREADABLE)


def clean_headers(headers: httpx2.Headers, scrubber: Scrubber) -> httpx2.Headers:
    """Return the headers of an answer for what is passed on of it."""
    kept = [(name, value) for name, value in headers.multi_items() if name.lower() not in _ABOUT_BYTES]
    return httpx2.Headers(scrubber.clean(kept))


def clean_json(text: bytes, scrubber: Scrubber) -> dict[str, object]:
    """Return a JSON object without secrets, also such as are spelled with escapes.

    Raises:
        UnreadableAnswerError: It is none, or one that could be read in two ways.
    """
    document = parse_json_object(text)
    if document is None:
        raise UnreadableAnswerError
    return scrubber.clean(document)


def written(document: dict[str, object]) -> bytes:
    """Return JSON of what was looked through: nothing of what came but that."""
    return json.dumps(document, separators=(",", ":")).encode()


def is_failure(document: Mapping[str, object]) -> bool:
    """Whether a message says that a request failed, or a tool did."""
    result = document.get("result")
    return "error" in document or (isinstance(result, dict) and result.get("isError") is True)


async def read_whole(response: httpx2.Response, most: int) -> bytes:
    """Read an answer, decoded.

    Args:
        response: Not read yet.
        most: How long it may be, in bytes.

    Raises:
        UnreadableAnswerError: It is longer.
    """
    body = bytearray()
    chunks = _chunks(response)
    try:
        async for chunk in chunks:
            body += chunk
            if len(body) > most:
                raise UnreadableAnswerError
    finally:
        await _end(chunks, response)
    return bytes(body)


class ToolFailedError(Exception):
    """The server says that the tool failed: for the audit; what it says is passed on."""

    def __init__(self) -> None:
        super().__init__("the tool failed")


def end_with(error: BaseException | None) -> None:
    """Raise an error if there is one."""
    if error is not None:
        raise error


class Events:
    """Server-sent events, cleaned as they come.

    Args:
        scrubber: Cleans.
        most: How long one may be, in bytes.
        seen: Is shown each message, and may change it.
        resumable: Whether who reads it may ask for the rest in another request; if not, events have no ids, and
            the answer has to be among them.

    Attributes:
        failed: Whether one said that the request failed, or a tool did.
        answered: Whether one said what came of the request, where that has to be.
    """

    def __init__(
        self,
        scrubber: Scrubber,
        most: int,
        seen: Callable[[dict[str, Any]], None] | None = None,
        *,
        resumable: bool = True,
    ) -> None:
        self._scrubber = scrubber
        self._seen = seen
        self._left_out = frozenset({"data"} if resumable else {"data", "id", "retry"})
        self._most = most
        self._rest = b""
        self._fields: list[tuple[str, bytes]] = []
        self._size = 0
        self.failed = False
        self.answered = resumable

    def feed(self, chunk: bytes) -> bytes:
        """Take in what came, and return the events that are complete.

        Raises:
            UnreadableAnswerError: One is too long.
        """
        text = self._rest + chunk
        held = b"\r" if text.endswith(b"\r") else b""  # the first half of a line's end, perhaps
        lines = _LINE_ENDS.split(text[: len(text) - len(held)])
        self._rest = lines.pop() + held
        done = b"".join(map(self._line, lines))
        if self._size + len(self._rest) > self._most:
            raise UnreadableAnswerError
        return done

    def _line(self, line: bytes) -> bytes:
        if not line:
            return self._event()
        self._size += len(line)
        name, _, value = line.partition(b":")
        # A comment, which keeps the connection alive, stays one, and says nothing.
        self._fields.append((name.decode("utf-8", "replace"), value.removeprefix(b" ") if name else b""))
        return b""

    def _event(self) -> bytes:
        fields, self._fields, self._size = self._fields, [], 0
        data = b"\n".join(value for name, value in fields if name == "data")
        lines = []
        for name, value in fields:
            if name not in self._left_out:
                said = self._scrubber.text(value.decode("utf-8", "replace"))
                lines.append(f"{self._scrubber.text(name)}: {said}".encode() if name else b":")
        if data:
            document = clean_json(data, self._scrubber)
            self.failed = self.failed or is_failure(document)
            self.answered = self.answered or "method" not in document
            if self._seen is not None:
                self._seen(document)
            lines.append(b"data: " + written(document))
        elif any(name == "data" for name, _ in fields):
            lines.append(b"data:")
        return b"".join(line + b"\n" for line in lines) + b"\n"


class CleanStream(httpx2.AsyncByteStream):
    """An answer that is a stream of events; what it is part of lasts as long.

    Args:
        response: What comes.
        events: Cleans it.
        stack: What ends with it; also what ends it, by raising a denial in place of a cancellation.
        number: The id of the request that it answers.
        ended: Told at the end.
    """

    def __init__(
        self,
        response: httpx2.Response,
        events: Events,
        stack: AsyncExitStack,
        number: str | int | None,
        ended: Callable[[], None],
    ) -> None:
        self._response = response
        self._events = events
        self._stack = stack
        self._number = number
        self._ended = ended
        self._chunks = _chunks(response)
        self._over = False

    def __aiter__(self) -> CleanStream:
        return self

    async def __anext__(self) -> bytes:
        while not self._over:
            try:
                if clean := self._events.feed(await anext(self._chunks)):
                    return clean
            except StopAsyncIteration:
                await self.aclose()
            except BaseException as error:  # noqa: BLE001 - raised below, or told as a denial where it is one
                return await self._failed(error)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End it; idempotent."""
        if not self._over:
            await self._finish(None)

    async def _failed(self, error: BaseException) -> bytes:
        """Say in an event what the end is, so that nobody asks for the rest of it elsewhere."""
        try:
            await self._finish(error)
        except (PolicyError, TaskError) as denial:
            text = str(denial)
        except UnreadableAnswerError as unreadable:
            text = str(unreadable)
        return b"data: " + error_body(self._number, text) + b"\n\n"

    async def _finish(self, error: BaseException | None) -> None:
        self._over = True
        self._ended()
        with suppress(ToolFailedError):
            async with self._stack:
                await _end(self._chunks, self._response)
                fine = self._events.answered and not self._events.failed
                end_with(error or (None if fine else ToolFailedError()))


def _chunks(response: httpx2.Response) -> AsyncGenerator[bytes, None]:
    chunks: AsyncGenerator[bytes, None] = response.aiter_bytes()
    return chunks


async def _end(chunks: AsyncGenerator[bytes, None], response: httpx2.Response) -> None:
    with anyio.CancelScope(shield=True):
        await chunks.aclose()
        await response.aclose()
