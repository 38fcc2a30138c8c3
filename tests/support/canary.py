"""Looks for secrets where a crash reporter looks: in the locals of every frame of an error."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType

__all__ = ["assert_no_secret"]


def _errors(error: BaseException) -> Iterator[BaseException]:
    queue, seen = [error], set()
    while queue:
        current = queue.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        queue += [e for e in (current.__cause__, current.__context__) if e is not None]
        queue += getattr(current, "exceptions", ())


def _frames(error: BaseException) -> Iterator[FrameType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _holds(value: object, pieces: list[str | bytes]) -> bool:
    if isinstance(value, bytes | bytearray | memoryview):
        raw = bytes(value)
        return any(p in raw if isinstance(p, bytes) else p.encode() in raw for p in pieces)
    if isinstance(value, BaseException):
        return False  # walked on its own
    text = value if isinstance(value, str) else repr(value)
    return any((p if isinstance(p, str) else repr(p)[2:-1]) in text for p in pieces)


def assert_no_secret(error: BaseException, *secrets: str | bytes) -> None:
    """Fail if a local of a frame outside of the tests, or a message, shows a piece of a secret."""
    pieces = [secret[at : at + 24] for secret in secrets for at in range(0, len(secret) - 23, 8)][-200:]
    assert pieces
    for each in _errors(error):
        assert not _holds(str(each), pieces), f"the message of {type(each).__name__}"
        for frame in _frames(each):
            if "/tests/" in frame.f_code.co_filename:
                continue
            shown = [name for name, value in frame.f_locals.items() if _holds(value, pieces)]
            assert [] == shown, f"{frame.f_code.co_qualname} of {type(each).__name__}"
