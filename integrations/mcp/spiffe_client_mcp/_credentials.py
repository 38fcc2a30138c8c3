"""What a server was sent, so that it is taken out of whatever it says later."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from spiffe_client.agents import Scrubber

__all__ = ["Credentials"]

_MOST: Final = 64


class Credentials:
    """The latest credentials of whom nobody can see from their looks what they are; others need no memory.

    One may come back in another answer than that of the request that it was sent with, or in a stream that was
    there before.
    """

    def __init__(self) -> None:
        self._plain = Scrubber()
        self._latest: deque[str] = deque()
        self._longest_first: list[str] = []

    def note(self, texts: Iterable[str]) -> None:
        """Remember what is sent."""
        for text in texts:
            if text and text not in self._latest and self._plain.text(text) == text:
                self._latest.append(text)
                while len(self._latest) > _MOST:
                    self._longest_first.remove(self._latest.popleft())
                self._longest_first.append(text)
                self._longest_first.sort(key=len, reverse=True)

    def scrubber(self) -> Scrubber:
        """Return what takes them out, also those that are sent later."""
        scrubber = Scrubber()
        scrubber._secrets = self._longest_first  # noqa: SLF001 - both are released together
        return scrubber
