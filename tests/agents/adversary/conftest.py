"""Three agents, a token broker and a service for the attacks that need them; what the audit of each attack has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from tests.support.agent_pair import Pair, pair_of_agents
from tests.support.attacks_seen import compare, denials


@pytest.fixture
async def pair(anyio_backend: str) -> AsyncIterator[Pair]:
    async with pair_of_agents() as pair:
        yield pair


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """What `docs/attacks.md` says of a test is what its audit had."""
    with denials() as seen:
        yield
    compare(item, seen)
