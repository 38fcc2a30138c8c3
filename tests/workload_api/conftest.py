"""A Workload API to talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.scripted_workload_api import ScriptedWorkloadApi


@pytest.fixture
async def api() -> AsyncIterator[ScriptedWorkloadApi]:
    """A Workload API that answers what the test tells it to."""
    async with ScriptedWorkloadApi() as api:
        yield api
