"""What our middleware costs a tool call of LangChain's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median

from tests.bench._figure import Figure, at_most

__all__ = ["overhead"]

PYTHON = os.environ.get("BENCH_LANGCHAIN_PYTHON", sys.executable)


def overhead(runs: int = 400) -> list[Figure]:
    """A call through `TaskCredentials` in LangGraph's `ToolNode`, beyond one without; decided here, token cached."""
    command = [PYTHON, "-m", "tests.bench._langchain_calls", str(runs)]
    took = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    peer = "langgraph's ToolNode alone"
    detail = f"10 calls a message, fastest {min(took) * 1e6:.0f} µs, memory audit"
    return [at_most("langchain_overhead_us", median(took) * 1e6, 100, unit="µs", peer=peer, runs=runs, detail=detail)]
