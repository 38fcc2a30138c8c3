"""MCP clients on asyncio and trio; their servers run in a thread, as other processes would."""

from __future__ import annotations

import pytest
from tests.support.late_refresh import refresh_late

refresh_late()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param
