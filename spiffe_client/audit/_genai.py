"""The names that OpenTelemetry has for agents and their tools; the one place to change them.

From open-telemetry/semantic-conventions-genai, whose status is "development": they may change.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "AGENT_ID",
    "AGENT_NAME",
    "ERROR_TYPE",
    "EXECUTE_TOOL",
    "OPERATION_NAME",
    "TOOL_CALL_ID",
    "TOOL_DURATION",
    "TOOL_NAME",
    "TOOL_TYPE",
    "tool_span_name",
]

#: The attribute that says what kind of span it is, and its value for a tool's.
OPERATION_NAME: Final = "gen_ai.operation.name"
EXECUTE_TOOL: Final = "execute_tool"

TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
AGENT_ID: Final = "gen_ai.agent.id"
AGENT_NAME: Final = "gen_ai.agent.name"
ERROR_TYPE: Final = "error.type"

#: A histogram, in seconds.
TOOL_DURATION: Final = "gen_ai.execute_tool.duration"


def tool_span_name(tool: str) -> str:
    """Return the name of the span of a tool that runs."""
    return f"{EXECUTE_TOOL} {tool}"
