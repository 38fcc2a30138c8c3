"""LangChain and LangGraph agents whose every tool call is decided, and has credentials of its own.

`TaskCredentials(gate)` is a middleware for `create_agent`; its two methods serve LangGraph's
`ToolNode`, too. `guarded_tool` makes a single tool that needs no middleware. Where a person must
approve, the graph pauses with a question, which `approve` and `refuse` answer.
"""

from __future__ import annotations

from spiffe_client_langchain._middleware import TaskCredentials
from spiffe_client_langchain._people import approve, refuse
from spiffe_client_langchain._tools import guarded_tool
from spiffe_client_langchain._used import UsedAnswers

__all__ = ["TaskCredentials", "UsedAnswers", "approve", "guarded_tool", "refuse"]
