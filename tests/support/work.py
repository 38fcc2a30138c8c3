"""How much work something is, by what does not depend on the machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Instructions", "counted", "growth"]


class Instructions:
    """Instructions of Python's that were carried out, those of some files alone."""

    def __init__(self, *within: str) -> None:
        self._within = within
        self.count = 0

    def enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not any(part in frame.f_code.co_filename for part in self._within):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, arg: Any) -> Any:
        self.count += event == "opcode"
        return self._step


@contextmanager
def counted(*within: str) -> Iterator[Instructions]:
    """Count what is done inside, in this thread, by code whose file's name has one of these parts."""
    counter, before = Instructions(*within), sys.gettrace()
    sys.settrace(counter.enter)
    try:
        yield counter
    finally:
        sys.settrace(before)


def growth(work: Callable[[int], object], size: int, times: int = 8) -> float:
    """How much longer it takes for so many times the size: as many times for what is linear, their square for worse."""

    def least(of: int) -> float:
        took = []
        for _ in range(5):
            began = time.process_time()
            work(of)
            took.append(time.process_time() - began)
        return max(min(took), 1e-4)

    return least(size * times) / least(size)
