"""Looks for secrets in texts, and in all that is logged meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["LeakHunt"]

#: A leak of so many characters in a row is one.
_PIECE: Final = 24


class _Kept(logging.Handler):
    def __init__(self, hunt: LeakHunt) -> None:
        super().__init__(logging.NOTSET)
        self._hunt = hunt

    def emit(self, record: logging.LogRecord) -> None:
        # As it is now: some loggers change what they have logged.
        self._hunt.look(f"the log of {record.name}", record.getMessage(), repr(record.__dict__))


class LeakHunt:
    """One search: mark secrets, show it texts, then ask what came to light.

    Attributes:
        looked: How many texts there were: a test can tell that it looked at all.
    """

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._texts: list[tuple[str, str]] = []

    @property
    def looked(self) -> int:
        """How many texts were looked at."""
        return len(self._texts)

    def mark(self, *secrets: str) -> None:
        """Mark texts that must not come to light, whole or in part; those too short to tell are passed over."""
        self._secrets.update(secret for secret in secrets if len(secret) >= _PIECE)

    def look(self, where: str, *texts: object) -> None:
        """Look at texts, and at other things as they print.

        Args:
            where: What this is, in words.
            texts: What there is.
        """
        self._texts += [(where, str(text)) for text in texts]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at all that is logged while the block runs, at every level."""
        handler = _Kept(self)
        loggers = [logging.getLogger(name) for name in ("", "spiffe_client", "httpx", "httpcore")]
        levels = [logger.level for logger in loggers]
        loggers[0].addHandler(handler)
        for logger in loggers:
            logger.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            loggers[0].removeHandler(handler)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

    def leaks(self) -> list[str]:
        """Return where something came to light."""
        pieces = {
            secret[at : at + _PIECE]
            for secret in self._secrets
            for at in range(0, len(secret) - _PIECE + 1, _PIECE // 3)
        }
        return sorted({where for where, text in self._texts if any(piece in text for piece in pieces)})
