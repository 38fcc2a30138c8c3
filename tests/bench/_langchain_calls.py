"""Prints the seconds of a tool call beyond the unwrapped framework's own; run where LangChain is installed."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from spiffe_client_langchain import TaskCredentials

from spiffe_client.agents import Requires, ToolGate
from spiffe_client.audit import MemorySink
from tests.bench._agents import _agent

__all__ = ["main"]

#: Calls of one message.
CALLS = 10
GATE = ToolGate({"read_order": Requires("orders:read", "tenants/{tenant}/orders/{order}")})


async def read_order(order: str) -> str:
    """Read an order."""
    return order


def graph(**around: Any) -> Any:
    node = StateGraph(MessagesState)
    node.add_node("tools", ToolNode([StructuredTool.from_function(coroutine=read_order)], **around))
    node.add_edge(START, "tools")
    node.add_edge("tools", END)
    return node.compile()


async def seconds(agent: Any, run: int) -> float:
    calls = [{"name": "read_order", "args": {"order": str(n)}, "id": f"{run}-{n}", "type": "tool_call"} for n in range(CALLS)]
    message = AIMessage("", tool_calls=calls)
    start = time.perf_counter()
    result = await agent.ainvoke({"messages": [message]})
    took = time.perf_counter() - start
    assert "success" == result["messages"][-1].status
    return took / CALLS


async def beyond(runs: int) -> list[float]:
    credentials = TaskCredentials(GATE)
    around = {"wrap_tool_call": credentials.wrap_tool_call, "awrap_tool_call": credentials.awrap_tool_call}
    wrapped, plain = graph(**around), graph()
    took = []
    async with _agent(MemorySink(1000)) as me, me.task("bench", ["orders:read"], tenant="acme"):
        for run in range(-20, runs):
            pair = {}
            for agent in (wrapped, plain) if run % 2 else (plain, wrapped):
                pair[agent is wrapped] = await seconds(agent, run)
            if run == 0:
                gc.collect()
                gc.freeze()
            if run >= 0:  # the first ones warm up
                took.append(pair[True] - pair[False])
    return took


def main() -> None:
    """Print them as JSON."""
    print(json.dumps(asyncio.run(beyond(int(sys.argv[1])))))


if __name__ == "__main__":
    main()
