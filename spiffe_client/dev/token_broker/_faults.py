"""Trouble on purpose: what the next requests meet instead of an answer, or before it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

__all__ = ["Fault", "Faults"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One trouble.

    Attributes:
        status: The status to answer with; None answers properly after `delay`.
        error: The `error` member; empty for a body without one.
        retry_after: The header `Retry-After`, as it is to be sent.
        delay: Seconds to wait before anything is answered.
        drop: Whether the connection is cut instead of an answer.
        late: Whether the request is carried out first, so that only its answer is lost.
        body: A body to send instead of JSON.
        content_type: Its media type.
        headers: More headers.
    """

    status: int | None = 503
    error: str = "temporarily_unavailable"
    retry_after: str | None = None
    delay: float = 0.0
    drop: bool = False
    late: bool = False
    body: bytes | None = field(default=None, repr=False)
    content_type: str = "text/html"
    headers: tuple[tuple[str, str], ...] = ()


class Faults:
    """The troubles that wait for requests, by endpoint; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Fault]] = {}
        self._lasting: dict[str, Fault] = {}

    def add(self, endpoint: str, fault: Fault, times: int | None) -> None:
        """Have the next requests to an endpoint meet a fault.

        Args:
            endpoint: Such as `token`.
            fault: What they meet.
            times: How many; None for all until `clear`.
        """
        with self._lock:
            if times is None:
                self._lasting[endpoint] = fault
            else:
                self._waiting.setdefault(endpoint, deque()).extend([fault] * times)

    def clear(self) -> None:
        """Let everything work again."""
        with self._lock:
            self._waiting.clear()
            self._lasting.clear()

    def take(self, endpoint: str) -> Fault | None:
        """Return what this request meets, if anything."""
        with self._lock:
            waiting = self._waiting.get(endpoint)
            return waiting.popleft() if waiting else self._lasting.get(endpoint)
