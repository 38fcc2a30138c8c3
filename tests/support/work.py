"""How much work something is, by what does not depend on the machine."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

__all__ = ["Instructions", "counted", "growth"]


class Instructions:
    """Instructions of Python's that were carried out, those of some files alone."""

    def __init__(self, *within: str) -> None:
        self._within = within
        self._thread = threading.get_ident()
        self.count = 0

    def _ours(self, code: CodeType) -> bool:
        return any(part in code.co_filename for part in self._within)

    def enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        """As `sys.settrace` calls it."""
        if not self._ours(frame.f_code):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, arg: Any) -> Any:
        self.count += event == "opcode"
        return self._step

    def carried_out(self, code: CodeType, offset: int) -> None:
        """As `sys.monitoring` calls it, from all threads."""
        self.count += threading.get_ident() == self._thread and self._ours(code)


@contextmanager
def counted(*within: str) -> Iterator[Instructions]:
    """Count what is done inside, in this thread, by code whose file's name has one of these parts."""
    counter = Instructions(*within)
    gc.disable()  # what others left behind is not finalised here
    try:
        with _monitored(counter) if sys.version_info >= (3, 12) else _traced(counter):
            yield counter
    finally:
        gc.enable()


@contextmanager
def _traced(counter: Instructions) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(counter.enter)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _monitored(counter: Instructions) -> Iterator[None]:
    # Tracing forgets instructions there, where it is switched on in the middle.
    monitoring: Any = vars(sys)["monitoring"]
    tool, instruction = 4, monitoring.events.INSTRUCTION
    monitoring.use_tool_id(tool, "spiffe-client tests")
    monitoring.register_callback(tool, instruction, counter.carried_out)
    monitoring.set_events(tool, instruction)
    try:
        yield
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)


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
