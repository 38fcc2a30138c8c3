"""Three agents, a token broker and a service for the attacks that need them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.support.agent_pair import Pair, pair_of_agents


@pytest.fixture
async def pair(anyio_backend: str) -> AsyncIterator[Pair]:
    async with pair_of_agents() as pair:
        yield pair
