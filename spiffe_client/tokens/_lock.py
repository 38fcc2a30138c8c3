"""A lock that nobody who must not wait has to wait for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

__all__ = ["Lock"]


class Lock:
    """Held by one thread at a time, which also does what others leave for it.

    A signal handler runs in the middle of anything, also of what its own thread does while it holds
    this lock: to wait for it there would be for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: deque[Callable[[], object]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        self._catch_up()

    def soon(self, work: Callable[[], object]) -> None:
        """Have something done under the lock: at once, or by who holds it, when that lets go of it.

        Args:
            work: It does not raise.
        """
        self._left.append(work)
        self._catch_up()

    def _catch_up(self) -> None:
        # Looked at again after each release: what was left in between saw the lock held.
        while self._left and self._lock.acquire(blocking=False):
            try:
                while self._left:
                    self._left.popleft()()
            finally:
                self._lock.release()
