"""An open agent host for most tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.support.agent_world import AgentWorld


@pytest.fixture
async def world(anyio_backend: str) -> AsyncIterator[AgentWorld]:
    async with AgentWorld().running() as world:
        yield world
