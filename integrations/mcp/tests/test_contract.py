"""What every adapter holds, with the real client and the real server of MCP."""

from __future__ import annotations

import logging

import anyio
import pytest
from httpx2 import ASGITransport, AsyncClient
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError

from spiffe_client.testing import AdapterContract, Play
from spiffe_client_mcp import TaskTransport


def text_of(result) -> str:
    return "\n".join(getattr(block, "text", "") for block in result.content)


class TestContract(AdapterContract):
    """The tools run behind a server that is asked in the client's own task, so that they see its call."""

    ways = frozenset({"async", "async, blocking tools"})
    has_call_ids = False
    pauses = False

    @pytest.fixture(autouse=True, params=["auto", "legacy"])
    def mode(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        self._mode = request.param
        # It is in this process for once, and logs what its own tools raise.
        monkeypatch.setattr(logging.getLogger("mcp.server.mcpserver.server"), "disabled", True)

    async def run(self, play: Play) -> None:
        server = MCPServer("tools")
        for name, function in play.tools.items():
            server.add_tool(function, name=name)
        app = server.streamable_http_app(json_response=True)
        url = "http://127.0.0.1:1"
        if play.task is not None:
            (url,) = play.task.host.contract.actions["orders:read"].audience
        transport = TaskTransport(play.gate, ASGITransport(app))
        async with server.session_manager.run(), AsyncClient(transport=transport) as http:
            async with Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=self._mode) as client:
                play.see(await client.list_tools())
                for turn in play.turns:
                    await self._turn(play, client, turn)

    async def _turn(self, play: Play, client: Client, turn) -> None:
        async def one(call) -> None:
            try:
                result = await client.call_tool(call.name, dict(call.arguments))
            except MCPError as error:
                play.show(call.id, str(error))
                play.see(error, error.error)
            else:
                play.show(call.id, text_of(result))
                play.see(result)

        async with anyio.create_task_group() as group:
            for call in turn:
                group.start_soon(one, call)
